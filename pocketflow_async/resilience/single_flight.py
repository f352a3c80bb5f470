"""Callers that want the same at the same time: one call per process and event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Hashable
from contextlib import suppress
from contextvars import ContextVar
from types import TracebackType
from typing import Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

from pocketflow_async.resilience.error_copies import copy_of
from pocketflow_async.resilience.keys import Key, KeySource
from pocketflow_async.resilience.policy import Facts, Policy
from pocketflow_async.resilience.tasks import Exit, contained, outcome, stopped

T = TypeVar("T")

_inside: ContextVar[tuple[object, ...]] = ContextVar("flights_inside", default=())
"""The flights that this code is part of, from the outside in."""


class FlightStatistics(NamedTuple):
    """What a SingleFlight has done so far."""

    calls: int
    """Calls that were made."""
    shared: int
    """Callers that got what another's call came to."""
    under_way: int
    """Calls that are being made."""


class SingleFlight(Policy):
    """Makes one call for all who ask for the same key while it is under way.

    That is one call per process and event loop: nothing is known here of other processes.

    Nothing is kept: who asks after its end gets a new call. All get the same object, and an error
    goes to all of them, each with a copy of its own. A call belongs to all who wait for it: it has
    a task of its own, in the context of who asked first; when a caller is cancelled the others go
    on, and with the last one the call is cancelled and awaited.

    Another event loop has a call of its own. Threads (`call`, `join`) share among
    themselves: the first does the work, the others block.

        flights = SingleFlight()
        user = await flights.ajoin(user_id, lambda: fetch_user(user_id))

    Args:
        key: For use as a policy or decorator: a template filled with the arguments of the call, or
            a function of the same arguments. None: only `ajoin` and `join` are used.
        name: What it is called in traces.

    Raises:
        TypeError: An argument is of a wrong type.
        ValueError: The template is none.
    """

    kind = "single_flight"

    def __init__(self, key: KeySource | None = None, *, name: str | None = None) -> None:
        super().__init__(name)
        self._key = None if key is None else Key(key)
        self._lock = threading.Lock()
        self._tables: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Hashable, _Flight]] = (
            WeakKeyDictionary()
        )
        self._threads: dict[Hashable, _InThread] = {}
        self._calls = self._shared = 0

    def __repr__(self) -> str:
        return f"<SingleFlight {self.name!r}, {self.statistics().under_way} under way>"

    async def ajoin(self, key: Hashable, call: Callable[[], Awaitable[T]]) -> T:
        """Await what *call* returns, or what another's call for *key* comes to.

        May be cancelled; the call ends with its last caller.

        Raises:
            RuntimeError: It is made from inside the call for that very key, and would wait for
                itself.
            BaseException: What the call raised.
        """
        table = self._table()
        flight = table.get(key)
        is_first = flight is None
        self._count(is_first)
        if flight is None:
            flight = _Flight(key, call, table)
        elif flight in _inside.get():
            raise _itself(key)
        return await flight.landed(is_first)  # type: ignore[no-any-return]

    def join(self, key: Hashable, call: Callable[[], T]) -> T:
        """Return what *call* returns, or what another thread's call for *key* comes to.

        Raises:
            RuntimeError: It is made from inside the call for that very key.
            BaseException: What the call raised.
        """
        while True:
            with self._lock:
                flight = self._threads.get(key)
                if is_first := flight is None:
                    flight = self._threads[key] = _InThread()
            assert flight is not None
            if is_first:
                self._count(True)
                return self._flown(flight, key, call)
            if flight in _inside.get():
                raise _itself(key)
            flight.has_ended.wait()
            if not flight.was_interrupted:
                self._count(False)
                return flight.outcome()  # type: ignore[no-any-return]

    def is_under_way(self, key: Hashable) -> bool:
        """Return whether a call for *key* is being made, here on this event loop or in a thread."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return key in self._threads
        return key in self._tables.get(loop, ())

    def forget(self, key: Hashable) -> None:
        """Let nobody join the calls for *key* that are under way; who waits for them still does."""
        with self._lock:
            self._threads.pop(key, None)
            for table in list(self._tables.values()):
                table.pop(key, None)

    def statistics(self) -> FlightStatistics:
        """Return what it has done so far."""
        with self._lock:
            on_loops = sum(len(table) for table in self._tables.values())
            return FlightStatistics(self._calls, self._shared, on_loops + len(self._threads))

    async def _acall(self, call: Callable[[], Awaitable[T]], facts: Facts | None) -> T:
        key = self._key_of(call)
        if facts is not None:
            facts["flow.single_flight.shared"] = self.is_under_way(key)
        return await self.ajoin(key, call)

    def _call(self, call: Callable[[], T], facts: Facts | None) -> T:
        key = self._key_of(call)
        if facts is not None:
            facts["flow.single_flight.shared"] = key in self._threads
        return self.join(key, call)

    def _key_of(self, call: Callable[[], Any]) -> Hashable:
        if self._key is None:
            raise TypeError("SingleFlight needs a key: SingleFlight('user:{user_id}'), or use join")
        return self._key.of(call)  # type: ignore[no-any-return]

    def _count(self, is_first: bool) -> None:
        with self._lock:
            if is_first:
                self._calls += 1
            else:
                self._shared += 1

    def _table(self) -> dict[Hashable, _Flight]:
        loop = asyncio.get_running_loop()
        table = self._tables.get(loop)
        if table is None:
            with self._lock:
                # A loop that was closed in the middle of a call is kept alive by that.
                for gone in [other for other in self._tables if other.is_closed()]:
                    del self._tables[gone]
                table = self._tables.setdefault(loop, {})
        return table

    def _flown(self, flight: _InThread, key: Hashable, call: Callable[[], T]) -> T:
        token = _inside.set((*_inside.get(), flight))
        try:
            flight.value = value = call()
        except Exception as error:
            flight.error, flight.trace = error, error.__traceback__
            raise
        except BaseException:  # meant for this thread alone: another one begins again
            flight.was_interrupted = True
            raise
        finally:
            _inside.reset(token)
            with self._lock:
                if self._threads.get(key) is flight:
                    del self._threads[key]
            flight.has_ended.set()
        return value


class _Flight:
    """One call and those who wait for it, on one event loop.

    Args:
        key: Its key.
        call: The call.
        table: Where others find it until it ends.
    """

    __slots__ = ("_key", "_table", "_task", "_trace", "_waiting")

    def __init__(
        self,
        key: Hashable,
        call: Callable[[], Awaitable[Any]],
        table: dict[Hashable, _Flight],
    ) -> None:
        self._key = key
        self._table = table
        self._waiting: dict[asyncio.Future[None], None] = {}
        self._trace: TracebackType | None = None
        token = _inside.set((*_inside.get(), self))
        try:
            self._task: asyncio.Task[Any | Exit] = asyncio.create_task(contained(call))
        finally:
            _inside.reset(token)
        self._task.add_done_callback(self._ended)
        table[key] = self

    async def landed(self, is_first: bool) -> Any:
        """Wait for the call; return or raise what it comes to."""
        waiting = self._waiting
        me = asyncio.get_running_loop().create_future()
        waiting[me] = None
        try:
            await me
        except BaseException as error:
            waiting.pop(me, None)
            if not waiting and not self._task.done():
                self._leave()
                if isinstance(error, asyncio.CancelledError):
                    await stopped([self._task])
                else:  # nothing can be awaited any more, and its loop may be closed
                    with suppress(RuntimeError):
                        self._task.cancel()
            raise
        task = self._task
        raised = None if task.cancelled() else task.exception()
        if raised is None:
            return outcome(task)
        raise raised.with_traceback(self._trace) if is_first else copy_of(raised, self._trace)

    def _leave(self) -> None:
        if self._table.get(self._key) is self:
            del self._table[self._key]

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._leave()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._trace = error.__traceback__
        for each in self._waiting:
            if not each.done():
                each.set_result(None)


class _InThread:
    """One call in a thread, and what it has come to."""

    def __init__(self) -> None:
        self.has_ended = threading.Event()
        self.was_interrupted = False
        self.value: Any = None
        self.error: Exception | None = None
        self.trace: TracebackType | None = None

    def outcome(self) -> Any:
        if self.error is None:
            return self.value
        raise copy_of(self.error, self.trace)


def _itself(key: Hashable) -> RuntimeError:
    return RuntimeError(
        f"the call for {key!r:.80} asks for that itself, and would wait for itself for ever"
    )
