"""Errors of the engine, each with a message that says what to do next.

FlowError
├── UseRunAsyncError (RuntimeError)    a synchronous call on something asynchronous
├── NodeTimeoutError (TimeoutError)    one attempt of a node took too long
├── FlowTimeoutError (TimeoutError)    a whole flow took too long
├── StepLimitError (RuntimeError)      a flow visited more nodes than `max_steps`
├── UnknownActionError (LookupError)   a strict flow got an action that leads nowhere
└── InvalidFlowError (ValueError)      a strict flow has problems that `validate()` found
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


class FlowError(Exception):
    """Base of all errors that the engine itself raises."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy by the message, since each class makes its own of other arguments."""
        return (_again, (type(self), self.args), self.__dict__)


def _again(cls: type[FlowError], args: tuple[Any, ...]) -> FlowError:
    error = cls.__new__(cls)
    error.args = args
    return error


class UseRunAsyncError(FlowError, RuntimeError):
    """Raised when `run()` is called on a node or flow whose work is asynchronous."""

    def __init__(self, name: str | None = None) -> None:
        hint = "" if name is None else f" {name} is asynchronous: `await it.run_async(shared)`,"
        tail = "" if name is None else " and put it into an AsyncFlow, not into a Flow."
        super().__init__(f"Use run_async.{hint}{tail}")


class NodeTimeoutError(FlowError, TimeoutError):
    """Raised when one attempt of a node's exec took longer than the node's `timeout`."""

    def __init__(self, name: str, seconds: float) -> None:
        super().__init__(
            f"{name}: exec took longer than {seconds:g} s. "
            "Raise the node's timeout=, or give it max_retries= or an exec_fallback."
        )
        self.name = name
        self.seconds = seconds


class FlowTimeoutError(FlowError, TimeoutError):
    """Raised when a flow took longer than its `timeout`."""

    def __init__(self, name: str, seconds: float) -> None:
        super().__init__(f"flow {name} took longer than its timeout of {seconds:g} s")
        self.name = name
        self.seconds = seconds


class StepLimitError(FlowError, RuntimeError):
    """Raised when a flow is about to visit more nodes than its `max_steps` allows."""

    def __init__(
        self, name: str, limit: int, recent: Iterable[tuple[str, object]], following: str
    ) -> None:
        trail = " ".join(f"{node} -({action})->" for node, action in recent)
        super().__init__(
            f"flow {name} has taken its {limit} steps and would go on. "
            f"The last ones: {trail} {following}. "
            "Look for a loop that never ends, or raise max_steps=."
        )
        self.name = name
        self.limit = limit


class UnknownActionError(FlowError, LookupError):
    """Raised by a strict flow when a node returns an action that has no successor."""

    def __init__(self, node: str, action: object, known: Sequence[str]) -> None:
        super().__init__(
            f"{node} returned the action {action!r}, but its successors are {list(known)}. "
            f"Connect it (node - {action!r} >> other), or name it in the flow's ends=."
        )
        self.node = node
        self.action = action


class InvalidFlowError(FlowError, ValueError):
    """Raised by a strict flow, before it runs, when `validate()` finds problems."""

    def __init__(self, name: str, problems: Sequence[object]) -> None:
        lines = "".join(f"\n- {problem}" for problem in problems)
        super().__init__(f"flow {name} cannot run as it is:{lines}")
        self.name = name
        self.problems = tuple(problems)
