"""The lifecycle of a node run, read from what the recorder noted of it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple, TypeAlias

import tracing.record as r
from tracing.lifecycle_states import (
    AsyncLifecycleEvent,
    AsyncNodeLifecycle,
    AsyncNodeState,
    AsyncPhase,
)

_S = AsyncNodeState
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_PHASES: Final = {
    "prep": AsyncPhase.PREP,
    "exec": AsyncPhase.EXEC,
    "fallback": AsyncPhase.EXEC,
    "post": AsyncPhase.POST,
}
_ENDS: Final = {
    r.COMPLETED: _S.COMPLETED,
    r.CANCELLED: _S.CANCELLED,
    r.SKIPPED: _S.CANCELLED,
}

# When (nanoseconds of the monotonic clock), what, in which phase, and what there is to say of it.
_Moment: TypeAlias = tuple[int, AsyncNodeState, AsyncPhase, dict[str, Any]]


class Pause(NamedTuple):
    """A time that a node was suspended, overlapping ones taken together."""

    phase: r.Phase
    """The phase it lies in."""
    start: int
    """Nanoseconds of the monotonic clock."""
    end: int | None
    note: str | None
    resumed: bool
    """Whether the node went on afterwards, and did not end with it."""


def id_of(record: r.Record) -> str:
    """Return what stands for *record* as a `node_id`: its span id, 16 hex digits."""
    return f"{record.span_id:016x}"


def name_of(record: r.Record) -> str:
    """Return the node's name, with the place in the batch for an item."""
    return record.name if record.index is None else f"{record.name}[{record.index}]"


def state_of(record: r.Record) -> AsyncNodeState:
    """Return the state that a finished *record* ended in."""
    return _ENDS.get(record.outcome or "", _S.FAILED)


def pauses(record: r.Record) -> list[Pause]:
    """Return when *record* was suspended, in order."""
    if len(record.phases) < 2:
        return []
    work = _work(record)
    return [
        pause
        for place, (phase, inside) in enumerate(work)
        for pause in _joined(phase, inside, record, is_last=place == len(work) - 1)
    ]


def suspensions(record: r.Record) -> tuple[int, int]:
    """Return how often *record* was suspended, and how often it was resumed."""
    found = pauses(record)
    return len(found), sum(pause.resumed for pause in found)


def lifecycle_of(record: r.Record) -> AsyncNodeLifecycle:
    """Return the lifecycle of *record*, as far as it has got."""
    lifecycle = AsyncNodeLifecycle(
        id_of(record), name_of(record), _time(record, record.start), context_data=_about(record)
    )
    for event in events_of(record):
        lifecycle.add_event(event)
    if record.end is not None:
        lifecycle.end_time = _time(record, record.end)
    return lifecycle


def events_of(record: r.Record) -> list[AsyncLifecycleEvent]:
    """Return the events of *record* so far, in order; each has the same id every time."""
    events: list[AsyncLifecycleEvent] = []
    node_id, name, task = id_of(record), name_of(record), getattr(record, "task", None)
    since = 0
    for at, state, phase, metadata in _moments(record):
        ran = bool(events) and events[-1].state is _S.RUNNING
        events.append(
            AsyncLifecycleEvent(
                event_id=f"{node_id}-{len(events)}",
                node_id=node_id,
                node_name=name,
                phase=phase,
                state=state,
                timestamp=_time(record, at),
                task_id=task,
                duration_ms=(at - since) / 1e6 if ran else None,
                metadata=metadata,
            )
        )
        since = at
    return events


def _work(record: r.Record) -> list[tuple[r.Phase, list[r.Phase]]]:
    """Return the phases of *record*, each with the suspensions that began in it."""
    work: list[tuple[r.Phase, list[r.Phase]]] = []
    for phase in list(record.phases):
        if not hasattr(phase, "start"):  # a live record: its own thread is just about to set it
            continue
        if phase.kind in _PHASES:
            work.append((phase, []))
        elif work and phase.kind == "suspended":
            work[-1][1].append(phase)
    return work


def _joined(
    phase: r.Phase, inside: list[r.Phase], record: r.Record, *, is_last: bool
) -> list[Pause]:
    """Return the suspensions *inside* a phase, cut off where it ends: a task may outlive it."""
    limit = phase.end if phase.end is not None else record.end
    found: list[Pause] = []
    for one in inside:
        if limit is not None and one.start > limit:
            continue
        end = _earlier(one.end, limit)
        fine = one.end is not None and one.outcome == r.COMPLETED
        last = found[-1] if found else None
        if last is None or (last.end is not None and one.start >= last.end):
            found.append(Pause(phase, one.start, end, one.note, fine))
        elif last.end is not None and (end is None or end > last.end):
            found[-1] = last._replace(end=end, resumed=fine)
    # The node went on after all of them, but for one that is not over or that it ended in.
    fatal = is_last and phase.outcome not in (None, r.COMPLETED) and phase.wait is None
    last = found[-1] if found else None
    return [
        pause._replace(
            resumed=pause.end is not None and (pause is not last or pause.resumed or not fatal)
        )
        for pause in found
    ]


def _earlier(end: int | None, limit: int | None) -> int | None:
    if end is None or limit is None:
        return limit if end is None else end
    return min(end, limit)


def _moments(record: r.Record) -> list[_Moment]:
    moments: list[_Moment] = [
        (record.start, _S.CREATED, AsyncPhase.PREP, {}),
        (record.start, _S.STARTING, AsyncPhase.PREP, {}),
    ]
    found = pauses(record)
    work = [phase for phase, _ in _work(record)]
    for phase in work:
        moments += _working(phase, [pause for pause in found if pause.phase is phase])
    if record.end is not None:
        moments += _ending(record, record.end, work, moments[-1][0])
    return moments


def _working(phase: r.Phase, suspended: list[Pause]) -> Iterator[_Moment]:
    where = _PHASES[phase.kind]
    said: dict[str, Any] = {}
    if phase.kind == "exec":
        said = {"attempt": phase.attempt + 1}
    elif phase.kind == "fallback":
        said = {"fallback": True}
    yield phase.start, _S.RUNNING, where, said
    for pause in suspended:
        yield pause.start, _S.SUSPENDED, where, {"suspend_reason": pause.note}
        if pause.resumed and pause.end is not None:
            yield pause.end, _S.RESUMING, where, {"resume_reason": pause.note}
            yield pause.end, _S.RUNNING, where, {}
    if phase.wait is not None and phase.end is not None:
        cause = _cause(phase.error)
        said = {"attempt": phase.attempt + 2, "wait_seconds": phase.wait, **cause}
        yield phase.end, _S.RETRYING, where, said


def _ending(record: r.Record, end: int, work: list[r.Phase], last: int) -> list[_Moment]:
    where = _PHASES[work[-1].kind] if work else AsyncPhase.PREP
    state = state_of(record)
    if state is _S.COMPLETED:
        return [
            (max(last, work[-1].end or end) if work else end, _S.COMPLETING, where, {}),
            (end, state, where, {}),
        ]
    said: dict[str, Any] = {"outcome": record.outcome, **_cause(record.error)}
    if state is _S.CANCELLED:
        said["cancel_reason"] = said.get("error_message") or "task_cancelled"
    else:
        said["timed_out"] = record.outcome == r.TIMED_OUT
        said["halted"] = record.outcome == r.HALTED
    return [(end, state, where, said)]


def _cause(error: r.Failure | None) -> dict[str, Any]:
    return {} if error is None else {"error_type": error.type, "error_message": error.message}


def _about(record: r.Record) -> dict[str, Any]:
    about: dict[str, Any] = {
        "kind": record.kind,
        "trace_id": f"{record.trace.trace_id:032x}",
        "flow_name": record.trace.name,
    }
    if record.index is not None:
        about["index"] = record.index
    return about


def _time(record: r.Record, clock_ns: int) -> datetime:
    return _EPOCH + timedelta(microseconds=record.trace.wall(clock_ns) / 1_000)
