"""One trace over a crash: what goes on is part of the trace that it began in."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from contextvars import Context
from typing import Any, TypeVar

from pocketflow_async.clock import clock, using_clock
from pocketflow_async.hooks import active, guarding, observing
from pocketflow_async.infrastructure.checkpoints.traces import continued as here_continued
from pocketflow_async.resilience.tasks import stopped

T = TypeVar("T")
logger = logging.getLogger(__name__)


async def continued(trace: str | None, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Await *call* in the trace that *trace* names.

    It has a context of its own then, with the observers, gates and clock of ours: it is not part of
    what we do. Without a trace, or where nobody watches, it is simply awaited. Cancelling this
    cancels it.

    Args:
        trace: W3C `traceparent`; None: it has no trace.
        call: What to do.
    """
    hooks = active()
    if trace is None or hooks is None or not hooks.observers:
        with here_continued(trace):  # for what the handlers have traced by others
            return await call()
    here = clock()

    async def inside() -> T:
        with ExitStack() as stack:
            for observer in hooks.observers:
                stack.enter_context(observing(observer))
            for gate in hooks.gates:
                stack.enter_context(guarding(gate))
            stack.enter_context(using_clock(here))
            _attach(trace)
            return await call()

    task = asyncio.get_running_loop().create_task(inside(), context=Context())
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await stopped([task])
        raise


def _attach(trace: str) -> None:
    """Make the span that *trace* names the current one of OpenTelemetry, if that is installed."""
    try:
        from opentelemetry.context import attach  # noqa: PLC0415 (only where runs are watched)
        from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415 (likewise)
            TraceContextTextMapPropagator,
        )
    except ImportError:
        return
    try:
        attach(TraceContextTextMapPropagator().extract({"traceparent": trace}))
    except Exception:
        logger.exception("the trace %r is not continued", trace)
