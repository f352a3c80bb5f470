"""How a trace begins, and what a record has from where it begins."""

from __future__ import annotations

from time import perf_counter_ns, time_ns
from typing import Any

from tracing.ids import new_trace_id
from tracing.names import LINKS, PARENT
from tracing.otel.seam import Above
from tracing.propagation import propagated, united
from tracing.record import Keep, Record, Trace


def new_trace(
    name: str,
    session_id: str | None = None,
    user_id: str | None = None,
    tags: tuple[str, ...] = (),
    metadata: dict[str, Any] | None = None,
    route: object = None,
    parent: Above | None = None,
    trace_id: int | None = None,
    keep: Keep | None = None,
) -> Trace:
    """Start a trace, anchored to the wall clock now; what `propagate` says comes first.

    Args:
        name: Name of the trace.
        session_id: Session, where `propagate` says none.
        user_id: User, where `propagate` says none.
        tags: Tags, besides the propagated ones.
        metadata: Facts by name, besides the propagated ones.
        route: Where its records are sent to.
        parent: The span of somebody else whose trace it continues; None: it is a trace of its own.
        trace_id: Its id, where it is a trace of its own; None: a new one.
        keep: What has to happen in it for it to be sent; None: it is sent in any case.
    """
    said = propagated.get()
    continued = parent is not None and not parent.link
    if said is not None:
        session_id = said.session_id or session_id
        user_id = said.user_id or user_id
        tags = united(tags, said.tags)
        metadata = {**(metadata or {}), **said.metadata}
    return Trace(
        parent.trace_id if continued else trace_id or new_trace_id(),  # type: ignore[union-attr]
        name,
        time_ns(),
        perf_counter_ns(),
        session_id,
        user_id,
        tags,
        metadata or {},
        said,
        route,
        keep,
        state=parent.state if continued else "",  # type: ignore[union-attr]
    )


def hang(record: Record, parent: Above) -> None:
    """Note that *record* hangs under *parent*, a span that is not ours, or is linked to it."""
    if parent.link:
        caller = {"trace_id": f"{parent.trace_id:032x}", "span_id": f"{parent.span_id:016x}"}
        add(record, {LINKS: [{**caller, "attributes": {}}]})
        return
    record.parent_id = parent.span_id
    if parent.record is not None:
        record.host = parent.record
    if parent.whence:
        add(record, {PARENT: parent.whence})


def inherit(record: Record) -> None:
    """Note what `propagate` says about *record*, unless its trace says so already."""
    said = propagated.get()
    if said is not None and said is not record.trace.under:
        record.attributes = dict(said.attributes)


def add(record: Record, attributes: dict[str, Any]) -> None:
    """Add *attributes* to those of *record*, from any thread."""
    if record.attributes is None:
        record.__dict__.setdefault("attributes", {})  # at one stroke, should two threads be at it
    record.attributes.update(attributes)  # type: ignore[union-attr]  # it has some by now
