"""Metrics of flows, through whatever MeterProvider of OpenTelemetry the program has set.

Off unless there is one: nothing of OpenTelemetry is imported here, and the provider may come later.
The store's threads call `observe` with the records they have stored, so the event loop has no part
in it; the rest is asked from a `Source` when a reader collects.

    flow.runs.finished   counter    {run}      flow.name, flow.outcome
    flow.run.duration    histogram  s          flow.name, flow.outcome
    flow.node.duration   histogram  s          flow.node.name, flow.outcome
    flow.node.attempts   counter    {attempt}  flow.node.name, flow.outcome
    flow.node.retries    counter    {retry}    flow.node.name
    flow.runs.active     up-down    {run}
    flow.spans.queued    up-down    {span}     finished, and not yet in the store
    flow.spans.dropped   counter    {span}     lost for good
    flow.spans.waiting   up-down    {span}     flow.target: stored, and not yet sent there
    flow.spans.sent      counter    {span}     flow.target

A run is a visit of a flow, so a nested flow counts under its own name too. An attempt is one call
of exec, of a node or of an item of a batch; a retry is one after the first.
"""

from __future__ import annotations

import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol
from weakref import ref

from tracing.record import COMPLETED, Record

logger = logging.getLogger(__name__)

SCOPE: Final = "pocketflow_async"
"""Name of our meter, for views that choose by it."""
BUCKETS: Final = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
    *(30.0, 60.0, 120.0, 300.0, 600.0, 1800.0),
)
"""Bounds of the histograms in seconds, unless a view says otherwise: OpenTelemetry's are for ms."""

_EVERY: Final = 1.0  # seconds between looks for a provider
_NONE_SET: Final = frozenset({"_ProxyMeterProvider", "ProxyMeterProvider", "NoOpMeterProvider"})
_RUNS: Final = frozenset({"flow", "workflow"})
_STEPS: Final = frozenset({"node", "item"})

_Key = tuple[str, ...]


class Source(Protocol):
    """What can be asked at any moment, from any thread, without waiting."""

    def in_flight(self) -> int:
        """Return the number of runs that go on now."""

    def queued(self) -> int:
        """Return the number of finished spans that are not in the store yet."""

    def dropped(self) -> int:
        """Return the number of spans that were lost, since the program began."""

    def waiting(self) -> Mapping[str, int]:
        """Return the number of stored spans that are still to be sent, by target."""

    def sent(self) -> Mapping[str, int]:
        """Return the number of spans that were sent since the program began, by target."""


class Metrics:
    """Tells a provider what the flows do, once there is one.

    Args:
        clock: Seconds, for the pauses between looks.
        modules: Where OpenTelemetry is, if the program uses it.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        modules: Mapping[str, Any] = sys.modules,
    ) -> None:
        self._clock = clock
        self._modules = modules
        self._look_at = float("-inf")
        self._claims: dict[int, tuple[object, object]] = {}
        self._provider: object = None
        self._instruments: _Instruments | None = None
        self._sources: dict[int, ref[Source]] = {}
        self._troubled = False

    def observe(self, records: Sequence[Record]) -> None:
        """Count *records*, which are finished; with none, only look for a provider. Never raises.

        For any thread but that of an event loop.
        """
        try:
            self._look()
            if self._instruments is not None and records:
                self._instruments.count(records)
        except Exception:  # noqa: BLE001 - the user's provider; storing goes on without it
            self._complain()

    def watch(self, source: Source) -> None:
        """Ask *source* from now on whenever a reader collects. It is held weakly."""
        gone = [number for number, held in list(self._sources.items()) if held() is None]
        for number in gone:
            self._sources.pop(number, None)
        self._sources[id(source)] = ref(source)

    def sources(self) -> list[Source]:
        """Return those that are watched and still alive."""
        found = (held() for held in list(self._sources.values()))
        return [source for source in found if source is not None]

    def _look(self) -> None:
        now = self._clock()
        if now < self._look_at:
            return
        self._look_at = now + _EVERY
        api = self._modules.get("opentelemetry.metrics")
        get = getattr(api, "get_meter_provider", None)  # None too while it is being imported
        provider = None if get is None else get()
        if provider is self._provider or provider is None:
            return
        if type(provider).__name__ in _NONE_SET:
            return
        # Who claims it first makes the instruments, without a lock that a fork could leave held.
        mine = object()
        if self._claims.setdefault(id(provider), (mine, provider))[0] is mine:
            self._instruments = _Instruments(provider, api, self)
            self._provider = provider

    def _complain(self) -> None:
        if not self._troubled:
            self._troubled = True
            logger.warning("metrics of flows are incomplete: the provider failed", exc_info=True)


class _Instruments:
    """Our instruments of one provider."""

    def __init__(self, provider: Any, api: Any, metrics: Metrics) -> None:
        self._observation = api.Observation
        self._metrics = metrics
        meter = provider.get_meter(SCOPE)
        self._runs = meter.create_counter("flow.runs.finished", "{run}", "Runs of flows that ended")
        self._attempts = meter.create_counter(
            "flow.node.attempts", "{attempt}", "Calls of exec that ended"
        )
        self._retries = meter.create_counter(
            "flow.node.retries", "{retry}", "Calls of exec after the first"
        )
        self._run_time = _histogram(meter, "flow.run.duration", "How long a run of a flow took")
        self._node_time = _histogram(meter, "flow.node.duration", "How long a visit of a node took")
        self._watch(meter)

    def _watch(self, meter: Any) -> None:
        gauge = meter.create_observable_up_down_counter
        counter = meter.create_observable_counter
        ask = self._asked
        gauge("flow.runs.active", [ask(_in_flight)], "{run}", "Runs that go on now")
        gauge("flow.spans.queued", [ask(_queued)], "{span}", "Spans that are not stored yet")
        counter("flow.spans.dropped", [ask(_dropped)], "{span}", "Spans that were lost")
        gauge("flow.spans.waiting", [ask(_waiting)], "{span}", "Spans that are not sent yet")
        counter("flow.spans.sent", [ask(_sent)], "{span}", "Spans that were sent")

    def count(self, records: Iterable[Record]) -> None:
        """Add what *records* tell: durations one by one, the rest as sums."""
        runs: Counter[_Key] = Counter()
        attempts: Counter[_Key] = Counter()
        retries: Counter[_Key] = Counter()
        for record in records:
            outcome = record.outcome or COMPLETED
            if record.kind in _RUNS:
                runs[record.name, outcome] += 1
                self._run_time.record(_seconds(record), _run(record.name, outcome))
            elif record.kind in _STEPS:
                if record.kind == "node":
                    self._node_time.record(_seconds(record), _node(record.name, outcome))
                _count_attempts(record, attempts, retries)
        for key, total in runs.items():
            self._runs.add(total, _run(*key))
        for key, total in attempts.items():
            self._attempts.add(total, _node(*key))
        for key, total in retries.items():
            self._retries.add(total, _node(*key))

    def _asked(self, read: Callable[[Source], Mapping[str, int]]) -> Callable[[Any], Iterator[Any]]:
        """Return a callback that adds up what all sources say, by target."""

        def observed(options: Any) -> Iterator[Any]:
            totals: Counter[str] = Counter()
            for source in self._metrics.sources():
                try:
                    totals.update(read(source))
                except Exception:  # one that fails hides no other
                    logger.debug("%r cannot be asked", source, exc_info=True)
            for target, total in totals.items():
                yield self._observation(total, {"flow.target": target} if target else {})

        return observed


def _count_attempts(record: Record, attempts: Counter[_Key], retries: Counter[_Key]) -> None:
    for phase in record.phases:
        if phase.kind == "exec":
            attempts[record.name, phase.outcome or COMPLETED] += 1
            if phase.attempt:
                retries[record.name,] += 1


def _in_flight(source: Source) -> Mapping[str, int]:
    return {"": source.in_flight()}


def _queued(source: Source) -> Mapping[str, int]:
    return {"": source.queued()}


def _dropped(source: Source) -> Mapping[str, int]:
    return {"": source.dropped()}


def _waiting(source: Source) -> Mapping[str, int]:
    return source.waiting()


def _sent(source: Source) -> Mapping[str, int]:
    return source.sent()


def _run(name: str, outcome: str) -> dict[str, str]:
    return {"flow.name": name, "flow.outcome": outcome}


def _node(name: str, outcome: str | None = None) -> dict[str, str]:
    return {"flow.node.name": name} | ({} if outcome is None else {"flow.outcome": outcome})


def _seconds(record: Record) -> float:
    return 0.0 if record.end is None else (record.end - record.start) / 1e9


def _histogram(meter: Any, name: str, description: str) -> Any:
    try:
        return meter.create_histogram(
            name, "s", description, explicit_bucket_boundaries_advisory=BUCKETS
        )
    except TypeError:  # an API that takes no advice
        return meter.create_histogram(name, "s", description)


_ours: Final = Metrics()
observe: Final = _ours.observe
"""Count finished records with the program's provider, if there is one."""
watch: Final = _ours.watch
"""Ask a `Source` whenever a reader collects."""
