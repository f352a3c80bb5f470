"""`cur_retry`: the number of the attempt under way, each concurrent run's own.

PocketFlow keeps it in the node's `__dict__`, where parallel items of one node overwrite each other.
Where one object can be at work several times at once (its `run` called by hand, the items of a
parallel batch), the attempt under way is in a ContextVar, so every task and thread reads its own. A
flow gives each visit a copy of its own, for which the `__dict__` will do; it has the last value
written in any case, for those who look from outside after the run.
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from pocketflow_async.nodes import Node

# The node at work and the number of its attempt; None before its first.
_Attempt: TypeAlias = tuple[object, int | None]
_attempt: ContextVar[_Attempt | None] = ContextVar("pocketflow_attempt", default=None)


class CurrentRetry:
    """Descriptor of `cur_retry` (0-based). Reading it before the first attempt: AttributeError."""

    def __get__(self, node: Node[Any, Any, Any] | None, owner: type[Any]) -> int:
        if node is None:
            return self  # type: ignore[return-value]  # what every descriptor says of itself
        now = _attempt.get()
        if now is not None and now[0] is node and now[1] is not None:
            return now[1]
        try:
            value: int = node.__dict__["cur_retry"]
        except KeyError:
            raise AttributeError(
                f"{owner.__name__!r} object has no attribute 'cur_retry' before its exec has begun"
            ) from None
        return value

    def __set__(self, node: Node[Any, Any, Any], value: int) -> None:
        now = _attempt.get()
        if now is not None and now[0] is node:
            _attempt.set((node, value))
        node.__dict__["cur_retry"] = value

    def __delete__(self, node: Node[Any, Any, Any]) -> None:
        del node.__dict__["cur_retry"]


def has_own_attempts(node: object) -> bool:
    """Return whether *node* has a `cur_retry` of this context's own."""
    now = _attempt.get()
    return now is not None and now[0] is node


class own_attempts:
    """Give *node* a `cur_retry` of this context's own for the length of a block."""

    __slots__ = ("_node", "_token")

    def __init__(self, node: object) -> None:
        self._node = node

    def __enter__(self) -> None:
        self._token: Token[_Attempt | None] = _attempt.set((self._node, None))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _attempt.reset(self._token)
