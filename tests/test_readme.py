"""The README keeps its word: its programs run, and its commands exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
FENCE = re.compile(
    r"(?P<skip><!-- no-run -->\s*)?^```(?P<lang>\w*)[^\n]*\n(?P<body>.*?)^```", re.M | re.S
)

TEXT = README.read_text("utf-8") if README.exists() else ""
needs_readme = pytest.mark.skipif(not TEXT, reason="there is no README yet")


def _programs() -> list[object]:
    return [
        pytest.param(match["body"], id=f"line {TEXT.count(chr(10), 0, match.start('body')) + 1}")
        for match in FENCE.finditer(TEXT)
        if match["lang"] in {"python", "py"} and not match["skip"]
    ]


def _commands_in(text: str) -> str:
    """Return the parts of *text* that show code, where a command is meant as one."""
    spans = [match["body"] for match in FENCE.finditer(text)]
    return "\n".join(spans + re.findall(r"`([^`\n]+)`", FENCE.sub("", text)))


@needs_readme
@pytest.mark.parametrize("program", _programs())
def test_every_program_runs_as_printed(program, tmp_path, child_env):
    """A Python block runs in an empty folder, with nothing before it."""
    (tmp_path / "snippet.py").write_text(program, "utf-8")

    result = subprocess.run(
        [sys.executable, "snippet.py"],
        cwd=tmp_path,
        env=child_env,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )

    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr


def _cli_commands() -> set[str]:
    from tracing.cli.app import app

    return set(get_command(app).commands)  # type: ignore[attr-defined]


def _make_targets() -> set[str]:
    return set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text("utf-8"), re.M))


@needs_readme
def test_every_command_in_the_readme_exists():
    """A `pocketflow-async COMMAND` in the README is one that the program has."""
    named = re.findall(r"(?:pocketflow-async|-m tracing) +([a-z]+)\b", _commands_in(TEXT))

    assert set(named) <= _cli_commands()


@needs_readme
def test_every_command_is_in_the_readme():
    """What the program can do is in the README."""
    named = set(re.findall(r"pocketflow-async +([a-z]+)\b", _commands_in(TEXT)))

    assert _cli_commands() <= named


@needs_readme
def test_every_make_target_in_the_readme_exists():
    """A `make TARGET` in the README is one that the Makefile has."""
    named = re.findall(r"^\W*make +([a-z][\w-]*)", _commands_in(TEXT), re.M)

    assert set(named) <= _make_targets()


def test_blocks_are_found_and_can_be_skipped():
    """A block counts with its language, and a comment before it takes it out."""
    text = "a\n```python\nx = 1\n```\n<!-- no-run -->\n\n```python\nbad(\n```\n```bash\nls\n```\n"

    found = [(match["lang"], bool(match["skip"])) for match in FENCE.finditer(text)]

    assert found == [("python", False), ("python", True), ("bash", False)]
