"""Progress on the terminal."""

from __future__ import annotations

import io
from contextlib import aclosing

import pytest
from rich.console import Console

from pocketflow_async.runtime import (
    AsyncLocalRuntime,
    NodeFailed,
    NodeRetried,
    NodeStarted,
    RunStarted,
    show_progress,
)
from pocketflow_async.runtime.progress import State
from tests.workflow.runtime_kit import giver, node, nothing_left, raiser, sleeper, workflow


def console(**options):
    return Console(file=io.StringIO(), width=80, **options)


async def test_the_result_comes_back_and_the_end_is_shown():
    """Where the output is no terminal, only errors and the end are printed."""
    flow = workflow(
        [
            node("a", giver(1)),
            node("b", raiser(ValueError("[bold]no\x1b[31m"))),
            node("c", giver(1)),
        ],
        "b -> c",
    )
    shown = console()

    result = await show_progress(AsyncLocalRuntime().stream(flow), console=shown)

    assert result["results"] == {"a": 1}
    lines = shown.file.getvalue().splitlines()
    assert lines[0] == "b failed: ValueError: [bold]no\\x1b[31m"
    assert lines[1].startswith("test: 3 of 3, 1 failed, 1 skipped, ")
    assert len(lines) == 2


async def test_on_a_terminal_there_is_a_bar_and_a_line_for_each_node_at_work():
    """They are gone at the end."""
    flow = workflow([node("slow[red]", sleeper(0.3)), node("a", giver(1))])
    shown = console(force_terminal=True)

    await show_progress(AsyncLocalRuntime().stream(flow), console=shown)

    assert "slow[red]" in shown.file.getvalue()
    assert "1 of 2" in shown.file.getvalue()


async def test_leaving_early_closes_the_run():
    """An error in between leaves no run behind."""

    class Broken(Console):
        def print(self, *args, **kwargs):
            raise OSError("closed")

    flow = workflow([node("a", raiser(ValueError())), node("b", sleeper(100))])

    async with nothing_left():
        with pytest.raises(OSError, match="closed"):
            await show_progress(
                AsyncLocalRuntime().stream(flow), console=Broken(file=io.StringIO())
            )


async def test_events_without_a_result_are_an_error():
    """Nothing is made up."""

    async def nothing():
        return
        yield

    async with aclosing(nothing()) as events:
        with pytest.raises(RuntimeError, match="without a result"):
            await show_progress(events, console=console())


def test_many_nodes_at_work_are_counted():
    """No more lines than fit; attempts are told."""
    state = State()
    state.take(RunStarted("r", workflow([node(f"n{number}", giver(1)) for number in range(20)])))
    for number in range(10):
        state.take(NodeStarted(f"n{number}", 0, 0))
    state.take(NodeRetried("n1", 1, ValueError(), 1, 0))

    assert state.at_work()[:2] == ["n0", "n1, attempt 2"]
    assert state.at_work()[-1] == "and 2 more"
    assert state.take(NodeFailed("n0", ValueError("x"), 1, 1)) == "n0 failed: ValueError: x"
    assert state.counts() == "1 of 20, 1 failed"
