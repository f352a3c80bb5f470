"""Spans opened by hand: one of a block, one of a model's answer, and one of nothing."""

from __future__ import annotations

import logging
from contextlib import suppress
from time import perf_counter_ns
from types import TracebackType
from typing import Any, Self

import orjson

from tracing import names
from tracing.context import position
from tracing.fields import attributes as said
from tracing.fields import plain
from tracing.functions import abandon
from tracing.ids import new_span_id
from tracing.record import COMPLETED, Record, Trace
from tracing.recorder import Recorder, add
from tracing.run import ABSENT, Run

logger = logging.getLogger(__name__)


class OpenSpan:
    """A span that was opened by hand.

    Use it with `with` or `async with`, which make it current and end it, with the error if one
    comes through; or without, and call `end`. Its parent is fixed when it is made. Its methods
    never raise because of tracing, and do nothing once it has ended; they are for any thread.
    """

    __slots__ = ("__weakref__", "_recorder", "_run")

    def __init__(self, run: Run, recorder: Recorder) -> None:
        self._run = run
        self._recorder = recorder

    @property
    def trace_id(self) -> str | None:
        """32 hex digits; None where nothing is recorded."""
        return f"{self._run.record.trace.trace_id:032x}"

    @property
    def span_id(self) -> str | None:
        """16 hex digits; None where nothing is recorded."""
        return f"{self._run.record.span_id:016x}"

    def update(
        self,
        /,
        *,
        input: Any = ABSENT,
        output: Any = ABSENT,
        name: str | None = None,
        level: str | None = None,
        status_message: str | None = None,
        model: str | None = None,
        parameters: Any = None,
        usage: Any = None,
        cost: Any = None,
        **attributes: Any,
    ) -> None:
        """Note more about this span; what was noted under the same name before is replaced.

        Args:
            input: What went in.
            output: What came out.
            name: Another name for the span; that of a trace stays.
            level: DEBUG, DEFAULT, WARNING or ERROR. It does not change the outcome.
            status_message: Words for the level.
            model: Name of the model.
            parameters: The model's parameters by name.
            usage: Numbers by name, of which `input`, `output` and `total` (or what OpenAI and
                Anthropic call them) are tokens. An object with such fields will do.
            cost: US dollars, as a number, or by part, with or without their `total`.
            attributes: Anything else, under its own name.
        """
        record = self._run.record
        if record.end is not None:
            logger.debug("%s has ended: what is noted about it later is lost", record.name)
            return
        try:
            found = said(
                self._recorder.limit,
                model=model,
                parameters=parameters,
                usage=usage,
                cost=cost,
                level=level,
                status_message=status_message,
                others=attributes,
            )
            _note(record, self._recorder, input, output, name, found)
        except Exception:
            logger.exception("what was to be noted about %s is lost", record.name)

    def event(self, name: str, **attributes: Any) -> None:
        """Note that something happened at this moment."""
        record = self._run.record
        if record.end is None:
            moment(self._recorder, record.trace, record.span_id, names.EVENT, name, attributes)

    def score(self, name: str, value: float | str, comment: str | None = None) -> None:
        """Judge this span, also after it has ended.

        Args:
            name: What is judged.
            value: A finite number, a bool, or a text.
            comment: Why.

        Raises:
            TypeError: An argument has a type that cannot be.
            ValueError: The name is empty, or the number not finite.
        """
        from tracing.scores import checked  # noqa: PLC0415 (for those who judge)

        fields = checked(name, value, comment)
        record = self._run.record
        moment(self._recorder, record.trace, record.span_id, names.SCORE, name, fields)

    def end(self, error: BaseException | None = None) -> None:
        """End the span, as failed if there is an *error*; the first end counts."""
        self._run.finish(error, ABSENT)

    def __enter__(self) -> Self:
        self._run.__enter__()
        return self

    def __exit__(
        self,
        cls: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._run.__exit__()
        self.end(error)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        cls: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.__exit__(cls, error, trace)

    def __del__(self) -> None:
        if self._run.record.end is None:
            abandon(self._run)


class Generation(OpenSpan):
    """A call of a model, opened by hand."""

    __slots__ = ()

    def first_token(self) -> None:
        """Note that the first piece of the answer is here; the first call counts."""
        record = self._run.record
        if record.end is None and names.FIRST_TOKEN not in (record.attributes or ()):
            add(record, {names.FIRST_TOKEN: perf_counter_ns() - record.start})


class Nothing(Generation):
    """Stands for a span where nothing is recorded."""

    __slots__ = ()

    def __init__(self, run: Run) -> None:
        self._run = run

    def __enter__(self) -> Self:
        now = position.get()
        if now is None or now[0] is not getattr(self._run, "record", None):  # not twice
            self._run.__enter__()
        return self

    def __exit__(
        self,
        cls: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(ValueError, RuntimeError):  # left where it was not entered, or twice
            self._run.__exit__()

    @property
    def trace_id(self) -> str | None:
        """None."""
        return None

    @property
    def span_id(self) -> str | None:
        """None."""
        return None

    def update(self, /, **fields: Any) -> None:
        """Note nothing."""

    def event(self, name: str, **attributes: Any) -> None:
        """Note nothing."""

    def score(self, name: str, value: float | str, comment: str | None = None) -> None:
        """Check the arguments, and note nothing."""
        from tracing.scores import checked  # noqa: PLC0415 (for those who judge)

        checked(name, value, comment)

    def first_token(self) -> None:
        """Note nothing."""

    def __del__(self) -> None:
        """Leave nothing behind."""


def _note(
    record: Record,
    recorder: Recorder,
    input: Any,
    output: Any,
    name: str | None,
    found: dict[str, Any],
) -> None:
    if name is not None:
        record.name = text(name)
    if input is not ABSENT:
        record.input = None
        recorder.take_in(record, input)
    if output is not ABSENT:
        record.output = None
        recorder.put_out(record, output)
    if found:
        record.size += _weight(found)
        add(record, found)


def moment(
    recorder: Recorder,
    trace: Trace,
    parent_id: int,
    kind: str,
    name: str,
    attributes: dict[str, Any],
) -> None:
    """Record something that happened now, and took no time."""
    now = perf_counter_ns()
    record = Record(trace, new_span_id(), parent_id, kind, text(name), now)
    record.attributes = said(recorder.limit, others=attributes)
    record.size = _weight(record.attributes)
    record.end = now
    record.outcome = COMPLETED
    recorder.sink.closed(record)


def text(name: object) -> str:
    """Return *name* as the name of something, whatever it is."""
    return name if type(name) is str else str(plain(name))


def _weight(attributes: dict[str, Any]) -> int:
    """Return how many bytes *attributes* take, about; the buffer bounds the sum."""
    return sum(
        len(value) if type(value) is str else len(orjson.dumps(value)) if value else 8
        for value in attributes.values()
    )
