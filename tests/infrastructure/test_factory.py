"""The infrastructure as a whole: made, asked how it is, shared, and closed."""

from __future__ import annotations

import asyncio
import inspect
import logging
import sqlite3
from pathlib import Path
from typing import Any

import pytest

import pocketflow_async.infrastructure as package
from pocketflow_async.infrastructure import (
    Config,
    ConfigError,
    EmergencyHalted,
    EmergencyState,
    Infrastructure,
    InfrastructureConfig,
    create_infrastructure,
    factory,
)
from pocketflow_async.infrastructure.events import MemoryBus
from pocketflow_async.infrastructure.resilience import CircuitBreakerOpen, with_timeout
from pocketflow_async.infrastructure.store.errors import StoreError, StoreUnavailable
from pocketflow_async.infrastructure.store.memory import MemoryStore
from tests.engine.engine_kit import FakeClock
from tests.infrastructure import config_kit
from tests.infrastructure.logging_kit import bare_root

silent = config_kit.silent
pytestmark = pytest.mark.usefixtures("silent")


def test_names_of_the_package_are_there():
    """`__all__` is sorted, and each name of it exists."""
    assert package.__all__ == sorted(package.__all__)
    assert all(getattr(package, name) is not None for name in package.__all__)
    assert set(package.__all__) <= set(dir(package))
    with pytest.raises(AttributeError, match="nothing"):
        package.nothing


@pytest.mark.parametrize("env", ["development", "dev", "test", "memory", "DEVELOPMENT"])
async def test_development_needs_nothing(env, tmp_path):
    """All of it is in memory, and no file is made."""
    async with await Infrastructure.create(env) as infra:
        await infra.state.set("a", 1)
        assert await infra.state.get("a") == 1
        assert infra.config.env == "development"
        assert type(infra.store).__name__ == "MemoryStore"

    assert not list(tmp_path.rglob("*.db"))


async def test_production_needs_nothing_but_a_disk(tmp_path):
    """No server: state and halts are in a file among the user's data, and survive."""
    async with await Infrastructure.create("production") as infra:
        await infra.state.set("a", {"b": [1, None]})
        await infra.emergency.halt("enough")
        assert infra.store.durable

    async with await Infrastructure.create("prod") as infra:
        assert await infra.state.get("a") == {"b": [1, None]}
        assert infra.emergency.is_halted
        with pytest.raises(EmergencyHalted, match="enough"):
            await infra.emergency.assert_can_trade()
    [file] = (tmp_path / "data").rglob("*.db")
    with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    db.close()


async def test_halt_is_seen_by_another_infrastructure_at_once():
    """Two on one store obey one another's halt, without waiting for anything."""
    config = Config(env="production", state_url="sqlite:///shared.db")
    async with await Infrastructure.create(config=config) as one:
        async with await Infrastructure.create(config=config) as two:
            await one.emergency.halt("enough")
            with pytest.raises(EmergencyHalted):
                await two.emergency.admit("increase")
        async with await Infrastructure.create(config=config, controller_id="other") as three:
            await three.emergency.admit("increase")


async def test_config_counts_before_env():
    """Who gives a config has said all."""
    config = InfrastructureConfig(env="staging", state_backend="memory")
    async with await create_infrastructure("production", config) as infra:
        assert infra.config is config
        assert infra.config.env == "staging"


async def test_environment_makes_an_infrastructure(monkeypatch):
    """`create()` with ENV=production and STATE_BACKEND=memory is just that."""
    monkeypatch.setenv("ENV", "production")
    monkeypatch.setenv("STATE_BACKEND", "memory")
    monkeypatch.setenv("DAILY_LOSS_LIMIT", "-50")
    async with await Infrastructure.create() as infra:
        assert (infra.config.env, infra.config.state.backend) == ("production", "memory")
        assert infra.emergency.get_status()["risk_limits"]["daily_loss"]["limit"] == -50


@pytest.mark.parametrize("env", ["moon", "", "producton"])
async def test_unknown_environment_is_a_value_error(env):
    """No infrastructure is made up for it."""
    with pytest.raises(ValueError, match="is no environment"):
        await Infrastructure.create(env)
    with pytest.raises(TypeError, match="must be a Config"):
        await Infrastructure.create(config={"env": "production"})


def test_create_has_the_contracts_arguments():
    """In its order."""
    names = list(inspect.signature(Infrastructure.create).parameters)

    assert names[:3] == ["env", "config", "controller_id"]
    assert inspect.iscoroutinefunction(Infrastructure.create)


# --- limits ---------------------------------------------------------------------------------------


async def test_limits_of_the_settings_are_in_force():
    """They are known by name, and a breach halts in production."""
    config = Config(env="production", state_backend="memory")
    async with await Infrastructure.create(config=config) as infra:
        await infra.emergency.check_risk_limit("daily_loss", -400)
        assert infra.emergency.is_alert
        for name in ("max_position_size", "drawdown_percent"):
            assert infra.emergency.limits[name].value
        with pytest.raises(package.RiskLimitExceeded):
            await infra.emergency.check_risk_limit("daily_loss", -501)
        assert infra.emergency.is_halted


async def test_breach_does_not_halt_in_development():
    """It raises, and trading goes on."""
    async with await Infrastructure.create("development") as infra:
        with pytest.raises(package.RiskLimitExceeded):
            await infra.emergency.check_risk_limit("daily_loss", -101)
        assert not infra.emergency.is_halted


async def test_limits_can_be_left_out_and_reduce():
    """None is no limit; `on_breach` lets exits go on."""
    config = Config(
        emergency={"daily_loss_limit": None, "on_breach": "reduce", "auto_halt_on_limit": True}
    )
    async with await Infrastructure.create(config=config) as infra:
        assert "daily_loss" not in infra.emergency.limits
        with pytest.raises(package.RiskLimitExceeded):
            await infra.emergency.check_risk_limit("position_size", -5_000)
        assert infra.emergency.state is EmergencyState.REDUCING


# --- breakers -------------------------------------------------------------------------------------


async def test_breakers_are_as_configured():
    """Threshold, time and window come from the settings, and so do the retries."""
    config = Config(
        circuit_failure_threshold=3, circuit_timeout=7, circuit_window=9, retry_max_wait=4,
        retry_multiplier=3,
    )  # fmt: skip
    async with await Infrastructure.create(config=config) as infra:
        settings = infra.breaker("venue").get_stats()["config"]
        assert (settings["failure_threshold"], settings["timeout_seconds"]) == (3, 7)
        assert (settings["window_seconds"], settings["success_threshold"]) == (9, 2)
        own = infra.create_circuit_breaker("slow", failure_threshold=1, timeout_seconds=1)
        assert own.get_stats()["config"]["timeout_seconds"] == 1
        assert set(infra.circuit_breakers) == {"state", "events", "venue", "slow"}
        assert (infra.retry.max_wait, infra.retry.multiplier) == (4, 3)
        assert infra.retry.max_attempts == 2


async def test_breaker_of_a_dependency_is_one_for_all():
    """Twenty runs that each ask for it stop calling a dead venue; another venue is not blocked."""
    calls = 0

    async def dead() -> None:
        nonlocal calls
        calls += 1
        raise ConnectionError("nobody there")

    async with await Infrastructure.create(config=Config(circuit_failure_threshold=5)) as infra:
        refused = 0
        for _ in range(20):
            try:
                await infra.breaker("kraken").call(dead)
            except CircuitBreakerOpen:
                refused += 1
            except ConnectionError:
                pass

        assert (calls, refused) == (5, 15)
        assert infra.breaker("kraken") is infra.circuit_breakers["kraken"]
        assert await infra.breaker("binance").call(len, []) == 0
        with pytest.raises(ValueError, match="'kraken' is there already"):
            infra.create_circuit_breaker("kraken", failure_threshold=99)


async def test_hanging_venue_opens_its_breaker():
    """Timeouts count where they are put inside the breaker."""
    async with await Infrastructure.create("dev", clock=FakeClock()) as infra:
        breaker = infra.create_circuit_breaker("venue", failure_threshold=2)
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await breaker.call(with_timeout(0.01)(asyncio.Event().wait))

        assert breaker.is_open


# --- health ---------------------------------------------------------------------------------------


async def test_health_tells_of_each_part():
    """All is well, and it says what there is."""
    async with await Infrastructure.create("production") as infra:
        infra.breaker("venue")
        found = await infra.health_check()

    assert (found["status"], found["healthy"], found["env"]) == ("healthy", True, "production")
    assert found["state"]["backend"] == "sqlite"
    assert found["events"] == {"status": "healthy", "backend": "MemoryBus"}
    assert found["emergency"]["state"] == "normal"
    assert found["circuit_breakers"] == {"state": "closed", "events": "closed", "venue": "closed"}
    assert found["checked_at"].endswith("Z")


async def test_halt_and_open_breaker_are_degraded():
    """The parts work, and not everything is let through."""
    async with await Infrastructure.create("dev") as infra:
        await infra.breaker("venue").force_open()
        assert (await infra.health_check())["status"] == "degraded"
        await infra.breaker("venue").reset()
        await infra.emergency.halt("enough")
        found = await infra.health_check()

    assert found["status"] == "degraded"
    assert (found["emergency"]["state"], found["emergency"]["reason"]) == ("halt", "enough")


class Broken(MemoryStore):
    """Is as unwell as it is told to be."""

    trouble: Any = None

    async def health(self) -> Any:
        if self.trouble == "hangs":
            await asyncio.Event().wait()
        if self.trouble is not None:
            raise self.trouble
        return await super().health()


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        ("hangs", "no answer within 0.02 s"),
        (OSError("disk redis://:hunter2@h"), "OSError: disk redis://:[redacted]@h"),
        (StoreUnavailable("x", "is locked"), "StoreUnavailable: the store x is locked"),
    ],
)
async def test_part_that_is_unwell_is_told_of_in_time(trouble, said):
    """A health check neither raises, nor hangs, nor tells secrets; later ones do not even ask."""
    store = Broken()
    config = Config(resilience={"db_timeout": 0.02}, circuit_failure_threshold=2)
    async with await Infrastructure.create(config=config, store=store) as infra:
        store.trouble = trouble
        found = await infra.health_check()
        assert (found["status"], found["healthy"]) == ("unhealthy", False)
        assert found["state"] == {"status": "unhealthy", "error": said}
        await infra.health_check()
        assert "circuit breaker 'state' is open" in (await infra.health_check())["state"]["error"]


async def test_closed_store_is_unwell():
    """What a store says of itself counts too."""
    store = MemoryStore()
    async with await Infrastructure.create("dev", store=store) as infra:
        await store.close()
        found = await infra.health_check()

    assert found["state"]["status"] == found["emergency"]["status"] == "unhealthy"
    assert found["state"]["backend"] == "memory"


# --- closing --------------------------------------------------------------------------------------


async def test_closing_is_idempotent_by_both_names():
    """Again, at the same time, and by `cleanup`; nothing can be kept afterwards."""
    infra = await Infrastructure.create("production")

    await asyncio.gather(infra.close(), infra.cleanup(), infra.close())
    await infra.close()

    with pytest.raises(StoreUnavailable):
        await infra.state.get("a")


async def test_closing_lets_handlers_finish_and_then_the_state_is_kept():
    """Events that were published are handled, and handlers can still use the store."""
    heard = []
    infra = await Infrastructure.create("production")

    async def hear(event: dict[str, Any]) -> None:
        await infra.state.set(event["type"], True)
        heard.append(event["type"])

    await infra.events.subscribe("workflow_events", hear)
    for number in range(5):
        await infra.events.publish("workflow_events", {"type": f"e{number}"})
    await infra.close()

    assert heard == ["e0", "e1", "e2", "e3", "e4"]
    async with await Infrastructure.create("production") as again:
        assert await again.state.get("e4") is True
        assert (await again.state.get("emergency_controller:default"))["state"] == "normal"


async def test_what_was_given_is_not_closed():
    """A store or bus of the caller is closed by the caller."""
    store, bus = MemoryStore(), MemoryBus()
    async with await Infrastructure.create("dev", store=store, events=bus) as infra:
        assert (infra.store, infra.events) == (store, bus)

    assert (await store.health())["status"] == "healthy"
    assert await bus.ping()
    await bus.close()


async def test_everything_is_closed_even_if_something_fails():
    """A callback that raises keeps no file open; its error is told at the end."""
    infra = await Infrastructure.create("production")
    order = []

    async def first() -> None:
        order.append("first")

    async def fail() -> None:
        order.append("fail")
        raise RuntimeError("no")

    infra.on_close(first)
    infra.on_close(fail)
    with pytest.raises(RuntimeError, match="no"):
        await infra.close()

    assert order == ["fail", "first"]
    with pytest.raises(StoreUnavailable):
        await infra.state.get("a")
    await infra.close()


@pytest.mark.parametrize("trouble", ["closed", "hangs"])
async def test_dead_store_does_not_hold_up_the_end(trouble, caplog):
    """Closing ends in bounded time, and says what is not stored."""
    store = Broken()
    config = Config(resilience={"db_timeout": 0.02})
    infra = await Infrastructure.create(config=config, store=store)
    if trouble == "closed":
        await store.close()
    else:
        store.put = lambda *_: asyncio.Event().wait()
    await infra.close()

    assert "the readings of the risk limits are not stored" in caplog.text


async def test_cancelled_close_closes_what_is_left():
    """Who cancels it leaves no file open and no task behind."""
    infra = await Infrastructure.create("production")
    started = asyncio.Event()

    async def hang() -> None:
        started.set()
        await asyncio.Event().wait()

    infra.on_close(hang)
    task = asyncio.create_task(infra.close())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    with pytest.raises(StoreUnavailable):
        await infra.state.get("a")
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_nothing_is_left_open_when_it_cannot_be_made(monkeypatch):
    """A bus that cannot be made closes the store that was opened before it."""
    opened: list[Any] = []
    real = factory.open_store

    def remembering(url: str) -> Any:
        opened.append(real(url))
        return opened[-1]

    def fail(config: Config) -> Any:
        raise ImportError("redis is not installed")

    monkeypatch.setattr(factory, "open_store", remembering)
    monkeypatch.setattr(factory, "_bus", fail)
    with pytest.raises(ImportError, match="redis"):
        await Infrastructure.create("production")

    with pytest.raises(StoreUnavailable):
        await opened[0].get("a")


async def test_store_that_cannot_be_opened_is_named(silent: Path):
    """A damaged file is an error that names it, and nothing is made in its place."""
    (silent / "bad.db").write_bytes(b"no database" * 1000)

    with pytest.raises(StoreError, match=r"bad\.db"):
        await Infrastructure.create(config=Config(state_url="sqlite:///bad.db"))


def test_nothing_shows_its_secrets(tmp_path):
    """The repr of an infrastructure has no address in it."""

    async def shown() -> str:
        config = Config(env="prod", redis_url="redis://:hunter2@127.0.0.1:1")
        config = config.model_copy(update={"state": Config(state_backend="memory").state})
        async with await Infrastructure.create(config=config) as infra:
            return f"{infra!r} {infra.config!r} {infra.events!r}"

    assert "hunter2" not in asyncio.run(shown())


# --- servers --------------------------------------------------------------------------------------


async def test_state_may_be_in_postgresql(postgres_url, postgres_schema):
    """By URL alone, for hosts that share it."""
    config = Config(env="production", state_url=f"{postgres_url}?schema={postgres_schema}")
    async with await Infrastructure.create(config=config) as one:
        await one.state.set("a", [1])
        await one.emergency.halt("enough")
        assert (await one.health_check())["state"]["backend"].startswith("postgres")
    async with await Infrastructure.create(config=config) as two:
        assert await two.state.get("a") == [1]
        assert two.emergency.is_halted


async def test_events_may_be_in_redis(redis_url, redis_prefix, monkeypatch):
    """REDIS_URL alone makes events reach another infrastructure."""
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("EVENTS__PREFIX", redis_prefix)
    config = Config(env="production", state_backend="memory")
    heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    async with (
        await Infrastructure.create(config=config) as one,
        await Infrastructure.create(config=config) as two,
    ):
        await two.events.subscribe("workflow_events", heard.put)
        await one.events.publish("workflow_events", {"type": "node_started"})
        assert (await asyncio.wait_for(heard.get(), 10))["type"] == "node_started"
        assert (await one.health_check())["events"]["status"] == "healthy"


# --- logs -----------------------------------------------------------------------------------------


async def test_logs_are_configured_where_nobody_has():
    """JSON at INFO in production, a console at DEBUG in development; not if it is switched off."""
    found = {}
    for env in ("production", "development"):
        with bare_root() as root:
            async with await Infrastructure.create(config=Config(env=env, state_backend="memory")):
                [handler] = root.handlers
                found[env] = (root.level, handler.format(_record()).startswith("{"))
    with bare_root() as root:
        config = Config(logging={"configure": False})
        async with await Infrastructure.create(config=config):
            assert root.handlers == []

    assert found == {"production": (logging.INFO, True), "development": (logging.DEBUG, False)}


async def test_logs_of_a_host_stay():
    """A program with handlers of its own keeps them, its level and its format."""
    with bare_root() as root:
        handler = logging.StreamHandler()
        root.addHandler(handler)
        root.setLevel("ERROR")
        async with await Infrastructure.create("production"):
            assert (root.handlers, root.level) == ([handler], logging.ERROR)


async def test_without_structlog_it_works_all_the_same(monkeypatch, caplog):
    """Logs are left as they are, which is said once."""

    def absent(*_: object) -> bool:
        raise ImportError("structlog is not installed")

    monkeypatch.setattr(factory, "configure_logging", absent)
    async with await Infrastructure.create("dev"):
        pass

    assert "logs are left as they are" in caplog.text


def test_errors_of_settings_are_told_by_create(monkeypatch):
    """A limit that cannot be is no infrastructure without limits."""
    monkeypatch.setenv("DAILY_LOSS_LIMIT", "500")

    with pytest.raises(ConfigError, match="write -500"):
        asyncio.run(Infrastructure.create("production"))


def _record() -> logging.LogRecord:
    return logging.makeLogRecord({"msg": "x", "levelname": "INFO", "name": "n"})
