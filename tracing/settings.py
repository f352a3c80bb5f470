"""What a `trace_flow` was told, and the recorder that follows from it."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakSet

from tracing.config import TracingConfig
from tracing.context import position
from tracing.original import adopt
from tracing.otel.seam import above
from tracing.record import Keep
from tracing.recorder import Recorder, Sink, at_work, narrowed
from tracing.redact import Redactor
from tracing.run import Hidden, Run, Untraced
from tracing.sampling import NotRecorded, choose, is_left_out

if TYPE_CHECKING:
    from tracing.core import LangfuseTracer
    from tracing.export.model import Route
    from tracing.lifecycle_ring import LifecycleRing

logger = logging.getLogger(__name__)

_UNTRACED = Untraced()


class _Made(NamedTuple):
    """What follows from the settings, and the environment it was made in."""

    said: str | None
    config: TracingConfig
    recorder: Recorder | None
    ring: LifecycleRing | None


class Settings:
    """The choices of one `trace_flow`; its recorder is made when the first run needs it.

    Plain data: it pickles, without the recorder.

    Args:
        config: The user's own settings, or None for the environment's.
        name: Name of the traces, or None for that of what is traced.
        session_id: Session, or None for the config's.
        user_id: User, or None for the config's.
        tags: Tags of the traces.
        metadata: Facts about the traces.
    """

    def __init__(
        self,
        config: TracingConfig | None,
        name: str | None = None,
        session_id: str | None = None,
        user_id: str | None = None,
        tags: tuple[str, ...] = (),
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self.config = config
        self.name = name
        self.session_id = session_id
        self.user_id = user_id
        self.tags = tags
        self.metadata = metadata or {}
        self._forget()

    def _forget(self) -> None:
        self._made: _Made | None = None
        self._tracer: LangfuseTracer | None = None
        self._under_way: WeakSet[_Counted] = WeakSet()

    def __getstate__(self) -> dict[str, Any]:
        kept = ("config", "name", "session_id", "user_id", "tags", "metadata")
        return {name: self.__dict__[name] for name in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    def recorder(self) -> Recorder | None:
        """Return what notes the runs, or None where tracing is off.

        Raises:
            ValueError: The environment holds a setting that cannot be.
        """
        return self._current().recorder

    def effective(self) -> TracingConfig:
        """Return the config in force: the user's own, or the environment's.

        Raises:
            ValueError: The environment holds a setting that cannot be.
        """
        return self._current().config

    @property
    def ring(self) -> LifecycleRing | None:
        """The lifecycles of recent node runs; None where tracing or `trace_async_lifecycle` is off.

        Raises:
            ValueError: The environment holds a setting that cannot be.
        """
        return self._current().ring

    @property
    def tracer(self) -> LangfuseTracer:
        """The one tracer of these settings, made when it is first asked for."""
        if self._tracer is None:
            from tracing.core import LangfuseTracer  # noqa: PLC0415 (for those who trace by hand)

            made = LangfuseTracer(self.effective(), _settings=self)
            if self._tracer is None:  # another thread may have been here meanwhile
                self._tracer = made
        return self._tracer

    async def settle(self) -> None:
        """Wait for what the handlers and recovery strategies of this run's errors still do.

        Suspends only where there are some at work; without a tracer nobody has registered any.
        """
        handler = None if self._tracer is None else self._tracer.error_handler
        if handler is not None:
            await handler.settle()

    def start(self, kind: str, label: str, source: object, value: Any) -> Run:
        """Open the span of a run; one that notes nothing when tracing is off, or cannot be."""
        try:
            return self._open(kind, self.name or label, source, value)
        except Exception as error:  # noqa: BLE001 - no run is to suffer from its tracing
            _complain(label, error)
            return _UNTRACED

    def _open(self, kind: str, name: str, source: object, value: Any) -> Run:
        _, config, recorder, _ = self._current()
        now = position.get()
        if is_left_out(now) or (now is not None and source is not None and now[2] is source):
            return _UNTRACED  # left out, or a run of this very object that has its span already
        outer = None if now is None else at_work()
        if recorder is None:
            return _UNTRACED if outer is None else Hidden(outer)
        if outer is not None and outer.kept and not recorder.kept:
            return Hidden(outer)  # it is to be kept nowhere, so not in another's store either
        if outer is not None:
            recorder = narrowed(outer, recorder)
        choice = None
        if now is None:
            choice = choose(config.sample_rate, config.sample_by_parent, above(None))
            if not choice.sampled and not config.keep:
                return NotRecorded(name, choice.trace_id)
        adopt(source)
        make = _Counted if kind == "flow" and config.trace_concurrent_flows else Run
        run = make(
            recorder,
            kind,
            name,
            source,
            value,
            session_id=self.session_id or config.session_id,
            user_id=self.user_id or config.user_id,
            tags=self.tags,
            metadata=self.metadata,
            trace_id=None if choice is None else choice.trace_id,
            keep=None if choice is None or choice.sampled else _keep(config),
        )
        if isinstance(run, _Counted):
            run.count_in(self._under_way)
        return run

    def _current(self) -> _Made:
        """Return what is in force, made anew when the environment says otherwise."""
        made = self._made
        if (
            made is None
            or (self._follows_environment() and made.said != _store_variable())
            or (made.recorder is not None and made.recorder.sink.is_closed)
        ):
            config = TracingConfig.from_env() if self.config is None else self.config
            made = self._made = _Made(_store_variable(), config, *_build(config))
        return made

    def _follows_environment(self) -> bool:
        return self.config is None or self.config.store is None


def _complain(label: str, error: Exception) -> None:
    """Say why runs are not traced: once for each reason, and in one line for a wrong setting."""
    said = f"{type(error).__name__}: {error}"
    if said in _said:
        logger.debug("this run of %s is not traced: %s", label, said)
        return
    if len(_said) < _MOST_REASONS:
        _said.add(said)
    if isinstance(error, (ValueError, TypeError)):
        logger.error("runs of %s are not traced: %s", label, error)
    else:
        logger.error("runs of %s are not traced", label, exc_info=error)


_said: set[str] = set()
_MOST_REASONS = 100


class _Counted(Run):
    """A run of a flow that notes how many others of that flow were under way when it began."""

    __slots__ = ("__weakref__", "_others", "_under_way")

    def count_in(self, under_way: WeakSet[_Counted]) -> None:
        """Count the runs in *under_way*, and be one of them until the end."""
        self._others = len(under_way)
        self._under_way = under_way
        under_way.add(self)

    def finish(self, error: BaseException | None, value: Any = None, **attributes: Any) -> None:
        """End the span; alone it notes nothing."""
        self._under_way.discard(self)
        if self._others:
            attributes["flow.concurrent_runs"] = self._others
        super().finish(error, value, **attributes)


def _keep(config: TracingConfig) -> Keep:
    """Return what has to happen in a trace outside the sample for it to be sent."""
    slow_ns = int(config.slow_trace_seconds * 1e9) if "slow" in config.keep else None
    return Keep("failed" in config.keep, "retried" in config.keep, slow_ns)


def _store_variable() -> str | None:
    return os.environ.get("POCKETFLOW_TRACE_STORE")


def _build(config: TracingConfig) -> tuple[Recorder | None, LifecycleRing | None]:
    from tracing.store import open_store  # noqa: PLC0415 (SQLite, when the first run needs it)

    route = _route(config)
    store = open_store(
        config.store,
        redact=config.redact,
        redact_keys=config.redact_keys,
        in_transit=route is not None,
    )
    if store is None:
        return None, None
    if route is not None:
        from tracing.export.registry import attach  # noqa: PLC0415 (for those who send)

        attach(store, route)
    from tracing.measuring import measure  # noqa: PLC0415 (when the first run needs it)

    measure(store)
    sink: Sink = store
    ring = None
    if config.trace_async_lifecycle or config.performance_monitoring:
        sink = ring = _ring(store, config)
    if config.trace_async_context or not config.trace_errors:
        from tracing.sinks import TaskNotes, TypesOnly  # noqa: PLC0415 (for those who use them)

        if config.trace_async_context:
            sink = TaskNotes(sink)
        if not config.trace_errors:
            sink = TypesOnly(sink)
    redactor = _redactor(config)
    if redactor is not None:
        from tracing.sinks import Redacting  # noqa: PLC0415 (for those who use it)

        sink = Redacting(sink, redactor)
    recorder = Recorder(
        sink,
        config.trace_inputs,
        config.trace_outputs,
        config.value_limit,
        route,
        config.trace_errors,
        not store.is_transit,
        redactor,
    )
    return recorder, ring if config.trace_async_lifecycle else None


def _redactor(config: TracingConfig) -> Redactor | None:
    """Return what takes out what these settings alone call secret; None: nothing besides."""
    function = config.redact_function
    if function is None and not (config.redact and config.redact_patterns):
        return None
    return Redactor(
        config.redact_keys,
        patterns=config.redact_patterns if config.redact else (),
        functions=() if function is None else (function,),
        shapes=config.redact,
    )


def _route(config: TracingConfig) -> Route | None:
    """Return where the runs are sent to; None: nowhere."""
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None  # whoever runs the program may switch off what its author has switched on
    from tracing.export.configured import route  # noqa: PLC0415 (when the first run needs it)

    try:
        found = route(config)
    except ValueError as error:
        logger.warning("traces are kept here and sent nowhere: %s", error)
        return None
    return found if found is not None and found.targets else None


def _ring(sink: Sink, config: TracingConfig) -> LifecycleRing:
    from tracing.lifecycle_ring import LifecycleRing  # noqa: PLC0415 (only where it is on)

    ring = LifecycleRing(sink) if config.trace_async_lifecycle else LifecycleRing(sink, 0)
    if config.performance_monitoring:
        from tracing.performance import install  # noqa: PLC0415 (only where it is on)

        install(ring, config)
    return ring
