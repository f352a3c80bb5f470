"""What the recorder notes while a flow runs: plain slotted data, no behaviour, no I/O.

One `Record` per visit of a node (or flow, batch item, traced function), with its phases inside.
Spans are made from records later, off the event loop (`tracing.store`).

Times are nanoseconds of `time.perf_counter_ns`, so that a changed wall clock cannot bend a trace;
`Trace.wall` turns them into Unix time. Ids are plain integers and fixed when the record starts, so
that whatever the user opens inside has its right parent at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from tracing.redact import Redactor

COMPLETED: Final = "completed"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"
TIMED_OUT: Final = "timed_out"
HALTED: Final = "halted"
SKIPPED: Final = "skipped"
OUTCOMES: Final = (COMPLETED, FAILED, CANCELLED, TIMED_OUT, HALTED, SKIPPED)
"""How a finished record ended. An open one is `RUNNING`, or `INTERRUPTED` once its process died."""

RUNNING: Final = "running"
INTERRUPTED: Final = "interrupted"

_MASK: Final = (1 << 64) - 1
_STRIDE: Final = (
    0x9E3779B97F4A7C15  # 2**64 / golden ratio, odd: multiples do not meet for 2**64 steps
)


class Failure(NamedTuple):
    """An exception as data: it keeps no frame and no object of the program alive."""

    type: str
    message: str
    frames: tuple[tuple[str, int, str], ...] = ()
    """File, line and function of each traceback entry, outermost first."""


class Keep(NamedTuple):
    """What makes a trace matter that the ratio of sampling has left out."""

    failed: bool
    """Something in it failed, timed out or was interrupted."""
    retried: bool
    """Something in it was tried again."""
    slow_ns: int | None
    """It took at least so long, in nanoseconds; None: that does not count."""


@dataclass(slots=True, eq=False)
class Trace:
    """What every record of one trace shares; nothing in it changes once the root has started."""

    trace_id: int
    name: str
    wall_ns: int
    """Unix time, in nanoseconds, at the moment `clock_ns`."""
    clock_ns: int
    session_id: str | None = None
    user_id: str | None = None
    tags: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)
    under: object = None
    """What `propagate` said where it began: its records need not say that again."""
    route: object = None
    """Where its records are sent to, as `tracing.export.model.Route`; None: nowhere."""
    keep: Keep | None = None
    """What has to happen in it for it to be sent; None: it is sent in any case."""
    state: str = ""
    """W3C tracestate that came with it."""

    def wall(self, clock_ns: int) -> int:
        """Return the Unix time, in nanoseconds, of a moment of the monotonic clock."""
        return self.wall_ns + clock_ns - self.clock_ns


class Phase:
    """One `prep`, attempt of `exec`, `fallback`, `post` or suspension inside a record.

    Class attributes and not slots: three are made a node, and most keep the defaults.
    """

    attempt: int = 0
    """0-based number of the attempt, for `exec` only."""
    end: int | None = None
    outcome: str | None = None
    error: Failure | None = None
    wait: float | None = None
    """Seconds the engine waits after this failed attempt before the next; None: no next one."""
    note: str | None = None
    """Why the node is suspended, for `suspended` only."""

    def __init__(self, kind: str, start: int, attempt: int = 0) -> None:
        self.kind = kind
        self.start = start
        if attempt:
            self.attempt = attempt


class Record:
    """One visit of a node, flow, batch item or traced function."""

    index: int | None = None
    """Place in its batch, for items."""
    end: int | None = None
    outcome: str | None = None
    error: Failure | None = None
    input: bytes | None = None
    """JSON, as `encode` made it; None: not recorded."""
    output: bytes | None = None
    attributes: dict[str, Any] | None = None
    """Plain data, the record's own: whoever adds to it changes it in place."""
    size: int = 0
    """Bytes of content that the buffer accounts for."""
    redactor: Redactor | None = None
    """What takes out what its own settings call secret; None: what the store takes out."""
    host: Record | None = None
    """The record that it was opened in, until it is stored; None for a root.

    Its `parent_id` may be that of a phase of the host; the store writes down which.
    """

    def __init__(
        self,
        trace: Trace,
        span_id: int,
        parent_id: int | None,
        kind: str,
        name: str,
        start: int,
        index: int | None = None,
    ) -> None:
        self.trace = trace
        self.span_id = span_id
        self.parent_id = parent_id
        """None for the root of the trace."""
        self.kind = kind
        """flow, node, item, workflow, function, span, generation …, or event or score."""
        self.name = name
        self.start = start
        self.phases: list[Phase] = []
        if index is not None:
            self.index = index


def phase_id(span_id: int, ordinal: int) -> int:
    """Return the span id of phase number *ordinal* (0-based) of the record *span_id*.

    It follows from the record's own id, so the recorder and every later reader agree on it
    without storing it. Never 0, which OpenTelemetry calls invalid.
    """
    return (span_id + (ordinal + 1) * _STRIDE) & _MASK or 1


def host_id(span_id: int, ordinal: int) -> int:
    """Undo `phase_id`: return the id of the record whose phase number *ordinal* is *span_id*."""
    return (span_id - (ordinal + 1) * _STRIDE) & _MASK
