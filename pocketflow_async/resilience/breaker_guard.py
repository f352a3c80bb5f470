"""One call that a circuit breaker guards, as a context manager that tells how it came out."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import TYPE_CHECKING

from pocketflow_async.hooks import Step, active
from pocketflow_async.resilience.breaker_gate import Entry, Gate, Left
from pocketflow_async.resilience.breaker_shared import SharedGate
from pocketflow_async.resilience.breaker_states import Outcome
from pocketflow_async.resilience.breaker_verdict import Judge
from pocketflow_async.resilience.errors import CircuitBreakerOpen
from pocketflow_async.resilience.policy import Facts

if TYPE_CHECKING:
    from pocketflow_async.resilience.breaker import CircuitBreaker


class Guard:
    """Guards the block of one `with` or `async with`; made by `CircuitBreaker.guard`.

        guard = breaker.guard()
        async with guard:
            response = await client.get(url)
            guard.result(response)  # only needed for `is_bad_result`
        print(guard.state)

    Attributes:
        breaker: Whose it is.
        state: Of the breaker when the call was let through or refused; after the block, then.
        failures: How many counted, at those moments.
        opened: Whether this call has opened it.
        refusal: What was raised in place of the call, if it was not let through.
    """

    __slots__ = (
        "_entry", "_facts", "_gate", "_judge", "_outcome", "_step", "breaker", "failures", "opened",
        "refusal", "state",
    )  # fmt: skip

    def __init__(
        self, breaker: CircuitBreaker, gate: Gate, judge: Judge, facts: Facts | None = None
    ) -> None:
        self.breaker = breaker
        self.state: str = "closed"
        self.failures = 0
        self.opened = False
        self.refusal: CircuitBreakerOpen | None = None
        self._gate = gate
        self._judge = judge
        self._facts = facts
        self._step: Step | None = None
        self._entry: Entry | None = None
        self._outcome: Outcome = "success"

    def result(self, value: object) -> None:
        """Let `is_bad_result` see what the call has returned, before the block ends."""
        self._outcome = self._judge.of_value(value)

    def __enter__(self) -> Guard:
        self._watch()
        try:
            self._let_in(self._gate.admit())
        except BaseException as error:
            self._not_let_in(error)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._is_out(self._gate.come_out(self._taken(), self._judged(error)))
        finally:
            self._unwatch(kind, error, trace)

    async def __aenter__(self) -> Guard:
        gate = self._gate
        if not isinstance(gate, SharedGate):
            return self.__enter__()
        self._watch()
        try:
            self._let_in(await gate.aadmit())
        except BaseException as error:
            self._not_let_in(error)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        gate = self._gate
        if not isinstance(gate, SharedGate):
            self.__exit__(kind, error, trace)
            return
        try:
            if isinstance(error, Exception | asyncio.CancelledError | None):
                self._is_out(await gate.acome_out(self._taken(), self._judged(error)))
            else:  # the program ends, or the coroutine is thrown away: nothing can be awaited
                gate.lose(self._taken())
        finally:
            self._unwatch(kind, error, trace)

    def _watch(self) -> None:
        """Begin a step, where somebody watches and nobody has begun one."""
        if self._entry is not None:
            raise RuntimeError("a guard is for one call: take a new one from `breaker.guard()`")
        if self._facts is None and (hooks := active()) is not None:
            self._facts = {}
            self._step = self.breaker._step(hooks, self._facts)
            self._step.__enter__()

    def _unwatch(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        step, self._step = self._step, None
        if step is not None:
            step.__exit__(kind, error, trace)

    def _let_in(self, entry: Entry) -> None:
        self._entry = entry
        self.state, self.failures = entry.state, entry.failures
        facts = self._facts
        if facts is not None:
            facts["flow.breaker.state"] = entry.state
            facts["flow.breaker.failures"] = entry.failures
            if entry.ticket.probe is not None:
                facts["flow.breaker.probe"] = True
            if isinstance(self._gate, SharedGate):
                facts["flow.breaker.shared"] = entry.shared is not None

    def _not_let_in(self, error: BaseException) -> None:
        if isinstance(error, CircuitBreakerOpen):
            self.refusal = error
            self.state, self.failures = error.state, error.failures
            if self._facts is not None:
                self._facts["flow.breaker.state"] = error.state
                self._facts["flow.breaker.failures"] = error.failures
                self._facts["flow.breaker.refused"] = True
        self._unwatch(type(error), error, error.__traceback__)

    def _is_out(self, left: Left) -> None:
        self.state, self.failures, self.opened = left
        if self._facts is not None and left.state != self._taken().state:
            self._facts["flow.breaker.became"] = left.state

    def _judged(self, error: BaseException | None) -> Outcome:
        return self._outcome if error is None else self._judge.of_error(error)

    def _taken(self) -> Entry:
        if self._entry is None:
            raise RuntimeError("the guard was left before it was entered")
        return self._entry
