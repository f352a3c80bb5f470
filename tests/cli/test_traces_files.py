"""`traces export` and `traces import`: files that are whole, and what is said of them."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import sqlite3
import subprocess
import sys
import time
import tracemalloc
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pocketflow_async import AsyncFlow, AsyncNode
from tracing import trace_flow
from tracing.cli import exporting, importing
from tracing.cli.app import app
from tracing.export.model import Route
from tracing.formats.arrived import Arrived
from tracing.formats.importing import Importer
from tracing.store import TraceReader, TraceStore, open_store
from tracing.store.model import Span


class Load(AsyncNode):
    async def exec_async(self, prepared):
        return [1, 2]


@pytest.fixture
def shop(store_path):
    """Run a flow of a given name, and see to it that its trace is in the store."""

    def run(name: str = "Shop") -> str:
        asyncio.run(trace_flow(flow_name=name)(AsyncFlow(Load())).run_async({}))
        assert store.flush().dropped == 0
        return TraceReader(store_path).traces()[0].trace_id

    store = open_store()
    yield run
    store.close()


@pytest.fixture
def run(plain_env):
    """Run a command in this process."""
    return lambda *args, input=None: CliRunner().invoke(app, list(map(str, args)), input=input)


def plant(path: Path, traces: int, spans: int, start_ns: int | None = None) -> None:
    """Put so many traces of so many spans into a new store."""
    start = start_ns or time.time_ns()
    with Importer(str(path), time.time_ns()) as importer:
        for number in range(1, traces + 1):
            key = f"{number:032x}"
            below = tuple(
                Span(key, f"{n:016x}", f"{1:016x}" if n > 1 else None, "node", f"N{n}", None, start,
                     start + 10, "completed", input=b'"' + b"x" * 200 + b'"')
                for n in range(1, spans + 1)
            )  # fmt: skip
            importer.add(Arrived(key, f"T{number}", "completed", start + number, 10, below))


# -- the group ---------------------------------------------------------------------------------


def test_the_list_has_a_name_of_its_own(run, shop):
    """`traces list` is `traces`."""
    shop()

    assert run("traces", "list").stdout.split("AGE")[0] == run("traces").stdout.split("AGE")[0]
    assert json.loads(run("traces", "list", "-n", 1, "--json").stdout)[0]["name"] == "Shop"


def test_options_before_a_subcommand_are_refused(run, shop):
    """An option that would be lost silently is a usage error."""
    result = run("traces", "--store", "elsewhere.db", "export")

    assert result.exit_code == 2
    assert "after `export`" in result.stderr


# -- export ------------------------------------------------------------------------------------


def test_export_writes_the_latest_trace_to_standard_output(run, shop):
    """Without any argument: the latest, as our own lines, and nothing else."""
    shop("First")
    last = shop("Second")

    result = run("traces", "export")

    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["type"] for line in lines] == ["trace", "record", "record"]
    assert {line["trace_id"] for line in lines} == {last}
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("args", "names"),
    [
        (["--all"], ["A", "B", "A", "C"]),
        (["--name", "A"], ["A", "A"]),
        (["--limit", "2"], ["A", "C"]),
        (["-n", "1", "--name", "A"], ["A"]),
        (["latest"], ["C"]),
    ],
)
def test_traces_are_chosen_and_come_oldest_first(run, shop, args, names):
    """By number, by name, or all of them."""
    for name in "ABAC":
        shop(name)

    lines = run("traces", "export", *args).stdout.splitlines()

    found = [json.loads(line) for line in lines]
    assert [line["name"] for line in found if line["type"] == "trace"] == names


def test_traces_are_named_by_the_beginnings_of_their_ids(run, shop):
    """Each once, however often it is named."""
    one, other = shop(), shop()

    lines = run("traces", "export", other[:8], one, other).stdout.splitlines()

    found = [json.loads(line) for line in lines]
    assert [line["trace_id"] for line in found if line["type"] == "trace"] == [one, other]


def test_ids_and_choices_do_not_mix(run, shop):
    """It is one or the other."""
    assert run("traces", "export", shop(), "--all").exit_code == 2


@pytest.mark.parametrize("format", ["jsonl", "otlp-json", "chrome"])
def test_export_to_a_file(run, shop, tmp_path, format):
    """What was written is said; the file is its owner's alone, and nothing lies beside it."""
    shop()
    file = tmp_path / "out"
    file.write_text("before")

    result = run("traces", "export", "-f", format, "-o", file)

    assert result.stdout == f"wrote    {file}  1 trace, 2 spans\n"
    assert [found.name for found in tmp_path.iterdir()] == ["out"]
    text = file.read_text()
    if format == "chrome":
        assert len(json.loads(text)["traceEvents"]) > 5
    else:
        assert all(isinstance(json.loads(line), dict) for line in text.splitlines())
    if os.name == "posix":
        assert file.stat().st_mode & 0o777 == 0o600


def test_a_file_stays_when_the_new_one_cannot_be_written(run, shop, tmp_path, monkeypatch):
    """Half a file never replaces a whole one."""
    shop()
    file = tmp_path / "out"
    file.write_text("before")

    def broken(found, format, program):
        yield b"half"
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exporting, "_pieces", broken)
    result = run("traces", "export", "-o", file)

    assert result.exit_code == 1
    assert f"cannot write {file}: No space left on device" in result.stderr
    assert file.read_text() == "before"
    assert [found.name for found in tmp_path.iterdir()] == ["out"]


def test_a_folder_that_is_not_there(run, shop, tmp_path):
    """One line, no traceback."""
    shop()

    result = run("traces", "export", "-o", tmp_path / "no" / "out")

    assert result.exit_code == 1
    assert "No such file or directory" in result.stderr


@pytest.mark.parametrize("args", [[], ["--all"], ["--name", "X"]])
def test_export_without_traces(run, args):
    """There is nothing to write, and the message says how to begin."""
    result = run("traces", "export", *args)

    assert result.exit_code == 1
    assert "no traces yet" in result.stderr


def test_export_of_an_unknown_name(run, shop):
    """A name that no trace has is an error here: the file would be empty."""
    shop()

    result = run("traces", "export", "--name", "Nope")

    assert (result.exit_code, result.stdout) == (1, "")
    assert "no traces named 'Nope'" in result.stderr


def test_export_holds_one_trace_at_a_time(tmp_path, plain_env):
    """Memory does not grow with the number of traces: ten times as many need no more."""

    def peak(traces: int) -> int:
        path, out = tmp_path / f"{traces}.db", tmp_path / "out"
        plant(path, traces, 100)
        worst = 0
        for format in ("jsonl", "otlp-json", "chrome"):
            tracemalloc.start()
            exporting.to_file(str(path), exporting.Choice(every=True), format, out, "p")
            worst = max(worst, tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        return worst

    peak(1)  # what is imported and cached once does not count
    assert peak(100) < 1.5 * peak(10)


def test_otlp_lines_look_as_the_trace_was_meant(run, shop, store_path, monkeypatch):
    """What recorded it says the service and the phases; for a trace of nowhere, who exports it."""
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
    shop()
    assert '"mine"' in run("traces", "export", "-f", "otlp-json").stdout
    route = Route((), {"service.name": "theirs"}, frozenset())
    with closing(sqlite3.connect(store_path)) as connection, connection:
        connection.execute("INSERT INTO routes VALUES (7, '', ?)", (route.shape,))
        connection.execute("UPDATE records SET route = 7")

    said = run("traces", "export", "-f", "otlp-json").stdout

    assert '"theirs"' in said
    assert "Load.exec" not in said


# -- import ------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [None, b'{"traceEvents": []}', b'{ "displayTimeUnit":"ms"}'])
def test_a_file_for_chrome_cannot_be_imported(run, shop, tmp_path, text):
    """No rewriting of it would help: the message names the format that can be read back."""
    shop()
    file = tmp_path / "x.chrome"
    if text is None:
        run("traces", "export", "-f", "chrome", "-o", file)
    else:
        file.write_bytes(text)

    result = run("traces", "import", file, "--store", tmp_path / "other.db")

    assert result.exit_code == 1
    assert "cannot be imported" in result.stderr
    assert "`traces export --format jsonl`" in result.stderr
    assert "jq" not in result.stderr


@pytest.mark.parametrize("format", ["jsonl", "otlp-json"])
def test_import_of_what_was_exported(run, shop, tmp_path, format):
    """The format is found out; a trace that is there is not touched."""
    trace_id = shop()
    run("traces", "export", "-f", format, "-o", tmp_path / "out")
    other = tmp_path / "other.db"

    first = run("traces", "import", tmp_path / "out", "--store", other)
    second = run("traces", "import", tmp_path / "out", "--store", other)

    assert first.stdout.splitlines() == [
        f"read     {tmp_path / 'out'}  1 trace, 2 spans",
        f"store    {other}",
    ]
    assert "0 traces, 0 spans  (1 in the store already)" in second.stdout
    assert f"trace    {trace_id}" in run("show", "--store", other).stdout


def test_import_from_a_pipe(command, shop, tmp_path, child_env):
    """`-` is standard input; two processes and a pipe copy a trace."""
    shop()
    exported = command("traces", "export", "--all", "-o", "-")
    result = subprocess.run(
        [sys.executable, "-m", "tracing", "traces", "import", "-", "--store", "b.db"],
        cwd=tmp_path,
        env=child_env,
        input=exported.stdout,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )

    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("read     standard input  1 trace, 2 spans\n")


def test_a_bad_file_does_not_stop_the_good_ones(run, shop, tmp_path):
    """Each file is taken whole or not at all; the exit code says that one was not."""
    shop()
    good, bad, other = tmp_path / "good", tmp_path / "bad", tmp_path / "other.db"
    run("traces", "export", "-o", good)
    lines = good.read_bytes().splitlines(keepends=True)
    bad.write_bytes(lines[0] + lines[1] + lines[2][:-20])

    result = run("traces", "import", bad, good, tmp_path / "none", "--store", other)

    assert result.exit_code == 1
    errors = result.stderr.splitlines()
    assert errors[0].startswith(f"Error: {bad}:3: it is not a line of JSON")
    assert "none: it cannot be read (No such file or directory)" in errors[1]
    assert "1 trace, 2 spans" in result.stdout


def test_old_traces_are_pointed_out(run, shop, tmp_path, store_path):
    """A store forgets what is old: who imports it is told, with the way to keep it."""
    plant(tmp_path / "old.db", 2, 2, time.time_ns() - 20 * 86_400 * 10**9)
    run("traces", "export", "--all", "--store", tmp_path / "old.db", "-o", tmp_path / "out")

    result = run("traces", "import", tmp_path / "out")

    assert "2 of these began more than 14 days ago" in result.stdout
    assert "--store PATH" in result.stdout
    kept = inspect.signature(TraceStore).parameters["max_age"].default
    assert kept == importing.KEPT_DAYS * 86_400


def test_import_into_no_file(run, tmp_path, monkeypatch):
    """Where nothing is kept, nothing can be read in."""
    monkeypatch.setenv("POCKETFLOW_TRACE_STORE", "off")
    (tmp_path / "out").write_text("")

    assert run("traces", "import", tmp_path / "out").exit_code == 1
