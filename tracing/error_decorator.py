"""`async_error_handler`: report what a function raises."""

from __future__ import annotations

import asyncio
import reprlib
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import TYPE_CHECKING, Any

from tracing.error_execution import called

if TYPE_CHECKING:
    from tracing.async_error_handling import AsyncErrorHandler


def async_error_handler(
    error_handler: AsyncErrorHandler,
) -> Callable[[Callable[..., Any]], Callable[..., Coroutine[Any, Any, Any]]]:
    """Report what the decorated function raises, and raise it again.

    The function may be plain; decorated, it is async either way. Cancellation is reported too.

    Args:
        error_handler: Whom to report to.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Coroutine[Any, Any, Any]]:
        @wraps(function)
        async def reporting(*args: Any, **kwargs: Any) -> Any:
            try:
                return await called(function, args, kwargs)
            except (Exception, asyncio.CancelledError) as error:
                said = {
                    "function": getattr(function, "__name__", repr(function)),
                    "args": reprlib.repr(args),
                    "kwargs": reprlib.repr(kwargs),
                }
                await error_handler.report_once(error, None, None, said)
                raise

        return reporting

    return decorate
