"""An answer in place of an error."""

from __future__ import annotations

import copy
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from pocketflow_async.resilience.matching import Errors, matcher
from pocketflow_async.resilience.policy import Facts, Policy

T = TypeVar("T")

_USED: Final = "flow.fallback.used"
_ERROR: Final = "flow.fallback.error"

logger = logging.getLogger(__name__)


class Fallback(Policy):
    """Answers for a call that has failed.

        @Fallback([], on=ConnectionError)
        async def newest(): ...

        @Fallback(lambda error: cached())
        async def fetch(): ...

    A cancelled call has no answer. What is answered is logged (level DEBUG) with the error.

    It keeps nothing from one call to the next; it may be shared by tasks, event loops and threads.

    Args:
        answer: A value, of which each caller gets a deep copy where there can be one. Or a
            function that takes the error, or nothing; for asynchronous calls it may be
            asynchronous. What that raises is raised in place of the error.
        on: Errors that it answers: a class, classes, or a function of the error. Only an
            `Exception` is one, whatever it says.
        name: What it is called in traces.

    Raises:
        TypeError: An argument is of a wrong type.
    """

    kind = "fallback"

    def __init__(self, answer: Any, *, on: Errors = (Exception,), name: str | None = None) -> None:
        super().__init__(name)
        self.on = matcher(on)
        self._answer = answer
        self._takes_error = callable(answer) and _takes_one(answer)

    def __repr__(self) -> str:
        answer = self._answer
        shown = getattr(answer, "__qualname__", "…") if callable(answer) else type(answer).__name__
        return f"Fallback({shown}, on={self.on!r})"

    async def _acall(self, call: Callable[[], Awaitable[T]], facts: Facts | None) -> T:
        if facts is not None:
            facts[_USED] = False
        try:
            return await call()
        except Exception as error:
            if not self.on.takes(error):
                raise
            answer = self._answered(error, facts)
            if callable(self._answer) and inspect.isawaitable(answer):
                answer = await answer
            return answer  # type: ignore[no-any-return]  # the caller's own business

    def _call(self, call: Callable[[], T], facts: Facts | None) -> T:
        if facts is not None:
            facts[_USED] = False
        try:
            return call()
        except Exception as error:
            if not self.on.takes(error):
                raise
            answer = self._answered(error, facts)
            if callable(self._answer) and inspect.iscoroutine(answer):
                answer.close()
                raise TypeError(
                    "the answer is asynchronous: it goes with asynchronous calls only"
                ) from error
            return answer  # type: ignore[no-any-return]

    def _answered(self, error: Exception, facts: Facts | None) -> Any:
        if facts is not None:
            facts[_USED] = True
            facts[_ERROR] = type(error).__name__
        logger.debug("%s answers for %s", self.name, type(error).__name__, exc_info=error)
        answer = self._answer
        if not callable(answer):
            return _copied(answer)
        return answer(error) if self._takes_error else answer()


def _copied(value: Any) -> Any:
    try:
        return copy.deepcopy(value)
    except Exception:  # noqa: BLE001 (a lock, a connection: shared as it is)
        return value


def _takes_one(function: Callable[..., Any]) -> bool:
    try:
        inspect.signature(function).bind(None)
    except TypeError:
        return False
    except ValueError:  # some built-in functions do not tell
        return True
    return True
