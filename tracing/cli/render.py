"""Pages of the command line, from what the store's reader returns. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from tracing.cli import byhand, details, words
from tracing.cli.reading import Facts
from tracing.cli.tree import tree_lines
from tracing.cli.view import View, colour, outcome_word
from tracing.record import INTERRUPTED, RUNNING
from tracing.store.model import TraceSummary, TraceTree


def trace_page(tree: TraceTree, view: View) -> Iterator[Text]:
    """Yield the lines of one trace: what it was, then its tree."""
    yield _headline(tree.summary, view)
    yield from _facts(tree.summary, view)
    yield from _scores(tree)
    yield from _warnings(tree, view)
    yield Text()
    yield from tree_lines(tree, view)


def _headline(summary: TraceSummary, view: View) -> Text:
    line = Text(words.one_line(summary.name) or "(no name)", "bold")
    line.append("   ").append_text(_outcome(summary.outcome, view))
    line.append("   ").append(_lasted(summary, view), "cyan")
    line.append("   ").append(words.count(summary.spans, "span"))
    if summary.failures:
        line.append(f", {summary.failures:,} failed", "red")
    return line


def _facts(summary: TraceSummary, view: View) -> Iterator[Text]:
    yield Text.assemble(("trace    ", "dim"), summary.trace_id)
    ago = words.age(view.now_ns - summary.started_ns)
    yield Text.assemble(("started  ", "dim"), _local(summary.started_ns), (f", {ago} ago", "dim"))
    for label, value in (
        ("session  ", summary.session_id or ""),
        ("user     ", summary.user_id or ""),
        ("tags     ", ", ".join(summary.tags)),
        ("meta     ", details.pairs(summary.metadata)),
    ):
        if value:
            yield Text.assemble((label, "dim"), words.one_line(value))


def _scores(tree: TraceTree) -> Iterator[Text]:
    for score in tree.scores:
        yield Text.assemble(("score    ", "dim"), (byhand.of_score(score), "magenta"))


def _warnings(tree: TraceTree, view: View) -> Iterator[Text]:
    if tree.summary.outcome == RUNNING:
        yield Text("It is still running: this is what there is so far.", "cyan")
    if tree.summary.outcome == INTERRUPTED:
        yield Text("Its process ended before the trace did: open spans are interrupted.", "red")
    if tree.dropped:
        lost = words.count(tree.dropped, "record")
        yield Text(f"{lost} could not be kept in this store: parts may be missing.", "yellow")


def _local(ns: int) -> str:
    return datetime.fromtimestamp(ns / 1e9).astimezone().strftime("%Y-%m-%d %H:%M:%S %z")


def _outcome(outcome: str, view: View) -> Text:
    return Text(f"{view.signs.mark(outcome)} {outcome_word(outcome)}", colour(outcome))


def _lasted(summary: TraceSummary, view: View) -> str:
    if summary.duration_ns is not None:
        return words.duration(summary.duration_ns, view.signs.micro)
    if summary.outcome != RUNNING:
        return "?"
    elapsed = words.duration(view.now_ns - summary.started_ns, view.signs.micro)
    return elapsed + view.signs.ellipsis


def traces_table(summaries: Sequence[TraceSummary], view: View) -> Table:
    """Return the list of traces as a table; only names are cut, and only on a narrow screen."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for header, justify in (
        ("TRACE", "left"),
        ("NAME", "left"),
        ("OUTCOME", "left"),
        ("TIME", "right"),
        ("SPANS", "right"),
        ("FAILED", "right"),
        ("AGE", "right"),
    ):
        table.add_column(header, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    digits = _digits([summary.trace_id for summary in summaries])
    for summary in summaries:
        table.add_row(*_cells(summary, digits, view))
    return table


def _cells(summary: TraceSummary, digits: int, view: View) -> Iterator[RenderableType]:
    yield summary.trace_id[:digits]
    name = words.one_line(summary.name) or "(no name)"
    room = max(view.width - digits - 55, 12)
    yield name if view.piped else words.cut(name, room, view.signs.ellipsis)
    yield _outcome(summary.outcome, view)
    yield Text(_lasted(summary, view), "cyan")
    yield f"{summary.spans:,}"
    yield Text(f"{summary.failures:,}" if summary.failures else "", "red")
    yield words.age(view.now_ns - summary.started_ns)


def _digits(ids: Sequence[str]) -> int:
    """Return how many digits tell all *ids* apart, at least 8."""
    digits = 8
    while digits < 32 and len({one[:digits] for one in ids}) < len(set(ids)):
        digits += 1
    return digits


def footer(store: object) -> Iterator[Text]:
    """Yield where a list of traces came from."""
    yield Text()
    yield Text(f"store  {store}", "dim")


def nothing_yet(store: object, name: str | None, program: str) -> Iterator[Text]:
    """Yield what to do when the store holds no trace, or none of this *name*."""
    if name is not None:
        yield Text(f"No traces named {name!r} in {store}")
        return
    yield Text(f"No traces yet in {store}")
    yield Text()
    yield Text.assemble("To see one now:        ", (f"{program} demo", "bold"))
    yield Text.assemble("To trace a flow:       put ", ("@trace_flow()", "bold"), " on its class")
    yield Text.assemble("                       (", ("from tracing import trace_flow", "bold"), ")")


def after_demo(trace_id: str, report: Path, store: object, program: str) -> Iterator[Text]:
    """Yield where the demo left its report and its trace, and the commands to try next."""
    short = trace_id[:8]
    yield Text()
    yield Text.assemble(("report   ", "dim"), str(report))
    yield Text.assemble(("store    ", "dim"), str(store))
    yield Text()
    yield Text("Next:")
    commands = (
        (f"show {short} --phases", "with prep, exec and post"),
        (f"show {short} --json", "all of it, for machines"),
        ("traces", "every trace in the store"),
        ("graph tracing.demo:flow", "the flow as Mermaid text"),
    )
    longest = max(len(command) for command, _ in commands)
    for command, why in commands:
        yield Text.assemble(f"  {program} {command.ljust(longest)}  ", (why, "dim"))


def store_page(facts: Facts, program: str) -> Iterator[Text]:
    """Yield what the store is and holds."""
    yield _fact("store", Text(facts.path))
    if not facts.exists:
        yield _fact("holds", Text("nothing yet: the first traced run makes the file"))
    else:
        held = f"{words.count(facts.traces, 'trace')}, {words.count(facts.spans, 'span')}"
        yield _fact("holds", Text(held))
        yield _fact("size", Text(words.size(facts.bytes)))
    if facts.writable:
        yield _fact("writable", Text("yes", "green"))
    else:
        yield _fact("writable", Text("no: traced runs of this user cannot be kept here", "red"))
    if facts.dropped:
        lost = f"{words.count(facts.dropped, 'record')} that could not be kept"
        yield _fact("dropped", Text(lost, "yellow"))
    else:
        yield _fact("dropped", Text("none"))
    if not facts.traces:
        yield Text()
        yield Text.assemble("See a trace:  ", (f"{program} demo", "bold"))


def _fact(label: str, value: Text) -> Text:
    return Text.assemble((label.ljust(10), "dim"), value)
