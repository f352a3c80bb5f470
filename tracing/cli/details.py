"""What stands under a line of the tree: content, errors, failed attempts, suspensions."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Final, NamedTuple, TypeGuard

from rich.cells import cell_len
from rich.text import Text

from tracing import names
from tracing.cli import byhand, words
from tracing.cli.shape import Entry, Hidden
from tracing.cli.view import View
from tracing.record import CANCELLED, INTERRUPTED, RUNNING, Failure
from tracing.store.model import PhaseSpan, Span

EVENTS: Final = 10
"""So many events of a span have a line; `--full` shows all."""
ATTEMPTS: Final = 3
"""So many failed attempts have a line; the name's own line says how many there were."""
ACTION: Final = "action"
"""Attribute under which the recorder notes what post returned; it has its place beside the name."""
_PLACED: Final = frozenset({ACTION, names.LINKS, names.REASON})
"""Attributes that have a place of their own."""
_INSTALLED: Final = re.compile(r"[/\\](site-packages|dist-packages|lib[/\\]python3\.\d+)[/\\]|^<")
"""Files of the standard library and of installed packages."""
_RESOURCE: Final = "flow.resource"
_ALIKE: Final = ("db.system.", "db.namespace", "flow.policy", "messaging.system", "server.")
SUSPENDED: Final = "suspended"


class Detail(NamedTuple):
    """One line: a label, its text, both in *style*, and *times* at the right edge."""

    label: str
    text: str
    style: str
    times: str = ""


def of(entry: Entry, prefix: str, view: View) -> Iterator[Text]:
    """Yield the lines under *entry*, each beginning with *prefix*."""
    if isinstance(entry, Hidden):
        return
    found = _of_phase(entry, view) if isinstance(entry, PhaseSpan) else _of_span(entry, view)
    for detail in found:
        yield from _lines(detail, prefix, view)


def lasted(entry: Span | PhaseSpan, view: View) -> str:
    """Return how long *entry* took, or has been running: `1.24 s`, `3.10 s…`."""
    micro = view.signs.micro
    if entry.end_ns is not None:
        return words.duration(entry.end_ns - entry.start_ns, micro)
    if entry.outcome == RUNNING:
        return words.duration(view.now_ns - entry.start_ns, micro) + view.signs.ellipsis
    return "?" if entry.outcome == INTERRUPTED else ""


def _lines(detail: Detail, prefix: str, view: View) -> Iterator[Text]:
    label, text, style, times = detail._replace(text=view.shown(detail.text))
    room = view.width - cell_len(prefix) - cell_len(label)
    if room - cell_len(times) - 2 < min(cell_len(text), 20):
        times = ""  # on a narrow screen, words come first
    room = max(room - (cell_len(times) + 2 if times else 0), 8)
    pieces = words.chop(text, room) if view.full else [words.cut(text, room, view.signs.ellipsis)]
    for number, piece in enumerate(pieces):
        lead = label if number == 0 else " " * cell_len(label)
        line = Text.assemble((prefix, "dim"), (lead + piece, style))
        if times and number == 0:
            line.append(" " * max(view.width - line.cell_len - len(times), 1)).append(times, "dim")
        yield line


def _of_span(span: Span, view: View) -> Iterator[Detail]:
    if _worth_showing(span.input, view):
        yield Detail("in   ", content(span.input, view), "dim")
    if not view.phases:
        yield from _attempts(span, view)
        yield from (_suspension(phase, view) for phase in span.phases if phase.kind == SUSPENDED)
    if _worth_showing(span.output, view):
        yield Detail("out  ", content(span.output, view), "dim")
    yield from _by_hand(span, view)
    if span.error and not _told_below(span, view):
        yield from _error(span.error, span.outcome, view)


def _by_hand(span: Span, view: View) -> Iterator[Detail]:
    """Yield what was noted by hand: model, attributes, events and scores."""
    if after := _before(span):
        yield Detail("after ", after, "dim")
    if reason := span.attributes.get(names.REASON):
        yield Detail("", words.one_line(str(reason)), "dim")
    if model := byhand.of_model(span, view.signs.micro):
        yield Detail("model ", model, "dim")
    others = {
        key: value
        for key, value in span.attributes.items()
        if key not in _PLACED and not byhand.is_told(key)
    }
    if others:
        yield Detail("attr ", words.one_line(pairs(_first_what_differs(others))), "dim")
    limit = len(span.events) if view.full else EVENTS
    for event in span.events[:limit]:
        said, after = byhand.of_event(event, span, view.signs.micro)
        yield Detail("event ", said, "dim", after)
    if len(span.events) > limit:
        more = words.count(len(span.events) - limit, "more event")
        yield Detail("", f"{view.signs.ellipsis} {more}", "dim")
    for score in span.scores:
        yield Detail("score ", byhand.of_score(score), "magenta")


def _before(span: Span) -> str:
    """Return the names of the nodes that a node of a workflow has its inputs from."""
    links = span.attributes.get(names.LINKS)
    found = []
    for link in links if isinstance(links, list) else ():
        said = link.get("attributes") if isinstance(link, dict) else None
        if isinstance(said, dict) and names.NODE in said:  # else it is not one of ours
            found.append(str(said[names.NODE]))
    return words.one_line(", ".join(found))


def _worth_showing(data: bytes | None, view: View) -> TypeGuard[bytes]:
    return data is not None and (view.full or data != b"null")


def _of_phase(phase: PhaseSpan, view: View) -> Iterator[Detail]:
    if phase.note:
        yield Detail("", words.one_line(phase.note), "cyan")
    if phase.error:
        yield from _error(phase.error, phase.outcome, view)
    if phase.wait:
        yield Detail(f"{view.signs.retry} ", f"waited {_waited(phase, view)}", "yellow")


def _attempts(span: Span, view: View) -> Iterator[Detail]:
    """Yield a line for each attempt whose failure is not the span's own."""
    tries = [phase for phase in span.phases if phase.kind == "exec" and phase.error]
    if tries and tries[-1].wait is None and _same(tries[-1].error, span.error):
        tries.pop()
    limit = len(tries) if view.full else ATTEMPTS
    yield from (_attempt(phase, view) for phase in tries[:limit])
    if len(tries) > limit:
        more = words.count(len(tries) - limit, "more failed attempt")
        yield Detail("", f"{view.signs.ellipsis} {more}", "yellow")


def _attempt(phase: PhaseSpan, view: View) -> Detail:
    said = _said(phase.error, view) if phase.error else ""
    waited = f", waited {_waited(phase, view)}" if phase.wait else ""
    label = f"{view.signs.retry} attempt {phase.attempt + 1}: "
    return Detail(label, said, "yellow", lasted(phase, view) + waited)


def _waited(phase: PhaseSpan, view: View) -> str:
    return words.duration(round((phase.wait or 0) * 1e9), view.signs.micro)


def _suspension(phase: PhaseSpan, view: View) -> Detail:
    note = words.one_line(phase.note or "suspended")
    return Detail(f"{view.signs.pause} ", note, "cyan", f"suspended {lasted(phase, view)}")


def _told_below(span: Span, view: View) -> bool:
    """Tell whether a child, or a phase that has its own line, shows the same error."""
    failures = [child.error for child in span.children]
    if view.phases:
        failures += [phase.error for phase in span.phases]
    return any(_same(failure, span.error) for failure in failures)


def _same(one: Failure | None, other: Failure | None) -> bool:
    """Tell whether it is one error, met at different places on its way."""
    return one is not None and other is not None and one[:2] == other[:2]


def _error(failure: Failure, outcome: str, view: View) -> Iterator[Detail]:
    if outcome == CANCELLED and not view.full:
        return  # that it was cancelled has been said; where, is chance
    yield Detail("", _said(failure, view), "red")
    for file, line, function in failure.frames if view.full else _where(failure):
        where = f"at {_short(file, view)}:{line} in {function}"
        yield Detail("", words.one_line(where), "dim")


def _where(failure: Failure) -> tuple[tuple[str, int, str], ...]:
    """Return the innermost frame of the user's own code, or else the innermost one."""
    own = [frame for frame in failure.frames if not _INSTALLED.search(frame[0])]
    return tuple(own or failure.frames)[-1:]


def _said(failure: Failure, view: View) -> str:
    name = failure.type if view.full else failure.type.rpartition(".")[2]
    return words.one_line(f"{name}: {failure.message}" if failure.message else name)


def _short(file: str, view: View) -> str:
    inside = view.here + os.sep
    return file.removeprefix(inside) if view.here else file


def _first_what_differs(attributes: dict[str, object]) -> dict[str, object]:
    """Return *attributes* with what each use of a resource has alike at the end."""
    alike = {name: attributes[name] for name in attributes if name.startswith(_ALIKE)}
    if (resource := attributes.get(_RESOURCE)) is not None:
        alike[_RESOURCE] = resource
    return {**{name: attributes[name] for name in attributes if name not in alike}, **alike}


def pairs(attributes: dict[str, object]) -> str:
    """Return *attributes* as `name=value` with two blanks in between."""
    return "  ".join(f"{name}={value!r}" for name, value in attributes.items())


def content(data: bytes, view: View) -> str:
    """Return recorded JSON as one line; only as much as the screen can show is looked at."""
    part = data if view.full else data[: 8 * view.width]
    return words.clean(part.decode("utf-8", "replace"))
