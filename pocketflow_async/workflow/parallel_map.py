"""One function over many items at once: bounded, in order, with an entry for each that failed."""

from __future__ import annotations

import asyncio
import reprlib
import time
from collections import Counter
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
)
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager
from contextvars import copy_context
from types import CoroutineType
from typing import Any, TypeAlias

from pocketflow_async.hooks import Hooks, Step, active
from pocketflow_async.offloading import returned
from pocketflow_async.scatter import Items, scatter
from pocketflow_async.wording import a
from pocketflow_async.workflow.batches import Batches
from pocketflow_async.workflow.deadlines import Deadlines
from pocketflow_async.workflow.errors import WorkflowError
from pocketflow_async.workflow.function_work import (
    is_coroutine_callable,
    name_of_function,
    refuse_awaitable,
)

_Call: TypeAlias = Callable[[Any], Awaitable[Any]]

_NOTHING = object()  # in the place of a result that is not kept
_SHOWN = 10  # how many different types the error about failed items names
_LONG = 200  # letters of an item, and of its error, that it shows


class ItemsFailedError(WorkflowError, RuntimeError):
    """Raised by a map that does not go on after a failure.

    Args:
        errors: An entry for each item that has failed so far, as in the map's own `errors`.
    """

    def __init__(self, errors: list[dict[str, Any]]) -> None:
        self.errors = errors
        kinds = Counter(str(entry["error_type"]) for entry in errors)
        summary = {"total_errors": len(errors), "error_types": dict(kinds.most_common(_SHOWN))}
        text = f"Processing failed for {len(errors)} items: {summary}"
        super().__init__(f"{text}; {_told_of(errors[0])}" if errors else text)

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.errors,))


def _told_of(entry: Mapping[str, Any]) -> str:
    """Say which item failed with what; both are shortened."""
    try:
        item = reprlib.repr(entry["item"])
    except Exception:  # noqa: BLE001 (an item that cannot be shown has failed all the same)
        item = a(type(entry["item"]).__name__)
    text = f"{entry['error_type']}: {entry['error']}"
    text = text if len(text) <= _LONG else f"{text[:_LONG]}…"
    return f"the first at index {entry['index']}, item {item:.{_LONG}}: {text}"


def check_items(items: Any, field: str) -> Items:
    """Return *items* if one can go over them.

    Raises:
        ValueError: They are text, a mapping, or nothing to go over.
    """
    if isinstance(items, str | bytes | bytearray | Mapping) or not isinstance(
        items, Iterable | AsyncIterable
    ):
        raise ValueError(
            f"{field!r} must be a list or tuple, got {type(items).__name__} "
            "(any other iterable or async iterable of items will do)"
        )
    return items


async def run_map(
    function: Callable[[Any], Any],
    items: Items,
    *,
    max_workers: int = 10,
    batch_size: int | None = None,
    timeout_per_item: float | None = None,
    continue_on_error: bool = False,
    fail_fast: bool = True,
    keep_results: bool = True,
    output_field: str = "results",
    name: str = "process_item",
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Any]:
    """Call *function* with every item, each in a task and a context of its own.

    Args:
        function: Takes an item. Synchronous ones run in threads of the map's own, with a copy of
            the context; since a thread cannot be stopped, its place stays taken, and cancelling
            waits, until it has come back.
        items: Any iterable or async iterable; read only as far as there are workers, so besides
            the results no more than *max_workers* items are in memory.
        max_workers: How many items may be at work at once.
        batch_size: Take the items in batches of so many: the next begins when all of the one
            before are done. None: no batches.
        timeout_per_item: Seconds that an item may take; None: no limit.
        continue_on_error: Whether to go on when an item has failed, and report it in `errors`.
        fail_fast: If it does not go on: whether to cancel the rest at the first failure, or to let
            them all come to an end before the error is raised.
        keep_results: Whether to keep the results. Without, memory is bounded whatever the length
            (with *batch_size*; else a pointer an item remains).
        output_field: Key of the results.
        name: What the items' steps are called when somebody watches.
        clock: Seconds that never go back, for the durations.

    Returns:
        The results of the items that succeeded in the order of the items, `statistics` (total,
        successful, failed, total_duration, average_duration in seconds) and `errors`, with
        {index, success, error, error_type, item, duration} for each that failed.

    Raises:
        ItemsFailedError: An item failed, and it is not to go on; the cause is the first error.
        BaseException: Whatever reading the items raises.

    Cancelling it cancels every item and waits for them.
    """
    job = _Job(timeout_per_item, continue_on_error, fail_fast, keep_results, name, clock)
    async with job.working(function, max_workers) as call, Batches(items, batch_size) as batches:
        while batches.more:
            await job.go(call, batches.next(), max_workers)
    return job.report(output_field)


class _Stop(Exception):
    """An item has failed, and the map is not to go on."""


class _Job:
    """What one map has done so far."""

    def __init__(
        self,
        timeout: float | None,
        tolerant: bool,
        fail_fast: bool,
        keep: bool,
        name: str,
        clock: Callable[[], float],
    ) -> None:
        self._timeout = timeout
        self._tolerant = tolerant
        self._goes_on = tolerant or not fail_fast
        self._keep = keep
        self._name = name
        self._clock = clock
        self._began = clock()
        self._offset = 0  # items in the batches before
        self._successes = 0
        self._spent = 0.0
        self._results: list[Any] = []
        self._errors: list[dict[str, Any]] = []
        self._first: BaseException | None = None

    @asynccontextmanager
    async def working(self, function: Callable[[Any], Any], workers: int) -> AsyncIterator[_Call]:
        """Hold the threads and the timer of the map; give the call for one item."""
        with ExitStack() as stack:
            call = (
                function
                if is_coroutine_callable(function)
                else stack.enter_context(_Threads(function, workers)).call
            )
            if self._timeout is not None:
                call = stack.enter_context(Deadlines(call, self._timeout)).call
            yield call

    async def go(self, call: _Call, items: Items, max_workers: int) -> None:
        """Do one batch.

        Raises:
            ItemsFailedError: An item failed, and it is not to go on.
        """
        hooks = active()

        async def plain(index: int, item: Any) -> Any:
            return await self._counted(call(item), index, item)

        async def watched(index: int, item: Any) -> Any:
            return await self._counted(self._watched(call, hooks, index, item), index, item)

        try:
            values = await scatter(plain if hooks is None else watched, items, max_workers)
        except _Stop:
            raise self._failure() from self._first
        except asyncio.CancelledError as error:
            if _told():
                raise
            self._note(None, None, RuntimeError("an item was cancelled by other code"), 0.0)
            raise self._failure() from error
        self._offset += len(values)
        if self._keep:
            self._results += [value for value in values if value is not _NOTHING]

    async def _watched(self, call: _Call, hooks: Hooks | None, index: int, item: Any) -> Any:
        step = Step("item", self._name, None, item, hooks)
        step.index = self._offset + index
        with step:
            step.result = value = await call(item)
        return value

    async def _counted(self, work: Awaitable[Any], index: int, item: Any) -> Any:
        """Do one item and take note of how it went."""
        began = self._clock()
        failure: BaseException
        try:
            value = await work
            if isinstance(value, CoroutineType):
                refuse_awaitable(value, f"{self._name}(item)")
        except (Exception, SystemExit) as error:  # noqa: BLE001 (an entry, or the map's end)
            failure = error
        except asyncio.CancelledError as error:
            if _told():
                raise
            failure = error  # something within it was cancelled: that is its own failure
        else:
            self._spent += self._clock() - began
            self._successes += 1
            return value if self._keep else _NOTHING
        self._note(self._offset + index, item, failure, self._clock() - began)
        if self._goes_on:
            return _NOTHING
        raise _Stop

    def _note(self, index: int | None, item: Any, error: BaseException, took: float) -> None:
        self._spent += took
        self._first = self._first or error
        self._errors.append(
            {
                "index": index,
                "success": False,
                "error": str(error) or type(error).__name__,
                "error_type": type(error).__name__,
                "item": item,
                "duration": took,
            }
        )

    def _ordered(self) -> list[dict[str, Any]]:
        return sorted(self._errors, key=lambda entry: -1 if (i := entry["index"]) is None else i)

    def _failure(self) -> ItemsFailedError:
        return ItemsFailedError(self._ordered())

    def report(self, output_field: str) -> dict[str, Any]:
        """Return what the map yields, or raise the error about its failed items."""
        if self._errors and not self._tolerant:
            raise self._failure() from self._first
        return {
            output_field: self._results,
            "statistics": {
                "total": self._offset,
                "successful": self._successes,
                "failed": len(self._errors),
                "total_duration": self._clock() - self._began,
                "average_duration": self._spent / self._offset if self._offset else 0.0,
            },
            "errors": self._ordered(),
        }


def _told() -> bool:
    """Return whether the task at work has been told to stop."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


class _Threads:
    """The threads that synchronous items run in; none is left when the map is done."""

    def __init__(self, function: Callable[[Any], Any], workers: int) -> None:
        self._function = function
        self._pool = ThreadPoolExecutor(workers, name_of_function(function))

    def __enter__(self) -> _Threads:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()  # every item has been waited for: nothing is at work

    async def call(self, item: Any) -> Any:
        """Run the function in a thread; when cancelled, wait until that has come back."""
        loop = asyncio.get_running_loop()
        return await returned(
            loop.run_in_executor(self._pool, copy_context().run, self._called, item)
        )

    def _called(self, item: Any) -> Any:
        name = name_of_function(self._function)
        try:
            return refuse_awaitable(self._function(item), f"{name}(item)")
        except StopIteration as error:  # a future cannot hold it, and would wait for ever
            raise RuntimeError(f"{name}(item) raised StopIteration") from error
