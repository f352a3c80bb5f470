"""How a run goes, on the terminal: one bar for the whole, a line for each node at work."""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import TYPE_CHECKING, Any

from pocketflow_async.runtime.events import (
    Event,
    NodeFailed,
    NodeFinished,
    NodeRetried,
    NodeSkipped,
    NodeStarted,
    RunFinished,
    RunStarted,
)
from pocketflow_async.runtime.results import in_words

if TYPE_CHECKING:
    from rich.console import Console

    from pocketflow_async.runtime.results import RunResult

_LINES = 8  # nodes at work that are shown at a time


class State:
    """What there is to show; a pure function of the events so far.

    Attributes:
        name: Name of the workflow.
        total: How many nodes it has.
        running: Nodes at work, in the order of their start, with the number of their attempt.
        finished: How many have yielded.
        failed: How many have failed.
        skipped: How many will not run.
        result: What came of the run, once it is at its end.
    """

    def __init__(self) -> None:
        self.name = ""
        self.total = 0
        self.running: dict[str, int] = {}
        self.finished = 0
        self.failed = 0
        self.skipped = 0
        self.result: RunResult | None = None

    @property
    def done(self) -> int:
        """How many nodes have ended."""
        return self.finished + self.failed + self.skipped

    def take(self, event: Event) -> str | None:
        """Take *event* in; return a line that is to stay on the screen, if there is one."""
        match event:
            case RunStarted():
                self.name, self.total = event.workflow.name, len(event.workflow.nodes)
            case NodeStarted():
                self.running[event.node_id] = 1
            case NodeRetried():
                self.running[event.node_id] = event.attempt + 1
            case NodeFinished():
                self.running.pop(event.node_id, None)
                self.finished += 1
            case NodeFailed():
                self.running.pop(event.node_id, None)
                self.failed += 1
                return f"{event.node_id} failed: {in_words(event.error)}"
            case NodeSkipped():
                self.running.pop(event.node_id, None)
                self.skipped += 1
            case RunFinished():
                self.result = event.result
        return None

    def counts(self) -> str:
        """Return how far it is, in words: `3 of 8, 1 failed`."""
        parts = [f"{self.done} of {self.total}"]
        if self.failed:
            parts.append(f"{self.failed} failed")
        if self.skipped:
            parts.append(f"{self.skipped} skipped")
        return ", ".join(parts)

    def at_work(self) -> list[str]:
        """Return a line for each node at work, up to a number that fits the screen."""
        lines = [
            f"{node_id}, attempt {attempt}" if attempt > 1 else node_id
            for node_id, attempt in self.running.items()
        ]
        more = len(lines) - _LINES
        return lines if more <= 0 else [*lines[:_LINES], f"and {more} more"]


async def show_progress(
    events: AsyncIterable[Event], *, console: Console | None = None
) -> RunResult:
    """Show how a run goes on the terminal, and return its result.

    Use it as `result = await show_progress(runtime.stream(workflow, inputs))`. Where the output is
    no terminal, only errors and the end are printed.

    Args:
        events: What `AsyncLocalRuntime.stream` yields; it is closed in any case.
        console: Where to show it; standard error when left out.

    Raises:
        RuntimeError: The events ended without a result.
    """
    from rich.console import Console  # noqa: PLC0415 (rich takes long to import)
    from rich.live import Live  # noqa: PLC0415

    shown = console or Console(stderr=True)
    state = State()
    try:
        with Live(console=shown, transient=True, get_renderable=lambda: _screen(state)):
            async for event in events:
                line = state.take(event)
                if line is not None:
                    shown.print(_clean(line), markup=False, highlight=False, style="red")
    finally:
        close: Any = getattr(events, "aclose", None)
        if close is not None:
            await close()
    if state.result is None:
        raise RuntimeError("the run has ended without a result")
    took = state.result["total_duration"]
    last = f"{state.name}: {state.counts()}, {took:.2f} s"
    shown.print(_clean(last), markup=False, highlight=False)
    return state.result


def _screen(state: State) -> Any:
    from rich.console import Group  # noqa: PLC0415 (as above)
    from rich.progress_bar import ProgressBar  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    head = Table.grid(padding=(0, 1))
    head.add_row(
        Text(_clean(state.name), "bold"),
        ProgressBar(total=max(state.total, 1), completed=state.done, width=30),
        Text(state.counts()),
    )
    return Group(head, *(Text(f"  {_clean(line)}", "dim") for line in state.at_work()))


def _clean(text: str) -> str:
    """Return *text* in one line, with nothing that a terminal would obey."""
    one = " ".join(text.split())
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in one)
