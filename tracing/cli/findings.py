"""What a check has found: one line each, and what to do about it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from rich.text import Text

from tracing.cli import words
from tracing.cli.view import View
from tracing.record import COMPLETED, FAILED

Level = Literal["ok", "note", "warning", "wrong"]
"""`wrong` must be fixed; `warning` may be meant so; a `note` is a fact."""

_COLOURS: Final = {"ok": "green", "note": "default", "warning": "yellow", "wrong": "red"}
_LABEL: Final = 22


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact, whether it is well, and what to do if it is not."""

    label: str
    text: str
    level: Level = "ok"
    fix: str = ""


@dataclass(slots=True)
class Section:
    """What belongs together."""

    title: str
    findings: list[Finding] = field(default_factory=list)

    def add(self, label: str, text: str, level: Level = "ok", fix: str = "") -> None:
        """Add a finding."""
        self.findings.append(Finding(label, text, level, fix))


def count(sections: Iterable[Section], level: Level) -> int:
    """Return the number of findings of this *level*."""
    return sum(finding.level == level for section in sections for finding in section.findings)


def page(sections: Iterable[Section], view: View) -> Iterator[Text]:
    """Yield the lines of all *sections*, and the sum at the end."""
    sections = [*sections]
    for section in sections:
        yield Text(section.title, "bold")
        for finding in section.findings:
            yield from _lines(finding, view)
        yield Text()
    wrong, warnings = count(sections, "wrong"), count(sections, "warning")
    said = f"{words.count(wrong, 'thing')} to fix" if wrong else "Nothing has to be fixed"
    if warnings:
        said += f", {words.count(warnings, 'warning')}"
    yield Text(f"{said}.", "bold red" if wrong else "bold green")


def document(sections: Iterable[Section]) -> dict[str, Any]:
    """Return all *sections* for JSON."""
    sections = [*sections]
    return {
        "ok": not count(sections, "wrong"),
        "wrong": count(sections, "wrong"),
        "warnings": count(sections, "warning"),
        "sections": [
            {
                "title": section.title,
                "findings": [
                    {"label": one.label, "level": one.level, "text": one.text, "fix": one.fix}
                    for one in section.findings
                ],
            }
            for section in sections
        ],
    }


def _lines(finding: Finding, view: View) -> Iterator[Text]:
    mark = _mark(finding.level, view)
    style = _COLOURS[finding.level]
    label = words.one_line(finding.label)
    if len(label) > _LABEL:  # a long one has a line of its own
        yield Text.assemble("  ", (mark, style), " ", (view.shown(label), "dim"))
        mark, label = " ", ""
    room = max(view.width - _LABEL - 5, 20)
    for number, piece in enumerate(_wrapped(view.shown(words.one_line(finding.text)), room)):
        head, sign = (label, mark) if number == 0 else ("", " ")
        said = (piece, style if finding.level in ("warning", "wrong") else "")
        yield Text.assemble("  ", (sign, style), " ", (head.ljust(_LABEL), "dim"), " ", said)
    if finding.fix:
        for piece in _wrapped(view.shown(words.one_line(finding.fix)), room - 2):
            lead = f"{view.signs.arrow[:1]} " if finding.fix.startswith(piece) else "  "
            yield Text.assemble(" " * (_LABEL + 5), (lead, style), piece)


def _mark(level: Level, view: View) -> str:
    marks = {"ok": view.signs.marks[COMPLETED], "wrong": view.signs.marks[FAILED], "warning": "!"}
    return marks.get(level, " ")


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_on_hyphens=False) or [""]
