"""What becomes of a node that failed: when it is tried again, and what stands in for its output."""

from __future__ import annotations

import copy
import inspect
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from pocketflow_async.workflow.retrying import RetryPolicy, RetryStrategy
from pocketflow_async.workflow.spec import Context

if TYPE_CHECKING:
    from pocketflow_async.workflow.code import Compiled

__all__ = ["AsyncRetryPolicy", "ErrorHandler", "RetryPolicy", "RetryStrategy"]

AsyncRetryPolicy = RetryPolicy

HandlerType = Literal["log", "ignore", "fallback", "custom"]
_TYPES: Final = get_args(HandlerType)
_LEVELS: Final = ("debug", "info", "warning", "error", "critical")
_log = logging.getLogger("pocketflow_async.workflow")


@dataclass(frozen=True)
class ErrorHandler:
    """What stands in for the output of a node that has failed for good, and then counts as done.

    Attributes:
        handler_type: `log` and `ignore` yield None; `fallback` yields *fallback_value*; `custom`
            yields what *custom_handler* does. All but `ignore` write to the log.
        fallback_value: Yielded as a copy, so that no run sees what another did to it.
        custom_handler: Called with the error and, if it takes two arguments, the inputs; may be
            asynchronous. Or a code string, which has the inputs and `error`, `error_type` and
            `error_message` as names and leaves a `result`. What it raises fails the node.
        log_level: `debug`, `info`, `warning`, `error` or `critical`.
    """

    handler_type: HandlerType
    fallback_value: Any = None
    custom_handler: str | Callable[..., Any] | None = None
    log_level: str = "error"
    _compiled: Compiled | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.handler_type not in _TYPES:
            raise ValueError(f"handler_type must be one of {_TYPES}, not {self.handler_type!r:.80}")
        if str(self.log_level).lower() not in _LEVELS:
            raise ValueError(f"log_level must be one of {_LEVELS}, not {self.log_level!r:.80}")
        handler = self.custom_handler
        if handler is None and self.handler_type == "custom":
            raise ValueError("custom_handler must be given with handler_type='custom'")
        if handler is not None and not isinstance(handler, str) and not callable(handler):
            raise TypeError(
                f"custom_handler must be a function or a code string, not {type(handler).__name__}"
            )
        if isinstance(handler, str):
            from pocketflow_async.workflow.code import (  # noqa: PLC0415 (most have no code)
                compile_code,
            )

            compiled = compile_code(handler, node_id="custom_handler", is_async=True)
            object.__setattr__(self, "_compiled", compiled)

    async def handle(
        self, error: Exception, *, node_id: str, inputs: Mapping[str, Any], context: Context
    ) -> Any:
        """Return what the node *node_id* yields instead, having failed with *error*.

        Raises:
            Exception: Whatever a custom handler raises.
        """
        if self.handler_type != "ignore":
            level = logging.getLevelNamesMapping()[self.log_level.upper()]
            name = type(error).__name__
            _log.log(level, "node %r failed: %s: %s", node_id, name, error, exc_info=error)
        if self.handler_type == "fallback":
            return _copy(self.fallback_value)
        if self.handler_type == "custom":
            return await self._custom(error, inputs, context)
        return None

    async def _custom(self, error: Exception, inputs: Mapping[str, Any], context: Context) -> Any:
        if self._compiled is not None:
            facts = {"error_type": type(error).__name__, "error_message": str(error)}
            return await self._compiled.run({**inputs, "error": error, **facts}, context)
        handler = self.custom_handler
        assert callable(handler)  # __post_init__ has made sure
        value = handler(error, inputs) if _takes_two(handler) else handler(error)
        return await value if inspect.isawaitable(value) else value

    def to_dict(self) -> dict[str, Any]:
        """Return its arguments, for metadata and for files; see `from_dict`.

        Raises:
            TypeError: Its custom handler is a function, which cannot be written down.
        """
        if callable(self.custom_handler):
            raise TypeError("custom_handler is a function: only a code string can be saved")
        return {
            "handler_type": self.handler_type,
            "fallback_value": self.fallback_value,
            "custom_handler": self.custom_handler,
            "log_level": self.log_level,
        }

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> ErrorHandler:
        """Make one of what `to_dict` returned."""
        return cls(**given)


def _copy(value: Any) -> Any:
    try:
        return copy.deepcopy(value)
    except (TypeError, copy.Error, RecursionError):  # a lock, a connection: shared as it is
        return value


def _takes_two(function: Callable[..., Any]) -> bool:
    try:
        inspect.signature(function).bind(None, None)
    except (TypeError, ValueError):
        return False
    return True
