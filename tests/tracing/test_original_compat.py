"""The compatibility suite on the original `pocketflow`, with every test inside a traced run."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SUITE = [
    "flows",
    "batch_flows",
    "async_flows",
    "retry",
    "overrides",
    "warnings",
    "no_yield",
    "depth",
]
SUITE += ["parallel", "concurrency", "pickle_copy"]


@pytest.mark.timeout(120)
def test_the_compatibility_suite_passes_traced(child_env, tmp_path):
    """What it says about the original holds for watched flows as well, line by line."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--tb=native", "-rN", "-p", "no:cacheprovider"]
        + ["-p", "tests.tracing.original_plugin", "-p", "no:randomly"]
        + [f"tests/compat/test_{name}.py" for name in SUITE],
        env={**child_env, "ENGINE_UNDER_TEST": "pocketflow", "REQUIRE_SERVICES": ""},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout[-3_000:]
    assert " passed" in done.stdout.splitlines()[-1]
