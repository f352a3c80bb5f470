"""Tracing by hand, for what is no node: spans, generations of models, functions.

Inside a traced run what is opened here hangs under the phase, span or function it is opened in, and
goes where that run's records go. Outside it starts a trace of its own, with the environment's
settings. Where tracing is off the same objects note nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final, ParamSpec, TypeVar, overload

from tracing import names
from tracing.config import TracingConfig
from tracing.context import position
from tracing.functions import trace_function
from tracing.opened import Generation, Nothing, OpenSpan, text
from tracing.record import Record
from tracing.recorder import Recorder, at_work
from tracing.run import ABSENT, Run, Untraced
from tracing.sampling import NotRecorded, is_left_out
from tracing.settings import Settings, _Made

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


class _ByHand(Settings):
    """Settings of what is traced by hand: those of the run around it, else the environment's."""

    def start(self, kind: str, label: str, source: object, value: Any) -> Run:
        """Open a span in the trace of this context, or a trace of its own; never raises."""
        recorder = at_work()
        if recorder is None or is_left_out(position.get()):
            return super().start(kind, label, source, value)
        try:
            return Run(recorder, kind, self.name or label, source, value)
        except Exception:
            logger.exception("%s is not traced", label)
            return _OFF

    def _current(self) -> _Made:
        """Return what the environment says, which is the same for all that is traced by hand."""
        return super()._current() if self is _SETTINGS else _SETTINGS._current()


_OFF: Final = Untraced()
_SETTINGS: Final = _ByHand(None)


def recorder_here() -> Recorder | None:
    """Return what notes in this context, or None where tracing is off or cannot be."""
    found = at_work()
    if found is None:
        try:
            found = _SETTINGS.recorder()
        except Exception:
            logger.exception("nothing is traced by hand")
    return found


def effective() -> TracingConfig:
    """Return the settings of the environment, for what no run around it decides.

    Raises:
        ValueError: The environment holds a setting that cannot be.
    """
    return _SETTINGS.effective()


_NOTHING: Final = Nothing(_OFF)
S = TypeVar("S", bound=OpenSpan)


def _open(make: Callable[[Run, Recorder], S], kind: str, name: str, value: Any) -> S | Nothing:
    run = _SETTINGS.start(kind, text(name), None, value)
    if isinstance(run, (Untraced, NotRecorded)):
        return _NOTHING if isinstance(run, Untraced) else Nothing(run)
    return make(run, run.recorder)


def span(name: str, *, input: Any = ABSENT, **attributes: Any) -> OpenSpan:
    """Open a span: `with tracing.span("retrieve", input=question) as s:`.

    Args:
        name: Name of the span, and of the trace if it starts one.
        input: What goes in.
        attributes: Anything that `OpenSpan.update` takes.
    """
    opened = _open(OpenSpan, names.SPAN, name, input)
    if attributes:
        opened.update(**attributes)
    return opened


def generation(
    name: str | None = None,
    *,
    model: str | None = None,
    input: Any = ABSENT,
    **attributes: Any,
) -> Generation:
    """Open the span of a model's answer: `with tracing.generation(model=m, input=messages) as g:`.

    Args:
        name: Name of the span; the model's if left out.
        model: Name of the model.
        input: The messages, or the prompt.
        attributes: Anything that `OpenSpan.update` takes, as `parameters={"temperature": 0}`.
    """
    label = next(said for said in (name, model, names.GENERATION) if said is not None)
    opened = _open(Generation, names.GENERATION, label, input)
    if model is not None or attributes:
        opened.update(model=model, **attributes)
    return opened


@overload
def traced(function: Callable[P, T], /) -> Callable[P, T]: ...
@overload
def traced(
    *,
    name: str | None = None,
    kind: str = "function",
    capture_input: bool = True,
    capture_output: bool = True,
) -> Callable[[Callable[P, T]], Callable[P, T]]: ...
def traced(
    function: Any = None,
    /,
    *,
    name: str | None = None,
    kind: str = "function",
    capture_input: bool = True,
    capture_output: bool = True,
) -> Any:
    """Give each call of a function a span; its signature and kind stay.

    For plain and async functions, generators and async generators; bare, or with arguments. The
    span of a generator lasts until it is exhausted, closed, or gone.

    Args:
        function: What is decorated.
        name: Name of the spans; the function's if left out.
        kind: Kind of the spans: function, span, generation, tool, retriever, agent, …
        capture_input: Whether the arguments are noted.
        capture_output: Whether the result is noted.

    Raises:
        TypeError: It is put on something that is no function, such as a class.
        ValueError: *kind* is one of the engine's own.
    """
    if function is not None:
        return traced()(function)
    if not isinstance(kind, str):
        raise TypeError(f"traced: kind must be a string, not {kind!r}")
    if not kind or kind in names.ENGINE_KINDS | names.MOMENTS:
        raise ValueError(f"traced: kind cannot be {kind!r}: function, span, generation, tool, …")

    def decorate(function: Any) -> Any:
        if isinstance(function, type) or not callable(function):
            raise TypeError(
                f"traced goes on a function, not on {function!r}; "
                "below @classmethod, @staticmethod and @property"
            )
        settings = _ByHand(None, name)
        return trace_function(
            function, settings, kind=kind, inputs=capture_input, outputs=capture_output
        )

    return decorate


def update(**fields: Any) -> None:
    """Note more about the span we are in; a phase's facts go to its node.

    Takes what `OpenSpan.update` takes. What is noted so as input or output of a node or function
    stays, whatever it is given or returns. Outside every traced run it does nothing, and says so
    once in the log.
    """
    record, recorder = here()
    if record is not None and recorder is not None:
        _Here(record, recorder).update(**fields)


class _Here(OpenSpan):
    """The span that we are in, whoever opened it; it is not ours to end."""

    __slots__ = ()

    def __init__(self, record: Record, recorder: Recorder) -> None:
        super().__init__(_Borrowed(record), recorder)

    def __del__(self) -> None:
        """Leave it open."""


class _Borrowed(Untraced):
    """A run of which only the record is known."""

    __slots__ = ()

    def __init__(self, record: Record) -> None:
        self.record = record


def here() -> tuple[Record | None, Recorder | None]:
    """Return the record that we are in, and what notes there; hint once if there is none."""
    now = position.get()
    if now is not None:
        return (None, None) if is_left_out(now) else (now[0], recorder_here())
    if recorder_here() is not None:
        _hint()
    return None, None


def _hint() -> None:
    global _hinted
    if not _hinted:
        _hinted = True
        logger.warning(
            "tracing.update or tracing.score was called outside every traced run and does nothing "
            "there. Call it inside a traced flow, span or function, or give score a trace_id. "
            "This is said once."
        )


_hinted = False
