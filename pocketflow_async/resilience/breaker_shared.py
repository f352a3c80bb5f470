"""A breaker whose state many processes share: what it asks, and what it does without an answer.

The breaker has its own state besides. It follows the shared one at each answer, so that it stands
where all stood when the store goes away, and decides alone from there on, by what this process
alone has seen. The shared state holds again from the first answer on.
"""

from __future__ import annotations

import asyncio
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias
from uuid import uuid4

from pocketflow_async.offloading import offload, returned
from pocketflow_async.resilience.breaker_gate import Entry, Gate, Left
from pocketflow_async.resilience.breaker_states import Command, Outcome, Settings, State
from pocketflow_async.resilience.errors import CircuitBreakerOpen

Verb: TypeAlias = Literal["admit", "record", "command"]


class Question(NamedTuple):
    """What a process asks, or says."""

    verb: Verb
    name: str
    """Name of the breaker."""
    settings: Settings
    call: str = ""
    """Id of the call, unlike any other."""
    generation: str = ""
    """For `record`: the one in which the call was let through."""
    outcome: Outcome = "nothing"
    command: Command | Literal["look"] = "look"


class Answer(NamedTuple):
    """How the breaker stands for all, after the question."""

    granted: bool
    probe: bool
    opened: bool
    """Whether what was recorded has opened it."""
    state: State
    generation: str
    """A number that grows with each change."""
    failures: int
    open_for: float | None
    """Seconds since it opened; None: it is closed."""
    reason: str
    """Of the last change."""


class SharedState(Protocol):
    """Where processes keep the state of breakers: one atomic step for each question.

    Both ways answer None, soon, when it is out of reach; that is logged where it is noticed.
    """

    @property
    def is_async(self) -> bool:
        """Whether `aask` is to be used; otherwise `ask`, from any thread."""

    async def aask(self, question: Question) -> Answer | None:
        """Ask from a task."""

    def ask(self, question: Question) -> Answer | None:
        """Ask from a thread."""


class Pass(NamedTuple):
    """What the others know of a call that was let through."""

    call: str
    generation: str
    probe: bool


class SharedGate(Gate):
    """A gate that asks *shared* about every call, in and out; see `Gate` for the rest."""

    def __init__(self, *gate: Any, shared: SharedState) -> None:
        super().__init__(*gate)
        self.shared = shared
        self._generation = -1
        self._seen: Answer | None = None
        self._pending: tuple[Command] | None = None

    async def aadmit(self) -> Entry:
        """Do as `admit`; one that is cancelled meanwhile holds no place afterwards."""
        if self._pending is not None:
            await self.arefresh()
        question = self._admission()
        asked = self._asked(question)
        try:
            answer = await returned(asked)
        except asyncio.CancelledError:
            await self._agive_back(question, _answer(asked))
            raise
        return self._entered(question, answer)

    async def acome_out(self, entry: Entry, outcome: Outcome) -> Left:
        """Do as `come_out`; if it is cancelled meanwhile, that is passed on when it is done."""
        outcome, question = self._report(entry, outcome)
        if question is None:
            return super().come_out(entry, outcome)
        asked = self._asked(question)
        try:
            answer = await returned(asked)
        except asyncio.CancelledError:
            self._came_out(entry, outcome, _answer(asked))
            raise
        return self._came_out(entry, outcome, answer)

    def admit(self) -> Entry:
        """Let a call in, from a thread.

        Raises:
            CircuitBreakerOpen: It is not let in.
            TypeError: The state can be asked from an event loop only.
        """
        if self._pending is not None:
            pending, command = self._to_say()
            self._said(pending, self._ask(command))
        question = self._admission()
        return self._entered(question, self._ask(question))

    def come_out(self, entry: Entry, outcome: Outcome) -> Left:
        """Take note of what has become of a call."""
        outcome, question = self._report(entry, outcome)
        if question is None:
            return super().come_out(entry, outcome)
        return self._came_out(entry, outcome, self._ask(question))

    def lose(self, entry: Entry) -> None:
        """Take note, here only, of a call that can ask nobody any more; its lease runs out."""
        super().come_out(entry, "nothing")

    def command(self, command: Command) -> None:
        """Do it here, and tell the others with the next call or refresh."""
        with self.lock:
            self._pending = (command,)
        super().command(command)

    async def arefresh(self) -> None:
        """Tell the others what was said by hand, if something was, and see how all stand."""
        pending, question = self._to_say()
        self._said(pending, await returned(self._asked(question)))

    def counted(self) -> tuple[int, int]:
        """Return the calls in this process's window, and the failures that count for all."""
        seen, machine = self._seen, self.machine
        return machine.calls, machine.failures if seen is None else seen.failures

    def look(self, now: float) -> None:
        """Let the state change with time, unless that is for all to decide."""
        if self._seen is None:
            super().look(now)

    def _asked(self, question: Question) -> asyncio.Future[Answer | None]:
        if self.shared.is_async:
            return asyncio.ensure_future(self.shared.aask(question))
        return asyncio.ensure_future(offload(self.shared.ask, question))

    def _ask(self, question: Question) -> Answer | None:
        if self.shared.is_async:
            raise TypeError(
                f"circuit breaker {self.name!r} shares its state through an asynchronous client: "
                "use `acall` or `async with`, or give it a client that blocks"
            )
        return self.shared.ask(question)

    def _admission(self) -> Question:
        return Question("admit", self.name, self.settings, uuid4().hex)

    def _report(self, entry: Entry, outcome: Outcome) -> tuple[Outcome, Question | None]:
        """Return the outcome, and what to say of it; None: nothing that would matter to others."""
        with self.lock:
            outcome = self.in_time(entry, outcome, self.now())
        known: Pass | None = entry.shared
        if known is None or (outcome == "nothing" and not known.probe):
            return outcome, None
        return outcome, Question(
            "record", self.name, self.settings, known.call, known.generation, outcome
        )

    def _entered(self, question: Question, answer: Answer | None) -> Entry:
        """Let the call in if it may; without an answer this process decides alone."""
        self._follow(answer)
        if answer is None:
            return super().admit()
        with self.lock:
            machine, now = self.machine, self.now()
            if answer.granted:
                ticket = machine.take(now, answer.probe)
                known = Pass(question.call, answer.generation, answer.probe)
                return Entry(ticket, answer.state, answer.failures, now, known)
            machine.counts.refused += 1
        wait = None
        if answer.state == "open" and answer.open_for is not None:
            wait = max(0.0, self.settings.reset_timeout - answer.open_for)
        raise CircuitBreakerOpen(self.name, answer.failures, answer.state, wait)

    def _came_out(self, entry: Entry, outcome: Outcome, answer: Answer | None) -> Left:
        if answer is None:
            self._follow(None)
            return super().come_out(entry, outcome)
        with self.lock:
            self.machine.note(entry.ticket, outcome, self.now())
        self._follow(answer)
        return Left(answer.state, answer.failures, answer.opened)

    async def _agive_back(self, question: Question, answer: Answer | None) -> None:
        if answer is None or not answer.probe:
            return
        back = question._replace(verb="record", generation=answer.generation)
        try:
            await returned(self._asked(back))
        except asyncio.CancelledError:
            return  # told again; the first one is on its way already

    def _follow(self, answer: Answer | None) -> None:
        """Become as all stand; an answer that another has overtaken says nothing new."""
        with self.lock:
            if answer is None:
                self._seen = None
                return
            generation = int(answer.generation)
            if generation < self._generation or self._pending is not None:
                return
            self._generation, self._seen = generation, answer
            now = self.now()
            self.machine.adopt(answer.state, answer.reason, answer.failures, answer.open_for, now)
        if self.machine.changes:
            self.tell()

    def _to_say(self) -> tuple[tuple[Command] | None, Question]:
        pending = self._pending
        if pending is None:
            return None, Question("command", self.name, self.settings)
        return pending, Question("command", self.name, self.settings, command=pending[0])

    def _said(self, pending: tuple[Command] | None, answer: Answer | None) -> None:
        if answer is not None:
            with self.lock:
                if self._pending is pending:
                    self._pending = None
        self._follow(answer)


def _answer(asked: asyncio.Future[Answer | None]) -> Answer | None:
    """Return what has come back, now that nobody waits for it any more."""
    return None if asked.cancelled() or asked.exception() is not None else asked.result()
