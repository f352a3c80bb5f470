"""Trace and span ids on log records, so that a line leads to its trace and back.

For the standard library, put the filter on a handler (one on a logger misses its children):

    handler.addFilter(TraceIds())
    handler.setFormatter(logging.Formatter("%(levelname)s %(trace_id)s %(node)s %(message)s"))

For structlog, put `add_trace_ids` among the processors, before the one that renders.

The ids are those of `tracing.current_span()`, in hex as W3C Trace Context and the usual back ends
write them. `otelTraceID` and `otelSpanID` belong to OpenTelemetry's own logging instrumentation.
"""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any, Final

from tracing.context import current_span, position

FIELDS: Final = ("trace_id", "span_id", "flow", "node")
"""What a record gets: ids in hex, the name of the trace, and that of the innermost step.

A step is a node, a nested flow, or a span opened by hand.
"""


class TraceIds(logging.Filter):
    """Gives each log record the attributes `FIELDS`; lets all records pass.

    What a record has already stays, so `extra={"trace_id": …}` wins, and a record that a queue
    takes to another thread keeps what it got where it was made.

    Args:
        outside: What the attributes are outside every traced run. They are always there, so a
            format that names them never fails.
    """

    def __init__(self, outside: str = "") -> None:
        super().__init__()
        self.outside = outside

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the attributes to *record*; always True."""
        known = record.__dict__
        here = _here()
        if here is None:
            for name in FIELDS:
                known.setdefault(name, self.outside)
        else:
            for name, value in here.items():
                known.setdefault(name, value)
        return True


def add_trace_ids(
    logger: Any, method: str, event_dict: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Add `FIELDS` to a structlog event inside a traced run; outside, leave it as it is.

    Args:
        logger: Not looked at.
        method: Not looked at.
        event_dict: The event. What it has already stays.
    """
    for name, value in (_here() or {}).items():
        event_dict.setdefault(name, value)
    return event_dict


def _here() -> dict[str, str] | None:
    """Return what there is to say about where we are; None outside, or if it cannot be told."""
    try:
        now = position.get()
        span = current_span()
        if now is None or span is None:
            return None
        record = now[0]
        return {
            "trace_id": span.trace_id,
            "span_id": span.span_id,
            "flow": record.trace.name,
            "node": record.name,
        }
    except Exception:  # noqa: BLE001 - a program must not fail because it writes to its log
        return None
