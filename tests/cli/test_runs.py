"""The commands about stored runs: runs, approve."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from decimal import Decimal

import pytest
from typer.testing import CliRunner

from pocketflow_async import AsyncFlow, AsyncNode
from pocketflow_async.infrastructure.checkpoints import NeedsReconciliation, RunSuspended, ask
from pocketflow_async.infrastructure.store import RunRow, SqliteStore
from tracing.cli.app import app


class Asks(AsyncNode):
    async def exec_async(self, prep_res):
        return await ask(
            "sell \x1b[31m now?", choices=["yes", "no"], payload={"amount": Decimal("3.5")}
        )


class Fails(AsyncNode):
    async def exec_async(self, prep_res):
        raise ValueError("no luck")


@pytest.fixture
def db(tmp_path):
    """A store with one run of each kind."""
    path = tmp_path / "runs.db"

    async def fill() -> None:
        async with SqliteStore(path) as store:
            await AsyncFlow(AsyncNode(), name="Done").run_async({}, run_id="done", store=store)
            with suppress(ValueError):
                await AsyncFlow(Fails(), name="Bad").run_async({}, run_id="bad", store=store)
            await store.create_run(RunRow("w", "workflow", "flow.json", ""))
            with suppress(RunSuspended):
                await AsyncFlow(Asks(), name="Sell").run_async({}, run_id="ask", store=store)

    asyncio.run(fill())
    return path


def cli(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args])


def test_runs_are_listed_with_what_they_wait_for(db):
    """The latest first; why one has failed, and what another asks, cleaned of control signs."""
    result = cli("runs", "--store", db)

    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == [
        "ask",
        "w",
        "bad",
        "done",
    ]
    assert "suspended  Sell" in result.stdout
    assert "  ValueError: no luck" in lines
    assert "['yes', 'no']" in result.stdout
    assert "\x1b" not in result.stdout


def test_runs_of_one_status_as_json(db):
    """What no JSON can say is text."""
    result = cli("runs", "--status", "suspended", "--json", "--store", db)

    (run,) = json.loads(result.stdout)
    assert (run["run_id"], run["kind"], run["name"]) == ("ask", "flow", "Sell")
    (question,) = run["waits_for"]
    assert question["choices"] == ["yes", "no"]
    assert question["node"] == "Asks"
    assert cli("runs", "--status", "halted", "--store", db).stdout == "no runs\n"


def test_an_answer_is_given_once(db):
    """Then the run is listed as answered, and goes on with it."""
    result = cli("approve", "ask", "--value", '"yes"', "--by", "ann", "--store", db)
    assert result.exit_code == 0, result.output
    assert "suspended, answered" in cli("runs", "--store", db).stdout
    again = cli("approve", "ask", "--value", '"no"', "--store", db)
    assert again.exit_code == 1
    assert "does not wait" in again.stderr

    class Says(Asks):
        async def post_async(self, shared, prep_res, exec_res):
            shared["said"] = exec_res

    shared = {}
    flow = AsyncFlow(type("Asks", (Says,), {"__qualname__": "Asks"})(), name="Sell")
    asyncio.run(flow.resume("ask", shared, store=db))
    assert shared == {"said": "yes"}


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("ask", "--value", "yes"), "text is written '\"yes\"'"),
        (("ask", "--value", "7"), "none of the choices"),
        (("done", "--value", "7"), "does not wait"),
        (
            ("w", "--value", "7"),
            "'w' is an execution of the workflow 'flow.json', and running: it waits for no",
        ),
        (("none", "--value", "7"), "there is no run 'none'"),
        (("ask", "--value", '"yes"', "--question", "x"), "does not wait for an answer to 'x'"),
    ],
)
def test_what_cannot_be_answered_is_told_in_a_line(db, args, said):
    """With what to do, and exit code 1."""
    result = cli("approve", *args, "--store", db)

    assert result.exit_code == 1
    assert said in " ".join(result.stderr.split())
    assert "Traceback" not in result.output


def test_an_execution_in_doubt_is_no_matter_of_approve(db):
    """It is said what to do instead: the program goes on with it, and says what it knows."""

    async def fill() -> None:
        async with SqliteStore(db) as store:
            await store.create_run(
                RunRow("x-1", "workflow", "w.json", "", status="needs_reconciliation")
            )

    asyncio.run(fill())

    result = cli("approve", "x-1", "--value", '{"done": true}', "--store", db)

    assert result.exit_code == 1
    said = " ".join(result.stderr.split())
    assert "'x-1' is an execution of the workflow 'w.json'" in said
    assert "`await resume_execution(infra, 'x-1', reconcile=…)`" in said


def test_a_store_that_is_not_there_is_not_made(tmp_path):
    """Nor is one in memory looked into, or an address that is none."""
    path = tmp_path / "none.db"

    for store, said in (
        (path, "there is no store at"),
        ("memory:", "within one process"),
        ("ftp://user:hunter2@x", "is no place for a store"),
    ):
        result = cli("runs", "--store", store)
        assert result.exit_code == 1
        assert said in " ".join(result.stderr.split())
        assert "hunter2" not in result.output
    assert not path.exists()


def test_reconciliation_is_answered_the_same_way(tmp_path):
    """A node of unknown effect is listed with its key."""
    path = tmp_path / "runs.db"

    class Sell(AsyncNode):
        on_restart = "reconcile"
        crashes = [True]

        async def exec_async(self, prep_res):
            if self.crashes:
                self.crashes.pop()
                raise ValueError

    flow = AsyncFlow(Sell())
    for error, work in (
        (ValueError, lambda: flow.run_async({}, run_id="r", store=path)),
        (NeedsReconciliation, lambda: flow.resume("r", store=path)),
    ):
        with suppress(error):
            asyncio.run(work())
    listed = cli("runs", "--status", "needs_reconciliation", "--store", path)
    assert "r:1.1" in listed.stdout

    assert cli("approve", "r", "--value", '{"done": 1}', "--store", path).exit_code == 1
    assert cli("approve", "r", "--value", '{"done": false}', "--store", path).exit_code == 0
    asyncio.run(flow.resume("r", store=path))
    assert "completed" in cli("runs", "--store", path).stdout
