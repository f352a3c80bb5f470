"""What some settings put before the store: sinks that change or add to records."""

from __future__ import annotations

from asyncio import _get_running_loop, current_task

from tracing.context import position
from tracing.record import Failure, Record
from tracing.recorder import Sink, add
from tracing.redact import Redactor


class TaskNotes:
    """Notes in which asyncio task a flow ran, and whatever began in another task than its parent.

    Of the other records nothing is said: they have their parent's task. The attributes are
    `flow.task`, the task's name, and `flow.task_id`.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def opened(self, record: Record) -> None:
        """Remember the task at work, and pass *record* on."""
        if _get_running_loop() is not None:
            # By its id: the task itself is the user's, and must not be kept alive.
            record.__dict__[_TASK] = id(current_task())
        self._sink.opened(record)

    def closed(self, record: Record) -> None:
        """Note the task if the parent has another one, and pass *record* on."""
        own = record.__dict__.pop(_TASK, None)
        if own is not None:
            around = position.get()  # the parent's: its child has been left already
            if around is None:
                if record.kind == "flow":
                    _note_task(record, own)
            elif around[0].__dict__.get(_TASK) != own:
                _note_task(record, own)
        self._sink.closed(record)

    @property
    def is_closed(self) -> bool:
        """Whether the store takes no more records."""
        return self._sink.is_closed


_TASK = "task"


def _note_task(record: Record, own: int) -> None:
    task = current_task() if _get_running_loop() is not None else None
    if task is not None and id(task) == own:  # else it is closed late, by somebody else
        add(record, {"flow.task": task.get_name(), "flow.task_id": own})


class Redacting:
    """Has what the settings of a run call secret taken out of its records alone.

    That is done later, in the store's thread; a run inside another brings both sets of rules.
    """

    def __init__(self, sink: Sink, redactor: Redactor) -> None:
        self._sink = sink
        self._redactor = redactor

    def opened(self, record: Record) -> None:
        """Note the rules, and pass *record* on."""
        self._mark(record)
        self._sink.opened(record)

    def closed(self, record: Record) -> None:
        """Note the rules, of what was never opened too, and pass *record* on."""
        self._mark(record)
        self._sink.closed(record)

    @property
    def is_closed(self) -> bool:
        """Whether the store takes no more records."""
        return self._sink.is_closed

    def _mark(self, record: Record) -> None:
        own, other = self._redactor, record.redactor
        if other is None:
            record.redactor = own
        elif other is not own:
            record.redactor = other.and_also(own.keys, own.patterns, own.functions)


class TypesOnly:
    """Takes message and lines out of errors, and leaves their type."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.opened = sink.opened

    def closed(self, record: Record) -> None:
        """Strip the errors of *record* and its phases, and pass it on."""
        if record.error is not None:
            record.error = Failure(record.error.type, "")
        for phase in record.phases:
            if phase.error is not None:
                phase.error = Failure(phase.error.type, "")
        self._sink.closed(record)

    @property
    def is_closed(self) -> bool:
        """Whether the store takes no more records."""
        return self._sink.is_closed
