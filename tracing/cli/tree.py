"""A trace's tree as lines of text, each no wider than the screen."""

from __future__ import annotations

from collections.abc import Iterator

from rich.cells import cell_len
from rich.text import Text

from tracing.cli import details, words
from tracing.cli.shape import Branch, Hidden, branches, roots
from tracing.cli.view import View, colour, outcome_word
from tracing.record import COMPLETED
from tracing.store.model import PhaseSpan, Span, TraceTree

Note = tuple[str, str]
"""Words beside a name, and their style."""


def tree_lines(tree: TraceTree, view: View) -> Iterator[Text]:
    """Yield the lines of *tree*, from the top down."""
    signs = view.signs
    waiting = [(branch, "", "") for branch in reversed(roots(tree.roots))]
    while waiting:  # a stack of our own: traces may be deeper than Python's
        branch, first, rest = waiting.pop()
        below = branches(branch, phases=view.phases, full=view.full)
        yield _row(branch, first, view)
        yield from details.of(branch.entry, rest + (signs.pipe if below else signs.gap), view)
        for place in range(len(below) - 1, -1, -1):
            last = place == len(below) - 1
            joint, on = (signs.elbow, signs.gap) if last else (signs.tee, signs.pipe)
            waiting.append((below[place], rest + joint, rest + on))


def _row(branch: Branch, prefix: str, view: View) -> Text:
    entry = branch.entry
    if isinstance(entry, Hidden):
        return Text.assemble((prefix, "dim"), (_hidden(entry, view), "dim"))
    notes = _phase_notes(entry) if isinstance(entry, PhaseSpan) else _span_notes(entry, view)
    time = details.lasted(entry, view)
    tail = "".join(f"  {word}" for word, _ in notes)
    room = view.width - cell_len(prefix) - 2 - cell_len(tail) - 2 - max(len(time), 8)
    name = words.cut(view.shown(_name(branch)), max(room, 8), view.signs.ellipsis)
    line = Text.assemble(
        (prefix, "dim"),
        (view.signs.mark(entry.outcome) + " ", colour(entry.outcome)),
        (name, "bold" if isinstance(entry, Span) and entry.kind in {"flow", "workflow"} else ""),
    )
    for word, style in notes:
        line.append("  ").append(word, style)
    line.append(" " * max(view.width - line.cell_len - len(time), 1))
    return line.append(time, "cyan" if isinstance(entry, Span) else "dim")


def _name(branch: Branch) -> str:
    entry = branch.entry
    if isinstance(entry, PhaseSpan):
        return f"{entry.kind} {entry.attempt + 1}" if _numbered(branch) else entry.kind
    assert isinstance(entry, Span)
    name = words.one_line(entry.name) or "(no name)"
    if entry.index is None:
        return f"{name}()" if entry.kind == "function" else name
    return f"[{entry.index}]" if entry.name == branch.above else f"[{entry.index}] {name}"


def _numbered(branch: Branch) -> bool:
    return branch.of_many and isinstance(branch.entry, PhaseSpan) and branch.entry.kind == "exec"


def _span_notes(span: Span, view: View) -> list[Note]:
    notes: list[Note] = []
    if (action := span.attributes.get(details.ACTION)) is not None:
        shown = words.cut(words.one_line(str(action)), 24, view.signs.ellipsis)
        notes.append((view.shown(f"{view.signs.arrow} {shown}"), "dim"))
    if span.outcome != COMPLETED:
        notes.append((outcome_word(span.outcome), colour(span.outcome)))
    if span.attempts > 1:
        notes.append((f"{span.attempts} attempts", "yellow"))
    if any(phase.kind == "fallback" and phase.outcome == COMPLETED for phase in span.phases):
        notes.append(("fell back", "yellow"))
    return notes


def _phase_notes(phase: PhaseSpan) -> list[Note]:
    if phase.outcome == COMPLETED:
        return []
    return [(outcome_word(phase.outcome), colour(phase.outcome))]


def _hidden(hidden: Hidden, view: View) -> str:
    what = words.count(hidden.count, "more item" if hidden.items else "more step")
    if hidden.outcomes[0][0] == COMPLETED and len(hidden.outcomes) == 1:
        return f"{view.signs.ellipsis} {what}, all completed"
    parts = ", ".join(f"{number:,} {outcome_word(name)}" for name, number in hidden.outcomes)
    return f"{view.signs.ellipsis} {what}: {parts}"
