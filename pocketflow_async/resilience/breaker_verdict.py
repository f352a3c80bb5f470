"""What the outcome of a call says of what was called: a success, a failure, or nothing."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from pocketflow_async.resilience.breaker_states import Outcome
from pocketflow_async.resilience.errors import ResilienceError

logger = logging.getLogger(__name__)

IsFailure: TypeAlias = Callable[[Exception], "bool | None"]
"""Says of an error whether the service has failed; None: the error says nothing of the service."""

MISTAKES: Final = (
    AssertionError,
    AttributeError,
    LookupError,
    NameError,
    SyntaxError,
    TypeError,
    ValueError,
)
"""Errors that speak of the caller's own code or input, not of what it called."""


def is_failure(error: Exception) -> bool | None:
    """Say whether *error* speaks against what was called; the default of `CircuitBreaker`.

    It does, unless it is a mistake of the caller (`TypeError`, `ValueError`, `KeyError` and their
    kin), or another policy's refusal, which never reached the service: both say nothing. Answers
    that cannot be read (`UnicodeError`, any `JSONDecodeError`) are failures although they are
    `ValueError`, and so are all timeouts.
    """
    if isinstance(error, TimeoutError | UnicodeError):
        return True
    if isinstance(error, ResilienceError):
        return None
    if isinstance(error, MISTAKES):
        # By name: every library has one of its own.
        names = (kind.__name__ for kind in type(error).__mro__)
        return True if "JSONDecodeError" in names else None
    return True


def of_classes(classes: tuple[type[Exception], ...]) -> IsFailure:
    """Return the judgement by which errors of *classes* are failures, and others are answers.

    Those that say nothing by themselves still say nothing, unless they are named.
    """

    def decide(error: Exception) -> bool | None:
        if isinstance(error, classes):
            return True
        return None if is_failure(error) is None else False

    return decide


class Judge:
    """Tells what a call has come to; whatever its own functions raise is logged, not passed on.

    Args:
        failure: Says which errors are failures: a function, or a class of errors or several of
            them; None: `is_failure`.
        bad_result: Says which results are failures; None: none.
        slow_after: Seconds after which any call is a failure, whatever has become of it; None:
            a call may take any time.

    Raises:
        TypeError: Something cannot be called, or is asynchronous.
    """

    __slots__ = ("_bad_result", "_failure", "slow_after")

    def __init__(
        self, failure: Any, bad_result: Callable[[Any], object] | None, slow_after: float | None
    ) -> None:
        self._failure = _judgement(failure)
        self._bad_result = _plain("is_bad_result", bad_result)
        self.slow_after = slow_after

    def of_error(self, error: BaseException) -> Outcome:
        """Judge a call that has raised *error*; being cancelled says nothing."""
        if not isinstance(error, Exception):
            return "nothing"
        try:
            failed = self._failure(error)
        except Exception as own:
            own.__context__ = None  # what the call has raised is its caller's, and not for the log
            logger.exception("is_failure failed at a %s; it is taken for one", type(error).__name__)
            return "failure"
        if failed is None:
            return "nothing"
        return "failure" if failed else "success"

    def of_value(self, value: Any) -> Outcome:
        """Judge a call that has returned *value*."""
        if self._bad_result is None:
            return "success"
        try:
            return "failure" if self._bad_result(value) else "success"
        except Exception:
            kind = type(value).__name__
            logger.exception("is_bad_result failed at a %s; it is taken for good", kind)
            return "success"


def _judgement(given: Any) -> IsFailure:
    if given is None:
        return is_failure
    classes = given if isinstance(given, tuple) else (given,)
    if all(isinstance(one, type) for one in classes):
        for one in classes:
            if not issubclass(one, Exception):
                raise TypeError(f"is_failure names {one.__name__}, which is no Exception")
        return of_classes(classes)
    judge: IsFailure | None = _plain("is_failure", given)
    assert judge is not None
    return judge


def _plain(name: str, function: Any) -> Any:
    if function is None:
        return None
    if not callable(function):
        raise TypeError(f"{name} must be callable, not {function!r:.80}")
    if inspect.iscoroutinefunction(function):
        raise TypeError(f"{name} must be a plain function: it is asked while nothing may wait")
    return function
