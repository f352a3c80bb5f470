"""Work that is done in batches, over all runs, and loses nothing."""

from __future__ import annotations

import asyncio
import logging
import warnings
from collections import deque
from collections.abc import Iterator, KeysView, Mapping, ValuesView
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, Final

from pocketflow_async.hooks import Step, active
from pocketflow_async.resilience.batching import Due
from pocketflow_async.workflow.errors import NodeExecutionError
from pocketflow_async.workflow.patterns.batch_processor_guard import Guard
from pocketflow_async.workflow.patterns.batch_processor_late import Late, LateBatch, LateContext
from pocketflow_async.workflow.patterns.batch_processor_store import BatchStatistics, Store
from pocketflow_async.workflow.patterns.retried_work import inputs_of, run_work
from pocketflow_async.workflow.spec import Context, Port, Ports, Work

logger = logging.getLogger("pocketflow_async.workflow")

ITEMS: Final = "items"
FORCE: Final = "force_flush"
RESULTS: Final = "batch_results"
OUTPUTS: Final = (
    "processed_count",
    "results",
    "remaining_in_batch",
    "flush_reason",
    "next_flush_in",
)
MOST_KEPT: Final = 1000
"""Of so many late batches the results are kept; older ones are dropped."""

_SEVERAL: Final = (list, tuple, set, frozenset, range, deque, Iterator, KeysView, ValuesView)

_visit: ContextVar[tuple[Context, list[Due[Any]]] | None] = ContextVar(
    "workflow_batch_visit", default=None
)
"""The batches that failed so far in the visit at work, whose next attempt adds nothing again."""


class BatchWork:
    """Does *work* with many items at once; they come from any number of runs.

    Args:
        work: What is done with a batch.
        size: Most items of a batch.
        interval: Most seconds that an item waits; None: until there are enough.
        timeout: Seconds that one batch may take; None: no limit.

    Attributes:
        late_results: What the last batches came to that no run was there for.

    Raises:
        TypeError: The size or the interval is no number.
        ValueError: One of them is out of range.
    """

    is_async: Final = True

    def __init__(
        self, work: Work, size: int, interval: float | None, timeout: float | None = None
    ) -> None:
        self.work = work
        self.timeout = timeout
        self.late_results: deque[LateBatch] = deque(maxlen=MOST_KEPT)
        self._store = Store(size, interval)
        self._guards: dict[asyncio.AbstractEventLoop, Guard] = {}  # under the lock of the store
        self._latest: Late | None = None

    def __repr__(self) -> str:
        return f"<BatchWork {self.work!r}, {self._store!r}>"

    def __del__(self) -> None:
        store = getattr(self, "_store", None)  # there is none if the arguments were wrong
        if store is not None and len(store):
            warnings.warn(
                f"{len(store)} items of a batch processor were never processed: await its "
                "aclose(), or the cleanup() of the runtime",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )

    @property
    def inputs(self) -> Ports:
        """The items, whether to process them now, and what the work itself takes."""
        own = inputs_of(self.work)
        ours = {name: Port(name, required=False) for name in (ITEMS, FORCE)}
        return Ports({**own.known, **ours}, open=own.open)

    @property
    def outputs(self) -> Ports:
        """What `run` yields."""
        return Ports({name: Port(name) for name in ("result", *OUTPUTS)}, open=False)

    @property
    def waiting(self) -> int:
        """How many items wait."""
        return len(self._store)

    def statistics(self) -> BatchStatistics:
        """Return what it has done, and has to do."""
        return self._store.statistics()

    def reset(self) -> None:
        """Forget all items that wait, and all late results."""
        with self._store.lock:
            self._store.clear()
            self.late_results.clear()
            guards = list(self._guards.items())
        for loop, guard in guards:
            with suppress(RuntimeError):  # that loop is closed
                loop.call_soon_threadsafe(guard.wake)

    async def run(self, inputs: Mapping[str, Any], context: Context) -> dict[str, Any]:
        """Add the items, and process what is due; see `batch_processor`.

        Raises:
            Exception: What the work has raised. The batch is kept, and tried again later.
        """
        guard = await self._guarded(inputs, context)
        try:
            made = await self._processed(self._due_in(inputs, context), inputs, context)
        except BaseException:
            guard.left()
            raise
        await guard.leave()
        return made

    async def flush(self) -> None:
        """Process all that waits, now; what comes of it is in `late_results`.

        Raises:
            NodeExecutionError: Some of it could not be processed; it is kept.
        """
        await self._flush(closing=False)

    async def aclose(self) -> None:
        """Process all that waits, and leave nothing running on this event loop.

        It can be used again. The runtime does this in its `cleanup`.

        Raises:
            NodeExecutionError: Some of it could not be processed; it is kept for the next run.
        """
        await self._flush(closing=True)

    async def _flush(self, *, closing: bool) -> None:
        with self._store.lock:
            guard = self._guards.get(asyncio.get_running_loop())
            is_new = guard is None
            if guard is None:
                if self._latest is None or not len(self._store):
                    return
                guard = self._new_guard(self._latest)
        if is_new:
            guard.start()
        errors = await guard.flush(closing=closing)
        if errors:
            raise NodeExecutionError(
                f"node {guard.late.node_id!r}: {self.waiting} items could not be processed and are "
                f"kept: {type(errors[0]).__name__}: {errors[0]}"
            ) from errors[0]

    async def _guarded(self, inputs: Mapping[str, Any], context: Context) -> Guard:
        """Return the guard of this loop, with the run counted."""
        own = {name: value for name, value in inputs.items() if name not in (ITEMS, FORCE)}
        late = Late.of(own, context)
        close_later = getattr(getattr(context, "runtime", None), "close_later", None)
        if close_later is not None:
            close_later(self)
        with self._store.lock:
            self._latest = late
            guard = self._guards.get(asyncio.get_running_loop())
            is_new = guard is None
            if guard is None:
                guard = self._new_guard(late)
            guard.late = late
            guard.runs += 1
        if is_new:
            guard.start()
            try:
                await asyncio.sleep(0)  # or, cancelled before its first step, it would do nothing
            except BaseException:
                guard.left()
                raise
        return guard

    def _new_guard(self, late: Late) -> Guard:
        for loop in [loop for loop in self._guards if loop.is_closed()]:
            del self._guards[loop]
        guard = self._guards[asyncio.get_running_loop()] = Guard(self, late)
        return guard

    def _due_in(self, inputs: Mapping[str, Any], context: Context) -> list[Due[Any]]:
        """Add the items of a visit, unless an attempt before has; return what is due."""
        visit = _visit.get()
        if visit is not None and visit[0] is context:
            items: list[Any] = []
            again = visit[1].copy()
            visit[1].clear()
        else:
            _visit.set((context, []))  # in the node's own task: there is nothing to reset
            items, again = _items(inputs.get(ITEMS)), []
        return self._store.take(items, again, force=bool(inputs.get(FORCE)))

    async def _processed(
        self, dues: list[Due[Any]], inputs: Mapping[str, Any], context: Context
    ) -> dict[str, Any]:
        made = LateBatch(0, [], "")
        for place, due in enumerate(dues):
            try:
                results = await self._process(due, inputs, context)
            except BaseException as error:
                self._keep(dues[place:], error, context)
                if made.processed_count:  # nobody gets them, since the run gets the error
                    self.late_results.append(made)
                raise
            made.results.extend(results)
            made = LateBatch(made.processed_count + len(due.items), made.results, due.reason)
        waiting, pause = self._store.outlook()
        reason = made.flush_reason or None
        return dict(
            zip(OUTPUTS, (made.processed_count, made.results, waiting, reason, pause), strict=True)
        )

    async def _process(self, due: Due[Any], inputs: Mapping[str, Any], context: Context) -> Any:
        """Do the work with a batch; return its results. What failed is still to be kept."""
        given = {**inputs, ITEMS: list(due.items)}  # a list of its own, which it may change
        given.pop(FORCE, None)
        hooks = active()
        if hooks is None:
            results = _results(await run_work(self.work, given, context, self.timeout))
        else:
            step = Step("policy", "batcher", self, due.items, hooks)
            step.facts = {
                "flow.policy": "batcher",
                "flow.batcher.items": len(due.items),
                "flow.batcher.reason": due.reason,
            }
            with step:
                value = await run_work(self.work, given, context, self.timeout)
                step.result = results = _results(value)
        self._store.done(due)
        return results

    def _keep(self, dues: list[Due[Any]], error: BaseException, context: Context) -> None:
        """Put back the batch that *error* is about, and those after it."""
        failed = isinstance(error, Exception)
        kept = self._store.put_back(dues, failed=failed)
        visit = _visit.get()
        if visit is not None and visit[0] is context:
            visit[1].extend(dues)
        if failed:
            error.add_note(f"node {context.node_id!r}: {kept} items are kept, and tried again")

    # For the guards.

    async def flush_late(self, late: Late, *, force: bool = False) -> list[Exception]:
        """Process what is due, for no run; return the errors, which are logged.

        When this is cancelled, what is not processed is kept.
        """
        dues = self._store.take(force=force)
        errors: list[Exception] = []
        async with LateContext(late) as context:
            while dues:
                due = dues[0]
                try:
                    results = await self._process(due, late.inputs, context)
                except (Exception, SystemExit) as error:  # noqa: BLE001 (logged, and returned)
                    errors.append(self._failed(due, error, context))
                except BaseException as error:
                    self._keep(dues, error, context)
                    raise
                else:
                    self.late_results.append(LateBatch(len(due.items), results, due.reason))
                del dues[0]
        return errors

    def _failed(self, due: Due[Any], error: BaseException, context: LateContext) -> Exception:
        """Keep a batch that has failed with nobody to tell but the log."""
        if not isinstance(error, Exception):
            error = NodeExecutionError(f"its code raised {error!r}")
        self._keep([due], error, context)
        logger.warning(
            "node %r: a batch of %d items failed and is kept: %s: %s",
            context.node_id,
            len(due.items),
            type(error).__name__,
            error,
        )
        return error

    def due_at(self) -> float:
        """Return the moment at which something is due; infinity: never."""
        return self._store.due_at()

    def is_over(self, guard: Guard) -> bool:
        """Return whether *guard* has nothing more to do; then it is forgotten."""
        with self._store.lock:
            if guard not in self._guards.values():
                return True
            if guard.runs or len(self._store):
                return False
            self._latest = None
            self.forget(guard)
            return True

    def forget(self, guard: Guard) -> None:
        """Let the next run have another guard."""
        with self._store.lock:
            for loop, known in list(self._guards.items()):
                if known is guard:
                    del self._guards[loop]


def _items(value: Any) -> list[Any]:
    """Return the items that a run adds: those in *value*, or it alone."""
    if value is None:
        return []
    if isinstance(value, _SEVERAL) and not hasattr(value, "_fields"):  # a row is one item
        return list(value)
    return [value]


def _results(value: Any) -> list[Any]:
    """Return the results in what the work has yielded."""
    if isinstance(value, Mapping) and RESULTS in value:
        value = value[RESULTS]
    if value is None or (isinstance(value, Mapping) and not value):
        return []
    return list(value) if isinstance(value, list | tuple) else [value]
