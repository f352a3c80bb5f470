"""What the recorder asks of OpenTelemetry; costs a look into `sys.modules` where nobody uses it.

A failure in here is a failure of tracing: it is reported once, and the run goes on without.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from tracing.record import Record

if TYPE_CHECKING:
    from tracing.context import Position
    from tracing.recorder import Recorder

logger = logging.getLogger(__name__)

_modules = sys.modules
_API = "opentelemetry.trace"
_said: list[str] = []
_bridge: Any = None
"""`tracing.otel.current`, once it is needed: an import statement takes a microsecond each time."""


class Above(NamedTuple):
    """A span that is not ours, and is what a run hangs under."""

    trace_id: int
    span_id: int
    sampled: bool = True
    state: str = ""
    """W3C tracestate."""
    whence: str = ""
    """One of `names.PARENTS`; empty where its record is in our store."""
    record: Record | None = None
    """What our store has of it, where it came in through a `RecordingProcessor`."""
    link: bool = False
    """Whether it is only linked to, and the run has a trace of its own."""


def above(now: Position | None) -> Above | None:
    """Return what a run that starts at *now* hangs under, where that is a span of OpenTelemetry.

    Outside any trace of ours that is whatever span is current, here or in the process that called
    us. Inside one it is a span that the program has opened itself since, in this very trace.
    """
    if _API not in _modules:
        return None
    try:
        found: Above | None = (_bridge or _load()).stranger()
    except Exception:  # noqa: BLE001 (it is reported)
        _report("the current span of OpenTelemetry is not seen")
        return None
    if found is None or now is None:
        return found
    inside = found.trace_id == now[0].trace.trace_id and found.sampled and not found.link
    return found if inside else None


def show(record: Record, recorder: Recorder) -> Any:
    """Make our position the current span of OpenTelemetry; return what `leave` needs, or None."""
    if _API not in _modules:
        return None
    try:
        return (_bridge or _load()).enter(record, recorder)
    except Exception:  # noqa: BLE001 (it is reported)
        _report("OpenTelemetry does not see this run")
        return None


def hide(record: Record, sampled: bool) -> Any:
    """Keep what OpenTelemetry does from now on out of our traces.

    Args:
        record: Where we are; what OpenTelemetry starts has that as its parent.
        sampled: Whether it is recorded elsewhere all the same.

    Returns:
        What `leave` needs, or None.
    """
    if _API not in _modules:
        return None
    try:
        return (_bridge or _load()).veil(record, sampled)
    except Exception:  # noqa: BLE001 (it is reported)
        _report("OpenTelemetry is not told that this run is not recorded")
        return None


def leave(shown: Any) -> None:
    """Undo `show` or `hide`, wherever we are by now; None is nothing to undo."""
    if shown is not None:
        try:
            shown.leave()
        except Exception:  # noqa: BLE001 (it is reported)
            _report("the context of OpenTelemetry is not restored")


def _load() -> Any:
    global _bridge
    from tracing.otel import current  # noqa: PLC0415 (only where OpenTelemetry is loaded anyway)

    _bridge = current
    return current


def _report(what: str) -> None:
    if what not in _said:
        _said.append(what)
        logger.exception("%s; this is said once", what)
