"""A trace over the boundary of a process: in headers, messages and the environment.

What is written and read is what OpenTelemetry's global propagator is set to: W3C traceparent,
tracestate and baggage, unless the program says otherwise.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from contextvars import Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from tracing.context import Position, position
from tracing.names import SESSION, USER
from tracing.propagation import Propagated, propagated
from tracing.recorder import at_work, watching_instead

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.propagators.textmap import TextMapPropagator
    from opentelemetry.trace import SpanContext

logger = logging.getLogger(__name__)

_FACT: Final = "flow.metadata."
_NAMES: Final = {
    SESSION: ("session.id", "langfuse_session_id"),
    USER: ("user.id", "langfuse_user_id"),
}
"""Names in the baggage: the first is written, all are read."""
_LONGEST: Final = 200  # characters of one value in the baggage
_MOST: Final = 32  # facts of metadata in it
_ONCE: Final = frozenset({"traceparent"})
"""What may be there only once: W3C has a second one make all of them void."""
_ODD: Final = re.compile("[^A-Za-z0-9_]")


def outgoing(headers: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return headers that take this trace along to whoever is called with them.

    For HTTP, and for the headers of a message in a queue. They say in which span we are, and as
    baggage the session, the user and the metadata that `propagate` holds, each of at most 200
    characters. Outside every trace they are those that were given. Never raises because of tracing.

    Args:
        headers: Those that are sent anyway; not changed.
    """
    given = dict(headers or {})
    try:
        ours: dict[str, str] = {}
        _propagator().inject(ours, _context())
    except Exception:
        logger.exception("the trace is not taken along")
        return given
    names = {name.lower() for name in ours}
    return {**{name: given[name] for name in given if str(name).lower() not in names}, **ours}


def child_environment(env: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return an environment for a subprocess that takes this trace along.

    `subprocess.run(command, env=child_environment())`; the child continues it by `incoming()`.

    Args:
        env: Variables that it has anyway; those of this process when left out. Not changed.
    """
    given = dict(os.environ if env is None else env)
    return {**given, **{_variable(name): value for name, value in outgoing().items()}}


class incoming:
    """Continue the trace of whoever called us: `with incoming(request.headers):`.

    What is traced inside the block is part of the caller's trace, or of its own as ever where the
    carrier names none. Session, user and metadata in its baggage hold for all spans inside, as with
    `propagate`. Also as `async with`. Never raises: what is malformed is not there.

    Args:
        carrier: Headers of a request or message: a mapping, or a list of pairs; names in any case,
            names and values as text or bytes. Left out: the environment of this process.
        link: Begin a trace of its own that links to the caller's span. For work that outlives the
            call, and for one batch made of many messages.
        baggage: Whether the caller's baggage is believed. Not from strangers.
    """

    __slots__ = ("_baggage", "_carrier", "_link", "_undo")

    def __init__(
        self,
        carrier: Mapping[Any, Any] | Iterable[tuple[Any, Any]] | None = None,
        *,
        link: bool = False,
        baggage: bool = True,
    ) -> None:
        self._carrier = carrier
        self._link = link
        self._baggage = baggage
        self._undo: list[_Inside] = []

    def __enter__(self) -> Self:
        inside = _Inside()
        self._undo.append(inside)
        try:
            inside.enter(self._carrier, self._link, self._baggage)
        except Exception:
            logger.exception("the caller's trace is not continued")
        return self

    def __exit__(
        self,
        cls: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._undo.pop().leave()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        cls: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.__exit__(cls, error, trace)


class _Inside:
    """What one entry into a block has changed."""

    __slots__ = ("_position", "_said", "_shown", "_watch")

    def __init__(self) -> None:
        self._position: Token[Position | None] | None = None
        self._said: Token[Propagated | None] | None = None
        self._shown: Any = None
        self._watch: Any = None

    def enter(self, carrier: Any, link: bool, baggage: bool) -> None:
        """Take over what *carrier* says."""
        from opentelemetry.context import get_current  # noqa: PLC0415 (for those who are called)
        from opentelemetry.trace import get_current_span  # noqa: PLC0415 (likewise)

        from tracing.otel.current import Shown  # noqa: PLC0415 (it needs OpenTelemetry)

        before = get_current()
        context, caller, said = _extract(carrier, link, before if baggage else None)
        if said is not None:
            self._said = propagated.set(said.inside(propagated.get()))
        if caller is not None:
            self._step_out(caller, link)
        elif not baggage:
            return
        self._shown = Shown(get_current_span(context), context, before)

    def _step_out(self, caller: SpanContext, link: bool) -> None:
        """Leave the trace that we are in, if that is another one."""
        now = position.get()
        if now is None or (now[0].trace.trace_id == caller.trace_id and not link):
            return
        self._position = position.set(None)
        working = at_work()
        if working is not None:
            self._watch = watching_instead(working, None)
            self._watch.__enter__()

    def leave(self) -> None:
        """Go back, as far as that can be done where we are by now."""
        from tracing.otel.seam import leave  # noqa: PLC0415 (next to its twin)

        with suppress(ValueError):
            if self._watch is not None:
                self._watch.__exit__(None, None, None)
        leave(self._shown)
        with suppress(ValueError):
            if self._position is not None:
                position.reset(self._position)
        with suppress(ValueError):
            if self._said is not None:
                propagated.reset(self._said)


def _propagator() -> TextMapPropagator:
    try:
        from opentelemetry.propagate import get_global_textmap  # noqa: PLC0415 (takes 20 ms)

        return get_global_textmap()
    except Exception:  # noqa: BLE001 (OTEL_PROPAGATORS names one that is not installed)
        from opentelemetry.baggage.propagation import W3CBaggagePropagator  # noqa: PLC0415
        from opentelemetry.propagators.composite import CompositePropagator  # noqa: PLC0415
        from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415
            TraceContextTextMapPropagator,
        )

        return CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()])


def _context() -> Context:
    """Return OpenTelemetry's context, with the span that we are in and what is said of it."""
    from opentelemetry.baggage import set_baggage  # noqa: PLC0415 (for those who call others)
    from opentelemetry.context import get_current  # noqa: PLC0415 (likewise)
    from opentelemetry.trace import get_current_span, set_span_in_context  # noqa: PLC0415

    from tracing.otel.current import Here, Veil, context_of  # noqa: PLC0415 (OpenTelemetry)
    from tracing.sampling import is_left_out  # noqa: PLC0415 (it knows runs)

    context, now = get_current(), position.get()
    if now is not None:
        trace = now[0].trace
        if is_left_out(now):
            return set_span_in_context(Veil(now[0], sampled=False), context)
        if get_current_span(context).get_span_context().trace_id != trace.trace_id:
            recorder = at_work()
            if recorder is not None:
                context = context_of(Here(now[0], recorder), context)
    for name, value in _told(now).items():
        context = set_baggage(name, value, context)
    return context


def _told(now: Position | None) -> dict[str, str]:
    """Return what the baggage says of the present trace."""
    from tracing.otel.current import LANGFUSE_CLAIM, reaches_langfuse  # noqa: PLC0415 (likewise)

    said = propagated.get() or Propagated()
    trace = None if now is None else now[0].trace
    session = said.session_id or (None if trace is None else trace.session_id)
    user = said.user_id or (None if trace is None else trace.user_id)
    told: dict[str, Any] = {_NAMES[SESSION][0]: session, _NAMES[USER][0]: user}
    if trace is not None and reaches_langfuse(trace):
        told[LANGFUSE_CLAIM] = f"{trace.trace_id:032x}"
    facts = list(said.metadata.items())[:_MOST]
    told |= {f"{_FACT}{name}": value for name, value in facts if _is_token(name)}
    return {
        name: str(value)
        for name, value in told.items()
        if isinstance(value, (str, int, float)) and len(str(value)) <= _LONGEST
    }


def _is_token(name: str) -> bool:
    """Return whether *name* may be part of a name in the baggage."""
    return re.fullmatch(r"[\w.-]{1,64}", name, re.ASCII) is not None


def _extract(
    carrier: Any, link: bool, before: Context | None
) -> tuple[Context, SpanContext | None, Propagated | None]:
    """Return the context inside, the caller's span if there is one, and what the baggage says.

    Args:
        carrier: Whatever the user has given.
        link: Whether the caller's span is only linked to.
        before: The context outside; None: the same, and no baggage is believed.
    """
    from opentelemetry.baggage import clear  # noqa: PLC0415 (for those who are called)
    from opentelemetry.context import Context, get_current  # noqa: PLC0415
    from opentelemetry.trace import get_current_span, set_span_in_context  # noqa: PLC0415

    from tracing.otel.current import Caller  # noqa: PLC0415 (it needs OpenTelemetry)

    propagator = _propagator()
    found = propagator.extract(_headers(carrier, propagator.fields), Context())
    around = get_current()
    context = Context({**around, **found}) if before is not None else clear(around)
    said = None if before is None else _said(found)
    caller = get_current_span(found).get_span_context()
    if not caller.is_valid:
        return context, None, said
    present = get_current_span(around)
    if link:
        return set_span_in_context(Caller(caller), context), caller, said
    if present.is_recording() and present.get_span_context().trace_id == caller.trace_id:
        # Somebody has continued it already: the instrumentation of the server.
        return set_span_in_context(present, context), caller, said
    return set_span_in_context(get_current_span(found), context), caller, said


def _said(found: Context) -> Propagated | None:
    """Return what a baggage says of session, user and metadata; too long a value says nothing."""
    from opentelemetry.baggage import get_all  # noqa: PLC0415 (for those who are called)

    told = {
        name: value
        for name, value in get_all(found).items()
        if isinstance(value, str) and value.strip() and len(value) <= _LONGEST
    }
    facts = [name for name in told if name.startswith(_FACT) and name != _FACT][:_MOST]
    said = Propagated(
        _first(told, _NAMES[SESSION]),
        _first(told, _NAMES[USER]),
        (),
        {name.removeprefix(_FACT): told[name] for name in facts},
    )
    return said if said.attributes else None


def _first(told: Mapping[str, str], names: Iterable[str]) -> str | None:
    return next((told[name] for name in names if name in told), None)


def _headers(carrier: Any, fields: Iterable[str]) -> dict[str, str]:
    """Return what *carrier* says under the names in *fields*, in small letters."""
    if carrier is None or carrier is os.environ:
        found = {name.lower(): os.environ.get(_variable(name)) for name in fields}
        return {name: value for name, value in found.items() if value is not None}
    wanted = {alias.lower(): name.lower() for name in fields for alias in (name, _variable(name))}
    several: dict[str, list[str]] = {}
    for name, value in _pairs(carrier):
        key = wanted.get((_text(name) or "").lower())
        if key is not None and (text := _text(value)) is not None:
            several.setdefault(key, []).append(text)
    return {
        name: ",".join(values)
        for name, values in several.items()
        if len(values) == 1 or name not in _ONCE
    }


def _pairs(carrier: Any) -> Iterator[tuple[Any, Any]]:
    """Yield names and values, one by one where a name has several."""
    several = getattr(carrier, "multi_items", None) or getattr(carrier, "items", None)
    for pair in several() if callable(several) else carrier:
        if isinstance(pair, (tuple, list)) and len(pair) == 2:
            name, value = pair
            for one in value if isinstance(value, (list, tuple)) else (value,):
                yield name, one


def _text(value: Any) -> str | None:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).decode("latin-1")
    return value if isinstance(value, str) else None


def _variable(name: str) -> str:
    """Return the environment variable that stands for a header."""
    return _ODD.sub("_", name).upper()
