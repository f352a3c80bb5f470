"""A second try when the first one is slow: whichever is back first is the answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Final, NamedTuple, NoReturn, TypeVar, cast

from pocketflow_async.arguments import number, whole
from pocketflow_async.clock import Clock
from pocketflow_async.hooks import Step, active
from pocketflow_async.resilience.latency import Latencies
from pocketflow_async.resilience.policy import Facts, Policy
from pocketflow_async.resilience.tasks import Exit, contained, outcome, stopped

T = TypeVar("T")

_SAMPLE: Final = 200
_MOST_LEFT: Final = 32
"""So many threads of tries that have lost may still be at work; then there are no second tries."""


class HedgeStatistics(NamedTuple):
    """What a Hedge has done so far."""

    calls: int
    """Calls that were made."""
    hedged: int
    """Those of them with more than one try."""
    won: int
    """Those in which a later try was the answer."""
    delay: float | None
    """Seconds after which there is another try now; None: there is none."""


class Hedge(Policy):
    """Tries again, beside the first try, when that takes longer than nearly all before.

    The first success is the answer; the other tries are cancelled and awaited, so make a second try
    harmless: reads, or calls that may be repeated. A try that fails while another one runs leaves
    it to that; when all have failed, the first error is raised, with the others as notes. A first
    try that fails before there is a second one fails the call: a `Retry` is for that.

    The delay is a quantile of the last 200 first tries. One that was cancelled counts with the
    time that it had: so a quantile of 0.95 stays at one second try in twenty, and does not drift
    because slow tries are cut short.

    Each try has a task of its own, in a copy of the context. In `call` it has a thread of its own,
    which nobody can stop: a try that has lost goes on to its end, and its result is dropped. There
    are no second tries while 32 of those are at work. For those who watch each try is a step,
    which says whether it has won.

        @Hedge(after=0.2)
        async def ask(question): ...

    Args:
        after: Seconds after which there is another try; None: the quantile of recent calls.
        quantile: Part of the first tries that are faster, between 0 and 1.
        minimum: First tries that must be known before there is a second one by quantile.
        limit: Most tries of one call, the first included; each comes *after* the one before.
        on: Errors that leave it to another try that runs. Any other one is the answer at once.
        name: What it is called in traces.
        clock: Its time.

    Raises:
        TypeError: An argument is of a wrong type.
        ValueError: An argument is out of range.
    """

    kind = "hedge"

    def __init__(
        self,
        *,
        after: float | None = None,
        quantile: float = 0.95,
        minimum: int = 20,
        limit: int = 2,
        on: type[Exception] | tuple[type[Exception], ...] = (Exception,),
        name: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(name, clock=clock)
        self.after = None if after is None else number("after", after)
        self.quantile = number("quantile", quantile)
        if not 0 < quantile < 1:
            raise ValueError(f"quantile must be between 0 and 1, not {quantile!r}")
        self.minimum = whole("minimum", minimum)
        if minimum > _SAMPLE:
            raise ValueError(f"minimum must be at most {_SAMPLE}, not {minimum!r}")
        self.limit = whole("limit", limit)
        self.on = _errors(on)
        self._lock = threading.Lock()
        self._sample = Latencies(_SAMPLE)
        self._calls = self._hedged = self._won = self._left = 0

    def __repr__(self) -> str:
        when = f"p{self.quantile * 100:g}" if self.after is None else f"{self.after:g} s"
        return f"<Hedge {self.name!r} after {when}, at most {self.limit} tries>"

    @property
    def delay(self) -> float | None:
        """Seconds after which there is another try; None: too few calls are known."""
        if self.limit == 1:
            return None
        if self.after is not None:
            return self.after
        with self._lock:
            if len(self._sample) < self.minimum:
                return None
            return self._sample.quantile(self.quantile)

    def statistics(self) -> HedgeStatistics:
        """Return what it has done so far."""
        delay = self.delay
        with self._lock:
            return HedgeStatistics(self._calls, self._hedged, self._won, delay)

    def reset(self) -> None:
        """Forget how long calls have taken, and all counts."""
        with self._lock:
            self._sample.clear()
            self._calls = self._hedged = self._won = 0

    async def _acall(self, call: Callable[[], Awaitable[T]], facts: Facts | None) -> T:
        now = self._time().monotonic
        delay = self.delay
        began = now()
        if delay is None:
            value = await call()
            self._done(1, 1, facts, now() - began)
            return value
        tries: list[asyncio.Task[T | Exit]] = []
        first: list[int] = []
        try:
            winner = await self._race(call, delay, tries, first, facts)
        except GeneratorExit:  # nothing can be awaited any more
            raise
        except BaseException:
            await stopped(tries)
            raise
        has_failed = winner > 0 and tries[0].done()
        self._done(len(tries), winner + 1, facts, None if has_failed else now() - began)
        await stopped(tries)
        return outcome(tries[winner])

    async def _race(
        self,
        call: Callable[[], Awaitable[T]],
        delay: float,
        tries: list[asyncio.Task[T | Exit]],
        first: list[int],
        facts: Facts | None,
    ) -> int:
        """Start tries until one of them is the answer; return which.

        Raises:
            Exception: All of them have failed, or one in a way that is the answer.
        """
        loop = asyncio.get_running_loop()
        failed: dict[int, BaseException] = {}
        due = loop.time()
        while True:
            if len(tries) < self.limit and (not tries or loop.time() >= due):
                one = partial(self._told, call, len(tries), first)
                tries.append(loop.create_task(contained(one)))
                due = loop.time() + delay
            pause = max(0.0, due - loop.time()) if len(tries) < self.limit else None
            running = [task for task in tries if not task.done()]
            await asyncio.wait(running, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
            for place, task in enumerate(tries):
                if not task.done() or place in failed:
                    continue
                error = asyncio.CancelledError() if task.cancelled() else task.exception()
                if error is None:
                    return place if isinstance(task.result(), Exit) else first[0]
                failed[place] = error
                if not isinstance(error, self.on):
                    self._lost(len(tries), facts)
                    raise error
            if len(failed) == len(tries):
                self._lost(len(tries), facts)
                _raise(failed)

    async def _told(self, call: Callable[[], Awaitable[T]], place: int, first: list[int]) -> T:
        """Make a try, as a step if anybody watches; the first to succeed is *first* in the list."""
        step = self._step_of(place)
        if step is None:
            value = await call()
            first.append(place)
            return value
        with step:
            value = await call()
            first.append(place)
            _say_who_won(step, place, first)
            return value

    def _told_here(self, call: Callable[[], T], place: int, first: list[int]) -> T:
        """Do what `_told` does, in a thread."""
        step = self._step_of(place)
        if step is None:
            value = call()
            first.append(place)
            return value
        with step:
            value = call()
            first.append(place)
            _say_who_won(step, place, first)
            return value

    def _step_of(self, place: int) -> Step | None:
        hooks = active()
        if hooks is None:
            return None
        step = Step("policy", f"{self.name}.try", self, None, hooks)
        step.facts = {
            "flow.policy": self.kind,
            "flow.hedge.try": place + 1,
            "flow.hedge.won": False,
        }
        return step

    def _call(self, call: Callable[[], T], facts: Facts | None) -> T:
        now = self._time().monotonic
        delay = self.delay
        began = now()
        if delay is None or self._left >= _MOST_LEFT:
            value = call()
            self._done(1, 1, facts, now() - began)
            return value
        return self._race_in_threads(call, delay, facts, began)

    def _race_in_threads(
        self, call: Callable[[], T], delay: float, facts: Facts | None, began: float
    ) -> T:
        now = self._time().monotonic
        back: SimpleQueue[tuple[int, Any, BaseException | None]] = SimpleQueue()
        failed: dict[int, BaseException] = {}
        first: list[int] = []
        tries, due = 0, now()
        while True:
            if tries < self.limit and (not tries or now() >= due):
                self._start(partial(self._told_here, call, tries, first), tries, back)
                tries += 1
                due = now() + delay
            try:
                pause = max(0.0, due - now()) if tries < self.limit else None
                place, value, error = back.get(timeout=pause)
            except Empty:
                continue
            if error is None and place != first[0]:
                continue  # another one was first, and is about to be here
            if error is None:
                self._done(tries, place + 1, facts, None if 0 in failed else now() - began)
                return value  # type: ignore[no-any-return]
            failed[place] = error
            if not isinstance(error, self.on):
                self._lost(tries, facts)
                raise error
            if len(failed) == tries:
                self._lost(tries, facts)
                _raise(failed)

    def _start(self, call: Callable[[], Any], place: int, back: SimpleQueue[Any]) -> None:
        """Make a try in a thread, which puts on *back* what it comes to."""

        def work() -> None:
            try:
                back.put((place, call(), None))
            except BaseException as error:  # noqa: BLE001 (it is raised where it is waited for)
                back.put((place, None, error))
            finally:
                with self._lock:
                    self._left -= 1

        with self._lock:
            self._left += 1
        threading.Thread(target=copy_context().run, args=(work,), name=self.name).start()

    def _done(self, tries: int, winner: int, facts: Facts | None, first: float | None) -> None:
        """Note a call that has an answer; *first* are the seconds of its first try so far.

        They are None where that has failed.
        """
        with self._lock:
            self._calls += 1
            self._hedged += tries > 1
            self._won += winner > 1
            if first is not None:
                self._sample.add(first)
        if facts is not None:
            facts["flow.hedge.tries"] = tries
            facts["flow.hedge.winner"] = winner

    def _lost(self, tries: int, facts: Facts | None) -> None:
        """Note a call that has failed."""
        with self._lock:
            self._calls += 1
            self._hedged += tries > 1
        if facts is not None:
            facts["flow.hedge.tries"] = tries


def _say_who_won(step: Step, place: int, first: list[int]) -> None:
    cast("Facts", step.facts)["flow.hedge.won"] = first[0] == place


def _raise(failed: dict[int, BaseException]) -> NoReturn:
    """Raise the error of the first try; the others are notes on it."""
    first, *others = (failed[place] for place in sorted(failed))
    for error in others:
        first.add_note(f"another try has failed too: {type(error).__name__}: {error}")
    raise first


def _errors(on: Any) -> tuple[type[Exception], ...]:
    kinds = on if isinstance(on, tuple) else (on,)
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, Exception)):
            raise TypeError(f"on must be classes of Exception, not {kind!r:.80}")
    return kinds
