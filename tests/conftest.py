"""Fixtures for all tests: a store of their own, and what to do when a service is absent."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from tests import service_kit

ROOT = Path(__file__).parents[1]

nats_url = service_kit.nats_url
mysql_url = service_kit.mysql_url
redis_url = service_kit.redis_url
own_redis = service_kit.own_redis
own_postgres = service_kit.own_postgres
postgres_url = service_kit.postgres_url
postgres_schema = service_kit.postgres_schema
rabbitmq_url = service_kit.rabbitmq_url
redis_prefix = service_kit.redis_prefix
unique = service_kit.unique
_numbers = itertools.count()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Under REQUIRE_SERVICES=1 a skip is a failure."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and _strict():
        report.outcome = "failed"
        report.longrepr = f"skipped, and REQUIRE_SERVICES is set: {report.longrepr}"
    return report


def _strict() -> bool:
    return os.environ.get("REQUIRE_SERVICES", "") not in ("", "0")


@pytest.fixture(scope="session")
def _stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stores")


@pytest.fixture(autouse=True)
def store_path(_stores: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Path, None, None]:
    """Point the trace store at a file that no other test uses; it does not exist yet.

    The stores that a test has opened are closed after it, so that none of its targets, which are
    gone by then, has a part in the next one.
    """
    for variable in list(os.environ):  # what the machine says about where traces go is not ours
        if variable.startswith(("OTEL_", "LANGFUSE_", "POCKETFLOW_")):
            monkeypatch.delenv(variable)
    path = _stores / f"{next(_numbers)}.db"
    monkeypatch.setenv("POCKETFLOW_TRACE_STORE", str(path))
    before = set(_open_stores())
    yield path
    for store in _open_stores():
        if store not in before:
            for courier in store.couriers:
                courier.stop(0.0)
            store.close(1.0)


def _open_stores() -> list[Any]:
    module = sys.modules.get("tracing.store.store")
    return module.open_stores() if module is not None else []


@pytest.fixture
def require() -> Callable[[object, str], None]:
    """Skip a test whose service is absent; under REQUIRE_SERVICES=1 that is a failure.

    Use it as `require(shutil.which("redis-server"), "redis-server is not installed")`.
    """

    def require(present: object, reason: str) -> None:
        if not present:
            pytest.skip(reason)

    return require


@pytest.fixture
def child_env(store_path: Path) -> dict[str, str]:
    """Return the environment for a subprocess that imports this tree from any folder."""
    env = dict(os.environ)
    inherited = env.get("PYTHONPATH")
    env["PYTHONPATH"] = os.pathsep.join([str(ROOT), *([inherited] if inherited else [])])
    env["POCKETFLOW_TRACE_STORE"] = str(store_path)
    env["PYTHONIOENCODING"] = "utf-8"
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "PYTHONWARNINGS"):
        env.pop(name, None)
    return env
