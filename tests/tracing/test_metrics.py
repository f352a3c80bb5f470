"""Metrics: what flows do, told to the MeterProvider that the program has set, if there is one."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry import metrics as api
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from pocketflow_async import AsyncBatchNode, AsyncFlow, AsyncNode
from tests.tracing import store_kit as kit
from tracing.metrics import BUCKETS, Metrics
from tracing.record import Record
from tracing.recorder import Recorder, watching


class World:
    """An OpenTelemetry whose provider can be set late, with the real SDK, and a clock by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.reader = InMemoryMetricReader()
        self.sdk = MeterProvider([self.reader])
        self.provider: Any = self.sdk
        self.asked = 0
        self.modules: dict[str, Any] = {"opentelemetry.metrics": self}
        self.metrics = Metrics(lambda: self.now, self.modules)

    Observation = api.Observation

    def get_meter_provider(self) -> Any:
        self.asked += 1
        return self.provider

    def points(self) -> dict[str, list[tuple[dict[str, Any], Any]]]:
        """Return attributes and value (of a histogram: the count) of each point, by name."""
        return {
            metric.name: [
                (dict(point.attributes), point.value if hasattr(point, "value") else point.count)
                for point in metric.data.data_points
            ]
            for metric in self.read()
        }

    def read(self) -> list[Any]:
        """Return the metrics that a reader gets now."""
        data: Any = self.reader.get_metrics_data()
        resources = data.resource_metrics if data else ()
        scopes = [scope for found in resources for scope in found.scope_metrics]
        assert {scope.scope.name for scope in scopes} <= {"pocketflow_async"}
        return [metric for scope in scopes for metric in scope.metrics]


@pytest.fixture
def world() -> Any:
    world = World()
    yield world
    world.sdk.shutdown()


class Sink:
    """Keeps the finished records, as a store's thread would get them."""

    is_closed = False

    def __init__(self) -> None:
        self.records: list[Record] = []

    def opened(self, record: Record) -> None:
        pass

    def closed(self, record: Record) -> None:
        self.records.append(record)


class Shaky(AsyncNode):
    async def exec_async(self, prep_res: Any) -> Any:
        self.calls = getattr(self, "calls", 0) + 1
        if self.cur_retry < 2:
            raise ValueError("not yet")


class Doomed(AsyncNode):
    async def exec_async(self, prep_res: Any) -> Any:
        raise ValueError("never")


class Rows(AsyncBatchNode):
    async def prep_async(self, shared: Any) -> Any:
        return [1, 2, 3]

    async def exec_async(self, item: Any) -> Any:
        return item


class Shop(AsyncFlow):
    pass


class Inner(AsyncFlow):
    pass


async def run(*flows: AsyncFlow) -> list[Record]:
    sink = Sink()
    for flow in flows:
        with watching(Recorder(sink)):
            await asyncio.gather(flow.run_async({}), return_exceptions=True)
    return sink.records


async def test_runs_nodes_and_attempts(world):
    """What real flows did is counted by name and outcome, nested flows and retries included."""
    shaky = Shaky(max_retries=3)
    inner = Inner(start=Rows())
    _ = shaky >> inner
    world.metrics.observe(await run(Shop(start=shaky), Shop(start=Doomed(max_retries=2))))

    points = {name: sorted(found, key=str) for name, found in world.points().items()}
    done, failed = {"flow.outcome": "completed"}, {"flow.outcome": "failed"}
    assert points["flow.runs.finished"] == [
        ({"flow.name": "Inner", **done}, 1),
        ({"flow.name": "Shop", **done}, 1),
        ({"flow.name": "Shop", **failed}, 1),
    ]
    assert points["flow.run.duration"] == points["flow.runs.finished"]
    assert points["flow.node.duration"] == [
        ({"flow.node.name": "Doomed", **failed}, 1),
        ({"flow.node.name": "Rows", **done}, 1),
        ({"flow.node.name": "Shaky", **done}, 1),
    ]
    assert points["flow.node.retries"] == [
        ({"flow.node.name": "Doomed"}, 1),
        ({"flow.node.name": "Shaky"}, 2),
    ]
    attempts = {tuple(key.values()): count for key, count in points["flow.node.attempts"]}
    assert attempts[("Doomed", "failed")] == 2
    assert attempts[("Shaky", "failed")] == 2
    assert attempts[("Shaky", "completed")] == 1
    assert attempts[("Rows", "completed")] == 3


def test_durations_are_seconds_in_buckets_for_seconds(world):
    """A run of 1.5 s is 1.5 in a histogram whose bounds suit flows."""
    record = kit.finish(kit.start(kit.new_trace()))
    record.end = record.start + 1_500_000_000
    world.metrics.observe([record])

    (found,) = (metric for metric in world.read() if metric.name == "flow.run.duration")
    (point,) = found.data.data_points
    assert point.sum == 1.5
    assert tuple(point.explicit_bounds) == BUCKETS


class Store:
    """A source whose numbers a test sets."""

    def __init__(self, **numbers: Any) -> None:
        self.numbers = numbers

    def in_flight(self) -> int:
        return int(self.numbers["in_flight"])

    def queued(self) -> int:
        return 5

    def dropped(self) -> int:
        return 2

    def waiting(self) -> Mapping[str, int]:
        return {"langfuse": 7, "otlp": 0}

    def sent(self) -> Mapping[str, int]:
        return {"otlp": 11}


def test_sources_are_asked_when_a_reader_collects(world):
    """The sums of all sources, at that moment; one that fails hides no other."""
    first, second, broken = Store(in_flight=1), Store(in_flight=3), Store()
    for source in (first, second, broken):
        world.metrics.watch(source)
    world.metrics.watch(first)
    world.metrics.observe([])

    assert world.points()["flow.runs.active"] == [({}, 4)]
    first.numbers["in_flight"] = 0
    points = world.points()

    assert points["flow.runs.active"] == [({}, 3)]
    assert points["flow.spans.queued"] == [({}, 15)]
    assert points["flow.spans.dropped"] == [({}, 6)]
    assert points["flow.spans.waiting"] == [
        ({"flow.target": "langfuse"}, 21),
        ({"flow.target": "otlp"}, 0),
    ]
    assert points["flow.spans.sent"] == [({"flow.target": "otlp"}, 33)]


def test_sources_are_held_weakly(world):
    """A store that is gone is asked no more, and nothing of it is kept."""
    source = Store(in_flight=1)
    world.metrics.watch(source)
    world.metrics.observe([])
    assert world.points()["flow.runs.active"] == [({}, 1)]

    del source

    assert "flow.runs.active" not in world.points()
    world.metrics.watch(Store(in_flight=2))
    assert world.metrics.sources() == []


def test_names_and_units(world):
    """The table in the module's text is what a back end gets."""
    source = Store(in_flight=1)
    world.metrics.watch(source)
    shaky = kit.finish(kit.start(kit.new_trace(), 1, "Shaky"))
    kit.phase(shaky, "exec", attempt=1)
    world.metrics.observe([shaky, *kit.flow(1)])
    table = {
        words[0]: words[2]
        for words in map(str.split, (sys.modules["tracing.metrics"].__doc__ or "").splitlines())
        if words and words[0].startswith("flow.")
    }

    assert {metric.name: metric.unit for metric in world.read()} == table


def test_a_provider_that_comes_late(world):
    """Nothing is counted before it is there, all from then on; it is looked for once a second."""
    world.provider = api.NoOpMeterProvider()
    for _ in range(100):
        world.metrics.observe(kit.flow(1))
    assert world.asked == 1

    world.provider = world.sdk
    world.now = 0.9
    world.metrics.observe(kit.flow(1))
    assert world.points() == {}

    world.now = 1.0
    world.metrics.observe(kit.flow(1))
    world.metrics.observe(kit.flow(1))
    ((_, count),) = world.points()["flow.runs.finished"]
    assert count == 2


def test_no_opentelemetry_costs_a_look():
    """A program without it, or one that imports it at this moment, is left alone."""
    for modules in ({}, {"opentelemetry.metrics": None}, {"opentelemetry.metrics": object()}):
        known = dict(modules)
        Metrics(modules=modules).observe(kit.flow(1))
        assert modules == known


def test_another_provider_takes_over(world):
    """The one that is set now gets the counts."""
    world.metrics.observe(kit.flow(1))
    reader = InMemoryMetricReader()
    world.provider = MeterProvider([reader])
    world.now = 2.0
    world.metrics.observe(kit.flow(1))

    assert reader.get_metrics_data() is not None
    ((_, count),) = world.points()["flow.runs.finished"]
    assert count == 1
    world.provider.shutdown()


@pytest.mark.parametrize("broken", ["get_meter", "create_counter", "add"])
def test_a_provider_that_fails_is_told_once(world, broken, caplog):
    """Storing goes on; one warning says that numbers are missing."""

    def fails(*args: object, **kwargs: object) -> None:
        raise RuntimeError("broken")

    counter = SimpleNamespace(add=fails)
    meter = SimpleNamespace(
        create_counter=fails if broken == "create_counter" else lambda *args: counter,
        create_histogram=lambda *args, **kwargs: SimpleNamespace(record=lambda *args: None),
        create_observable_up_down_counter=lambda *args: None,
        create_observable_counter=lambda *args: None,
    )
    world.provider = SimpleNamespace(
        get_meter=fails if broken == "get_meter" else lambda name: meter
    )
    with caplog.at_level(logging.WARNING, "tracing.metrics"):
        for now in range(3):
            world.now = float(now)
            world.metrics.observe(kit.flow(1))

    assert len(caplog.records) == 1


def test_an_api_that_takes_no_advice(world):
    """Where bounds cannot be given, the histogram has those of the provider."""
    made: list[tuple[object, ...]] = []

    class Old:
        def create_histogram(self, *args: object) -> None:
            made.append(args)

        def __getattr__(self, name: str) -> Any:
            return lambda *args: None

    world.provider = SimpleNamespace(get_meter=lambda name: Old())
    world.metrics.observe([])

    assert [(name, unit) for name, unit, _ in made] == [
        ("flow.run.duration", "s"),
        ("flow.node.duration", "s"),
    ]


def _child(code: str, env: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=env | {"OTEL_SDK_DISABLED": os.environ.get("OTEL_SDK_DISABLED", "")},
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    return done.stdout


def test_opentelemetry_is_not_imported(child_env):
    """Without a provider of the program's own, none of it is loaded."""
    code = """
        import sys
        from tests.tracing import store_kit as kit
        from tracing import metrics
        metrics.observe(kit.flow(3))
        print([name for name in sys.modules if name.startswith("opentelemetry")])
    """

    assert _child(code, child_env).strip() == "[]"


def test_the_programs_own_provider(child_env):
    """The global one is used, from the moment it is set, and is not replaced by us."""
    code = """
        import time
        from opentelemetry import metrics as api
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        from tests.tracing import store_kit as kit
        from tracing import metrics
        metrics.observe(kit.flow(3))
        assert "Proxy" in type(api.get_meter_provider()).__name__
        reader = InMemoryMetricReader()
        api.set_meter_provider(MeterProvider([reader]))
        deadline = time.monotonic() + 10
        while not (data := reader.get_metrics_data()) and time.monotonic() < deadline:
            metrics.observe(kit.flow(3))
            time.sleep(0.05)
        names = {m.name for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics}
        print(sorted(names))
    """

    assert "flow.runs.finished" in _child(code, child_env)
