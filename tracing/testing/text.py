"""A trace as text that is the same for every run that does the same, so that it can be kept."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from tracing.record import COMPLETED, Failure
from tracing.store import PhaseSpan, Span

_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,16}\b")
_ID = re.compile(r"\b(?:[0-9a-f]{32}|[0-9a-f]{16})\b")


def lines(roots: Iterable[Span], *, times: bool, phases: bool, contents: bool) -> str:
    """Return spans and all below them, one line each, indented by depth.

    Args:
        roots: The spans at the top.
        times: Whether to show beginning and length, in milliseconds.
        phases: Whether to show what each span did.
        contents: Whether to show inputs and outputs.
    """
    tops = list(roots)
    began = tops[0].start_ns if tops else 0
    found: list[str] = []
    numbers: dict[str, str] = {}
    for place, (depth, span) in enumerate(_walk(tops), 1):
        _number(span, place, numbers)
        indent = "  " * depth
        clock = f" ({_when(span, began)})" if times else ""
        found.append(f"{indent}{_span(span)}{clock}")
        if contents:
            found.extend(f"{indent}  {line}" for line in _contents(span))
        if phases:
            found.extend(
                f"{indent}  - {_phase(phase)}{f' ({_when(phase, began)})' if times else ''}"
                for phase in span.phases
            )
    return "".join(f"{_settled(line, numbers)}\n" for line in found)


def _walk(roots: list[Span]) -> Iterator[tuple[int, Span]]:
    waiting = [(0, root) for root in reversed(roots)]
    while waiting:
        depth, span = waiting.pop()
        yield depth, span
        waiting.extend((depth + 1, child) for child in reversed(span.children))


def _number(span: Span, place: int, numbers: dict[str, str]) -> None:
    """Give the span and its phases the ids that stand for their real ones."""
    numbers[span.trace_id] = "trace-1"
    numbers[span.span_id] = f"span-{place}"
    for count, phase in enumerate(span.phases, 1):
        numbers[phase.span_id] = f"span-{place}.{count}"


def _span(span: Span) -> str:
    place = "" if span.index is None else f"[{span.index}]"
    said = [f"{span.kind} {span.name}{place}: {span.outcome}"]
    if span.attempts > 1:
        said.append(f"{span.attempts} attempts")
    if span.fell_back:
        said.append("fallback")
    if (action := span.attributes.get("action")) is not None:
        said.append(f"-> {action}")
    return ", ".join((*said, *_error(span.error)))


def _phase(phase: PhaseSpan) -> str:
    number = f" {phase.attempt + 1}" if phase.kind == "exec" else ""
    note = f" {phase.note!r}" if phase.note else ""
    ended = "" if phase.outcome == COMPLETED else f": {phase.outcome}"
    wait = () if phase.wait is None else (f"next in {phase.wait:g} s",)
    return ", ".join((f"{phase.kind}{number}{note}{ended}", *_error(phase.error), *wait))


def _error(error: Failure | None) -> tuple[str, ...]:
    if error is None:
        return ()
    name = error.type.rpartition(".")[2]
    return (f"{name}: {error.message}".rstrip(": ").replace("\n", " "),)


def _contents(span: Span) -> Iterator[str]:
    if span.input is not None:
        yield f"in: {span.input.decode()}"
    if span.output is not None:
        yield f"out: {span.output.decode()}"


def _when(span: Span | PhaseSpan, began: int) -> str:
    start = (span.start_ns - began) / 1e6
    if span.end_ns is None:
        return f"at {start:.1f} ms"
    return f"at {start:.1f} ms, {(span.end_ns - span.start_ns) / 1e6:.1f} ms"


def _settled(line: str, numbers: dict[str, str]) -> str:
    line = _ID.sub(lambda found: numbers.get(found[0], found[0]), line)
    return _ADDRESS.sub("0x…", line)
