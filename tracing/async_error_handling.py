"""Errors of asynchronous code: classified, counted, handed to handlers, and recovered from."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, TypeAlias

from tracing.context import position
from tracing.error_decorator import async_error_handler
from tracing.error_events import (
    AsyncErrorEvent,
    AsyncErrorSeverity,
    AsyncErrorType,
    ContextLostError,
    classify,
    error_type_named,
    severity_of,
    statistics,
    tasks_of,
    traceback_of,
)
from tracing.error_execution import Target, called, limited, protected, run_here
from tracing.error_records import Watcher, note_in_trace, present
from tracing.lifecycle_derived import id_of
from tracing.lifecycle_ring import KINDS, ring_of
from tracing.lifecycle_states import task_here

logger = logging.getLogger(__name__)

__all__ = [
    "AsyncErrorEvent",
    "AsyncErrorHandler",
    "AsyncErrorSeverity",
    "AsyncErrorType",
    "async_error_handler",
]

Handler: TypeAlias = Callable[[AsyncErrorEvent], Any]
Strategy: TypeAlias = Callable[[AsyncErrorEvent], Awaitable[bool] | bool]

_MOST: Final = 1_000  # events that are kept
_HELD: Final = 100  # of them, those that hold their exception, and so its frames
_PAUSE: Final = 0.1  # seconds before the second attempt; twice that before the third, and so on
_REPORTED: Final = "__flow_reported__"
_numbers = itertools.count(1)  # of handlers; an `id()` may come back


class AsyncErrorHandler:
    """Knows what went wrong, tells those who want to hear, and tries to recover.

    It learns of errors in two ways. Node runs of flows that *tracer* records are reported when they
    fail, time out or are cancelled, once per error, however many spans it leaves; those that failed
    before this object was made are reported without their exception. (They are known from the ring
    of lifecycles: not with `trace_async_lifecycle` off.) Everything else is reported by
    `handle_async_error` or by what calls it here.

    No signal handler is installed, ever. Cancellation is reported and goes on.

    Args:
        tracer: What records; of its `config`, `async_error_recovery` and `performance_monitoring`
            are read.
        sleep: Waits between attempts, in seconds.

    Attributes:
        tracer: What records.
        error_events: The last 1,000 errors, the oldest first.
        error_handlers: Who is told, by type of error.
        recovery_strategies: How to recover, by type of error.
    """

    def __init__(
        self, tracer: Any, *, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    ) -> None:
        self.tracer = tracer
        self.error_events: list[AsyncErrorEvent] = []
        self.error_handlers: dict[AsyncErrorType, list[Handler]] = {}
        self.recovery_strategies: dict[AsyncErrorType, Strategy] = {}
        self._sleep = sleep
        self._number = next(_numbers)
        self._running: set[asyncio.Task[None]] = set()
        self._watcher = Watcher(self)
        self._watcher.attach()

    @property
    def timeout_tasks(self) -> set[int]:
        """Ids of the tasks in which something timed out."""
        return tasks_of(self.error_events, AsyncErrorType.TIMEOUT)

    @property
    def cancelled_tasks(self) -> set[int]:
        """Ids of the tasks in which something was cancelled."""
        return tasks_of(self.error_events, AsyncErrorType.CANCELLATION)

    def register_error_handler(self, error_type: AsyncErrorType | str, handler: Handler) -> None:
        """Call *handler*, plain or async, with every error of that type from now on.

        For a node of a flow an async one runs in a task of its own; in a synchronous flow it is run
        to its end before the error goes on. What a handler raises is logged.

        Raises:
            ValueError: There is no such type.
        """
        self.error_handlers.setdefault(error_type_named(error_type), []).append(handler)
        self._watcher.attach()

    def register_recovery_strategy(
        self, error_type: AsyncErrorType | str, strategy: Strategy
    ) -> None:
        """Call *strategy* after the handlers for every error of that type; the last one counts.

        It returns whether it has recovered, which the event then says. The error goes on all the
        same: what was recovered is the surroundings (a connection, a cache), for the next attempt.

        Raises:
            ValueError: There is no such type.
        """
        self.recovery_strategies[error_type_named(error_type)] = strategy
        self._watcher.attach()

    async def handle_async_error(
        self,
        error: BaseException,
        node_id: str | None = None,
        flow_name: str | None = None,
        context_data: dict[str, Any] | None = None,
    ) -> AsyncErrorEvent:
        """Report *error*: keep it, call handlers and strategy, and note it in the present trace.

        Args:
            error: What was raised, or would have been.
            node_id: Which run of a node; the one at work when left out.
            flow_name: Name of the flow; that of the present trace when left out.
            context_data: Facts about it.
        """
        event = self.keep(error, node_id, flow_name, context_data)
        await self.respond(event)
        note_in_trace(self.tracer, event)
        return event

    async def with_timeout(
        self,
        target: Target,
        timeout_seconds: float,
        node_id: str | None = None,
        flow_name: str | None = None,
    ) -> Any:
        """Return what *target* comes to within so many seconds.

        Args:
            target: An awaitable, or a function without arguments that makes one.
            timeout_seconds: How long it may take.
            node_id: Which run of a node, for the report.
            flow_name: Name of the flow, for the report.

        Raises:
            TimeoutError: It took longer, and was cancelled; reported.
        """
        try:
            return await limited(timeout_seconds, target)
        except TimeoutError as error:
            await self.report_once(error, node_id, flow_name, {"timeout_seconds": timeout_seconds})
            raise

    async def with_cancellation_protection(
        self, target: Target, node_id: str | None = None, flow_name: str | None = None
    ) -> Any:
        """Return what *target* comes to; it runs to its end even if the caller is cancelled.

        The caller's cancellation is delivered once the work has ended. A timeout around this call
        therefore waits for the work.

        Raises:
            asyncio.CancelledError: The caller or the work itself was cancelled; reported.
        """
        try:
            return await protected(called(target))
        except asyncio.CancelledError as error:
            await self.report_once(error, node_id, flow_name, {"protection": "cancellation"})
            raise

    async def safe_async_execute(
        self,
        target: Target,
        node_id: str | None = None,
        flow_name: str | None = None,
        timeout_seconds: float | None = None,
        retry_count: int = 0,
        *,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return what *target* comes to, trying again when it fails.

        Waits 0.1 s before the second attempt, 0.2 s before the third, and so on. Only the error of
        the last attempt is reported. Cancellation is reported, and never tried again.

        Args:
            target: A function that makes an awaitable, called anew for each attempt; or one
                awaitable, which there can be only one attempt at.
            node_id: Which run of a node, for the report.
            flow_name: Name of the flow, for the report.
            timeout_seconds: How long each attempt may take; None: as long as it takes.
            retry_count: How often to try again after the first attempt.
            args: What *target* is called with.
            kwargs: What it is called with by name.

        Raises:
            ValueError: *retry_count* is negative.
            BaseException: What the last attempt raised, unchanged but for a note.
        """
        if retry_count < 0:
            if asyncio.iscoroutine(target):
                target.close()  # it will never be awaited
            raise ValueError(f"retry_count must be 0 or more, not {retry_count}")
        said: dict[str, Any] = {
            "max_attempts": retry_count + 1,
            "timeout_seconds": timeout_seconds,
        }
        attempt = 1
        while True:
            try:
                return await limited(timeout_seconds, target, args, kwargs)
            except (Exception, asyncio.CancelledError) as error:
                if attempt > retry_count or not self._again(target, error, attempt):
                    await self.report_once(error, node_id, flow_name, {"attempt": attempt, **said})
                    raise
            await self._sleep(_PAUSE * attempt)
            attempt += 1

    def context_lost(self, doing: str, node_id: str | None = None) -> AsyncErrorEvent | None:
        """Report that *doing* happens in a thread which is in no trace although traces are live.

        For those who open spans by hand and find no trace to open them in. Returns None where
        nothing is lost: in a trace, or while nothing is under way.
        """
        ring = ring_of(self.tracer)
        if present(self.tracer) is not None or ring is None:
            return None
        live = ring.live
        if not live or threading.current_thread() is threading.main_thread():
            return None
        names = {record.trace.name for record in live}
        error = ContextLostError(doing, threading.current_thread().name)
        event = self.keep(error, node_id, names.pop() if len(names) == 1 else None)
        event.metadata["thread"] = threading.current_thread().name
        event.metadata["live_traces"] = len({record.trace.trace_id for record in live})
        logger.warning("%s", error)
        self.respond_soon(event)
        return event

    def get_error_statistics(self) -> dict[str, Any]:
        """Return counts over the last 1,000 errors."""
        self._watcher.attach()
        return statistics(self.error_events)

    def cleanup(self) -> None:
        """Forget all errors. Nobody but the caller does this; the end of a trace does not."""
        self.error_events.clear()

    # What the parts of this package use.

    def keep(
        self,
        error: BaseException,
        node_id: str | None = None,
        flow_name: str | None = None,
        context_data: dict[str, Any] | None = None,
    ) -> AsyncErrorEvent:
        """Make an event of *error* and keep it; tell nobody."""
        kind = self._classify_error(error)
        event = AsyncErrorEvent(
            error_type=kind,
            severity=self._determine_severity(error, kind),
            node_id=node_id,
            flow_name=flow_name,
            task_id=task_here(),
            exception=error,
            traceback_str=traceback_of(error),
            context_data=dict(context_data or {}),
        )
        if (now := present(self.tracer)) is not None:
            record = now[0]
            event.flow_name = flow_name or record.trace.name
            if record.kind in KINDS:
                event.node_id = node_id or id_of(record)
                event.metadata["node_name"] = record.name
        self.add(event)
        return event

    def add(self, event: AsyncErrorEvent, trace_id: int = 0) -> None:
        """Keep *event* of the run *trace_id* (0: the present one); drop those too old to keep."""
        events = self.error_events
        events.append(event)
        del events[:-_MOST]
        if event.exception is not None:
            self._mark(event.exception, trace_id)
        if len(events) > _HELD:
            events[-_HELD - 1].exception = None

    def is_reported(self, error: BaseException, trace_id: int = 0) -> bool:
        """Return whether *error* has been reported here, in the run *trace_id*; 0: in any."""
        return any(
            number == self._number and trace_id in (0, trace)
            for number, trace in getattr(error, _REPORTED, ())
        )

    def _mark(self, error: BaseException, trace_id: int) -> None:
        now = position.get()
        if not trace_id and now is not None:
            trace_id = now[0].trace.trace_id
        marks: frozenset[tuple[int, int]] = getattr(error, _REPORTED, frozenset())
        with suppress(Exception):  # an exotic exception class may be reported twice
            setattr(error, _REPORTED, marks | {(self._number, trace_id)})

    async def respond(self, event: AsyncErrorEvent) -> None:
        """Call the handlers of *event*, then the strategy. May be cancelled."""
        for handler in list(self.error_handlers.get(event.error_type, ())):
            try:
                await called(handler, (event,))
            except Exception:
                logger.exception("the error handler %r failed", handler)
        strategy = self.recovery_strategies.get(event.error_type)
        if strategy is None or not getattr(self.tracer.config, "async_error_recovery", True):
            return
        event.recovery_attempted = True
        try:
            event.recovery_successful = bool(await called(strategy, (event,)))
        except Exception:
            logger.exception("the recovery strategy %r failed", strategy)

    def respond_soon(self, event: AsyncErrorEvent) -> None:
        """Do what `respond` does from code that cannot await.

        In a task where a loop is at work; else at once, in a loop of its own (not by `asyncio.run`,
        which takes the signal SIGINT over for that time).
        """
        kind = event.error_type
        if not self.error_handlers.get(kind) and kind not in self.recovery_strategies:
            return
        try:
            task = asyncio.get_running_loop().create_task(self.respond(event))
        except RuntimeError:
            run_here(self.respond(event))
        else:
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def settle(self) -> None:
        """Wait until no handler or strategy that `respond_soon` began is at work any more.

        A traced run does so before it ends, so `asyncio.run` cannot cut them off. Cancelling it
        leaves them running.
        """
        while self._running:
            await asyncio.wait(self._running)

    async def report_once(
        self,
        error: BaseException,
        node_id: str | None,
        flow_name: str | None,
        context_data: dict[str, Any],
    ) -> None:
        """Report *error* unless that has been done on its way here."""
        if not self.is_reported(error):
            await self.handle_async_error(error, node_id, flow_name, context_data)

    def _again(self, target: Target, error: BaseException, attempt: int) -> bool:
        if isinstance(error, asyncio.CancelledError):
            return False
        if not callable(target):
            error.add_note(
                "not tried again: a coroutine object can be awaited only once. Give a function "
                "that makes it, as in safe_async_execute(lambda: work(item), retry_count=3)."
            )
            return False
        logger.debug("attempt %d failed with %r; trying again", attempt, error)
        return True

    def _classify_error(self, error: BaseException) -> AsyncErrorType:
        return classify(error)

    def _determine_severity(
        self, error: BaseException, error_type: AsyncErrorType
    ) -> AsyncErrorSeverity:
        return severity_of(error_type)
