"""The commands on real stores, in this process and as processes of their own."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from typer.testing import CliRunner

from pocketflow_async import AsyncFlow, AsyncNode, AsyncParallelBatchNode
from tracing import trace_flow
from tracing.cli import console
from tracing.cli.app import app
from tracing.record import COMPLETED, Record, Trace
from tracing.store import TraceStore, open_store


class Load(AsyncNode):
    async def prep_async(self, shared):
        return shared["count"]

    async def exec_async(self, count):
        return list(range(count))

    async def post_async(self, shared, prepared, loaded):
        shared["items"] = loaded
        return "work"


class Work(AsyncParallelBatchNode):
    async def prep_async(self, shared):
        return shared["items"]

    async def exec_async(self, item):
        if item == 2 and self.cur_retry == 0:
            raise ConnectionError("busy")
        if item == 99:
            raise ValueError("no such item: größe")
        return item * item


@trace_flow(session_id="s-1", tags=["night"])
class Shop(AsyncFlow):
    def __init__(self):
        load = Load()
        load - "work" >> Work(max_retries=2)
        super().__init__(start=load)


@pytest.fixture
def shop(store_path):
    """Run the shop on so many items, and see to it that the trace is in the store."""
    import asyncio

    def run(count: int) -> None:
        flow = Shop()
        try:
            asyncio.run(flow.run_async({"count": count}))
        except ValueError:
            assert count == 100
        assert store.flush().dropped == 0

    store = open_store()
    assert store is not None
    yield run
    store.close()


@pytest.fixture
def plant(store_path):
    """Put traces with given ids into the store; all last 10 ms, each a second after the other."""

    def plant(*ids: str) -> None:
        store = TraceStore(store_path)
        for place, trace_id in enumerate(ids):
            wall = time.time_ns() - (len(ids) - place) * 10**9
            trace = Trace(int(trace_id, 16), f"T{place}", wall, 0)
            record = Record(trace, place + 1, None, "flow", trace.name, 0)
            record.end, record.outcome = 10_000_000, COMPLETED
            store.opened(record)
            store.closed(record)
        store.close()

    return plant


@pytest.fixture
def run(plain_env):
    """Run a command in this process."""
    return lambda *args: CliRunner().invoke(app, list(args))


def _lines(text: str) -> list[str]:
    return text.rstrip("\n").split("\n")


# -- traces ------------------------------------------------------------------------------------


def test_traces_says_what_to_do_first(run, store_path):
    """Without a store there is no error, but a way to begin."""
    result = run("traces")

    assert result.exit_code == 0
    assert f"No traces yet in {store_path}" in result.stdout
    assert " demo" in result.stdout
    assert "@trace_flow()" in result.stdout
    assert not store_path.exists()


def test_traces_as_json_are_a_list_even_when_there_are_none(run):
    """A program that reads it needs no special case."""
    result = run("traces", "--json")

    assert (result.exit_code, json.loads(result.stdout), result.stderr) == (0, [], "")


def test_traces_lists_the_latest_first(run, shop, store_path):
    """One line per trace, and the store's path."""
    shop(3)
    shop(100)

    lines = _lines(run("traces").stdout)

    assert lines[0].split() == ["TRACE", "NAME", "OUTCOME", "TIME", "SPANS", "FAILED", "AGE"]
    assert re.match(r"[0-9a-f]{8}  Shop  ✗ failed    +\S+ .s +\d+ +\d+ +\ds$", lines[1])
    assert re.match(r"[0-9a-f]{8}  Shop  ✓ completed +\S+ .s +6 +\ds$", lines[2])
    assert lines[3:] == ["", f"store  {store_path}"]


def test_traces_can_be_limited_and_named(run, plant):
    """`--limit` and `--name` choose; a name that no trace has is not an error."""
    plant("0" * 31 + "1", "0" * 31 + "2", "0" * 31 + "3")

    assert [one["name"] for one in json.loads(run("traces", "-n", "2", "--json").stdout)] == [
        "T2",
        "T1",
    ]
    assert [one["name"] for one in json.loads(run("traces", "--name", "T0", "--json").stdout)] == [
        "T0"
    ]
    unknown = run("traces", "--name", "T9")
    assert unknown.exit_code == 0
    assert "No traces named 'T9'" in unknown.stdout


def test_ids_are_long_enough_to_tell_traces_apart(run, plant):
    """Eight digits, unless two of the traces share them."""
    plant("aaaaaaaab" + "0" * 23, "aaaaaaaac" + "0" * 23)

    assert [line.split()[0] for line in _lines(run("traces").stdout)[1:3]] == [
        "aaaaaaaac",
        "aaaaaaaab",
    ]


def test_a_store_can_be_named(run, shop, store_path, monkeypatch):
    """`--store` wins over the environment."""
    shop(3)
    monkeypatch.setenv("POCKETFLOW_TRACE_STORE", "off")

    assert "Shop" in run("traces", "--store", str(store_path)).stdout
    assert "Shop" in run("show", "--store", str(store_path)).stdout
    assert "1 trace," in run("store", "--store", str(store_path)).stdout


# -- show --------------------------------------------------------------------------------------


def test_show_takes_the_latest_trace_an_id_or_a_prefix(run, shop):
    """All three lead to the same page."""
    shop(3)
    trace_id = json.loads(run("traces", "--json").stdout)[0]["trace_id"]

    pages = [run("show", *args).stdout for args in ((), ("latest",), (trace_id,), (trace_id[:6],))]

    assert all(f"trace    {trace_id}" in page for page in pages)
    page = pages[0]
    assert "session  s-1" in page
    assert "✓ Load  → work" in page
    assert "[2]  2 attempts" in page
    assert "↻ attempt 1: ConnectionError: busy" in page
    assert "prep" not in page


def test_show_names_the_error_and_its_line(run, shop):
    """A failed run shows what was raised, in the item that raised it, and where."""
    shop(100)

    page = run("show").stdout

    assert page.count("ValueError: no such item: größe") == 2  # first attempt, then for good
    assert re.search(r"at \S*test_commands.py:\d+ in Work.exec_async", page)
    assert re.search(r"✗ \[99\]  failed  2 attempts", page)


def test_show_phases(run, shop):
    """`--phases` gives prep, each attempt and post their lines."""
    shop(3)

    page = run("show", "--phases").stdout

    assert re.search(r"├─ ✗ exec 1  failed", page)
    assert re.search(r"└─ ✓ exec 2", page)
    assert re.search(r"✓ prep .*s\n", page)


def test_show_folds_and_unfolds(run, shop):
    """A batch of fifty takes a screen; `--full` shows all of it."""
    shop(50)

    assert "… 40 more items, all completed" in run("show").stdout
    assert "[49]" not in run("show").stdout
    assert "[49]" in run("show", "--full").stdout


def test_show_json_is_one_document(run, shop):
    """The whole tree, with content as JSON, and nothing beside it."""
    shop(3)

    result = run("show", "--json")

    found = json.loads(result.stdout)
    assert result.stderr == ""
    assert (found["name"], found["outcome"], found["session_id"]) == ("Shop", "completed", "s-1")
    (root,) = found["roots"]
    assert root["input"] == {"count": 3}
    load, work = root["children"]
    assert load["attributes"] == {"action": "work"}
    assert load["output"] == [0, 1, 2]
    assert [item["output"] for item in work["children"]] == [0, 1, 4]
    assert [item["attempts"] for item in work["children"]] == [1, 1, 2]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("ffff", "no trace has an id that starts with 'ffff'"),
        ("aa", "several traces"),
        ("x!", "x!"),
    ],
)
def test_show_explains_a_wrong_id(run, plant, asked, said):
    """An id that leads nowhere, or to several traces, is one message and exit code 1."""
    plant("aa01" + "0" * 28, "aa02" + "0" * 28)

    result = run("show", asked)

    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert said in result.stderr
    assert len(_lines(result.stderr)) == 1


def test_show_without_any_trace(run, store_path):
    """There is nothing to show, and the message says how to begin."""
    result = run("show")

    assert result.exit_code == 1
    assert str(store_path) in result.stderr
    assert " demo`" in result.stderr


# -- store -------------------------------------------------------------------------------------


def test_store_tells_where_it_is_and_what_it_holds(run, shop, store_path):
    """Path, contents, size, whether it can be written, and what was lost."""
    shop(3)

    lines = _lines(run("store").stdout)

    assert lines[0] == f"store     {store_path}"
    assert lines[1] == "holds     1 trace, 6 spans"
    assert re.match(r"size      \S+ kB$", lines[2])
    assert lines[3:] == ["writable  yes", "dropped   none"]


def test_store_before_the_first_trace(run, store_path):
    """A store that is not there yet is named all the same, and not made."""
    result = run("store")

    assert result.exit_code == 0
    assert "nothing yet" in result.stdout
    assert "writable  yes" in result.stdout
    assert not store_path.exists()


def test_store_counts_what_was_dropped(run, shop, store_path):
    """Losses are shown, here and in the trace."""
    import sqlite3

    shop(3)
    with sqlite3.connect(store_path) as connection:
        connection.execute("UPDATE owners SET dropped = 7")
    connection.close()

    assert "7 records" in run("store").stdout
    assert "7 records could not be kept" in run("show").stdout


def test_store_says_whether_it_can_be_written(run, shop, store_path):
    """A read-only store says so, to all but root, who may write everywhere."""
    shop(3)
    assert "writable  yes" in run("store").stdout
    store_path.chmod(0o400)

    assert f"writable  {'yes' if os.geteuid() == 0 else 'no'}" in run("store").stdout


@pytest.mark.parametrize("command", ["traces", "show", "store"])
def test_a_file_that_is_no_store(run, store_path, command):
    """Another file is named with what is wrong with it, and left alone."""
    store_path.write_text("just some notes\n" * 100)

    result = run(command)

    assert result.exit_code == 1
    assert f"cannot read the trace store {store_path}" in result.stderr
    assert result.stdout == ""
    assert store_path.read_text().startswith("just some notes")


@pytest.mark.parametrize("command", ["traces", "show", "store"])
@pytest.mark.parametrize("location", ["off", "memory"])
def test_no_store_in_a_file(run, monkeypatch, command, location):
    """Where nothing is kept, no command can show it, and the message says which setting."""
    monkeypatch.setenv("POCKETFLOW_TRACE_STORE", location)

    result = run(command)

    assert result.exit_code == 1
    assert f"the trace store is '{location}'" in result.stderr


# -- graph -------------------------------------------------------------------------------------

FLOWS = """
from pocketflow_async import AsyncFlow, AsyncNode
print("noise")
class Ask(AsyncNode):
    async def post_async(self, shared, prepared, answer): return "again"
class Tell(AsyncNode): pass
ask = Ask(); ask - "again" >> ask; ask - "done" >> Tell()
flow = AsyncFlow(start=ask)
good = AsyncFlow(start=Tell())
"""


def test_graph_prints_mermaid_and_nothing_else(command, tmp_path):
    """The output can be written to a file as it is."""
    (tmp_path / "flows.py").write_text(FLOWS)

    for target in ("flows:flow", "flows.py:flow"):
        result = command("graph", target)
        assert result.returncode == 0
        assert result.stdout.startswith("flowchart TD\n")
        assert '-->|"again"|' in result.stdout
        assert "noise" not in result.stdout


def test_graph_check(command, tmp_path):
    """`--check` lists what is wrong, and its exit code says whether anything is."""
    (tmp_path / "flows.py").write_text(FLOWS)

    bad, good = command("graph", "flows:flow", "--check"), command("graph", "flows:good", "--check")

    assert bad.returncode == 1
    assert bad.stdout.startswith("unreachable: ")
    assert "Tell" in bad.stdout
    assert (good.returncode, good.stdout) == (0, "flows:good: no problems\n")


def test_graph_explains_a_wrong_target(command):
    """No traceback: one line on standard error."""
    result = command("graph", "nowhere:flow")

    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: cannot import nowhere: ModuleNotFoundError")
    assert len(_lines(result.stderr)) == 1


# -- demo --------------------------------------------------------------------------------------


@pytest.fixture
def stand_in(monkeypatch, shop, store_path):
    """Put a demo in place of the real one: it runs the shop and notes what it was asked."""
    from tracing.store import TraceReader

    asked = SimpleNamespace()
    module = ModuleType("tracing.demo")
    module.__file__ = str(Path(console.__file__).parents[1] / "demo.py")

    def demo_run(folder: Path, report: Path) -> str:
        asked.folder, asked.report = folder, report
        shop(3)
        return TraceReader(store_path).traces(1)[0].trace_id

    module.run = demo_run
    monkeypatch.setitem(sys.modules, "tracing.demo", module)
    monkeypatch.setattr("tracing.demo", module, raising=False)
    return asked


def test_demo_shows_its_trace_and_what_to_try_next(run, stand_in, store_path, tmp_path):
    """After the tree: the report, the store, and commands that can be copied."""
    result = run("demo", str(tmp_path), "--report", str(tmp_path / "out.md"))

    assert result.exit_code == 0, result.stderr
    assert (stand_in.folder, stand_in.report) == (tmp_path, tmp_path / "out.md")
    assert result.stdout.startswith("Shop   ✓ completed")
    assert f"report   {tmp_path / 'out.md'}" in result.stdout
    assert f"store    {store_path}" in result.stdout
    short = re.search(r"trace    (\w{8})", result.stdout)[1]
    assert f" show {short} --phases" in result.stdout


def test_demo_reads_its_own_sources_by_default(run, stand_in):
    """Real input without a question: the package's own files."""
    run("demo")

    assert (stand_in.folder / "cli" / "app.py").exists()
    assert stand_in.report == Path("pocketflow-report.md")


def test_demo_wants_a_folder_that_exists(run, stand_in, tmp_path):
    """A wrong folder is refused before anything runs."""
    result = run("demo", str(tmp_path / "nowhere"))

    assert result.exit_code == 2
    assert not hasattr(stand_in, "folder")


@pytest.mark.skipif(importlib.util.find_spec("tracing.demo") is None, reason="no demo yet")
def test_the_real_demo(command, tmp_path):
    """It reads a folder of real files, writes a report, and its trace is in the store."""
    (tmp_path / "files").mkdir()
    for name in ("a.txt", "b.py", "c.md"):
        (tmp_path / "files" / name).write_text("one two three\n" * 10)

    result = command("demo", "files")

    assert result.returncode == 0, result.stderr
    assert (tmp_path / "pocketflow-report.md").stat().st_size > 0
    assert "completed" in result.stdout
    assert json.loads(command("traces", "--json").stdout)[0]["outcome"] == "completed"


# -- the program -------------------------------------------------------------------------------


def test_version(command):
    """`--version` is one line."""
    assert re.match(r"pocketflow-async \S+.*\n$", command("--version").stdout)


def test_no_command_prints_the_help(command):
    """All commands are named, and nothing is wrong with asking."""
    result = command()

    assert result.returncode == 0
    for name in ("demo", "traces", "show", "graph", "store"):
        assert re.search(rf"^\W*{name}\b", result.stdout, re.M)


def test_an_unknown_command_is_a_usage_error(command):
    """Exit code 2, as everywhere."""
    result = command("shwo")

    assert result.returncode == 2
    assert "shwo" in result.stderr


ANSI = "\x1b["


def test_pipes_get_no_colours(command, shop):
    """Neither lists nor trees carry escape sequences into a pipe, and ids are whole."""
    shop(50)

    for args in (("traces",), ("show",), ("show", "--full", "--phases"), ("store",), ("--help",)):
        assert ANSI not in command(*args).stdout
    assert re.search(r"^trace    [0-9a-f]{32}$", command("show", COLUMNS="40").stdout, re.M)


def test_no_color_wins(command, shop):
    """NO_COLOR leaves no escape sequence at all, even where colours were asked for."""
    shop(3)

    assert ANSI in command("show", FORCE_COLOR="1").stdout
    assert ANSI not in command("show", FORCE_COLOR="1", NO_COLOR="1").stdout


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_screens_without_unicode(command, child_env, shop, tmp_path, encoding):
    """Every command works where the encoding has no signs; content is escaped, not lost."""
    shop(100)

    for args in (("traces",), ("show",), ("show", "--full"), ("show", "--json"), ("store",), ()):
        result = subprocess.run(
            [sys.executable, "-m", "tracing", *args],
            cwd=tmp_path,
            env={**child_env, "PYTHONIOENCODING": encoding},
            capture_output=True,
            check=False,
            timeout=50,
        )
        assert result.returncode == 0, result.stderr
        text = result.stdout.decode(encoding)
        if args == ("show",):
            assert "`- x Work  failed" in text
            assert "gr\\xf6\\xdfe" in text
        if "--json" in args:
            assert "größe" in str(json.loads(text))


def test_lines_fit_eighty_columns(command, shop):
    """At 80 columns no line of a list or tree is wider."""
    shop(50)

    for args in (("traces",), ("show",), ("show", "--phases")):
        lines = _lines(command(*args, COLUMNS="80").stdout)
        assert max(len(line) for line in lines if not line.startswith("store")) <= 80


@pytest.mark.skipif(os.name == "nt", reason="POSIX pipes")
@pytest.mark.parametrize(
    ("args", "code"),
    [(["show"], 141), (["show", "--json"], 141), (["traces"], 141), (["--help"], 1)],
)
def test_a_closed_pipe_ends_it_quietly(child_env, shop, args, code):
    """`| head` prints no traceback; the exit code is that of a program that SIGPIPE ends.

    The help is typer's own, and so is its exit code.
    """
    shop(3)
    with subprocess.Popen(
        [sys.executable, "-m", "tracing", *args],
        env=child_env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""

    assert process.returncode == code


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_ctrl_c_ends_it_quietly(child_env, tmp_path):
    """An interrupt is exit code 130 and no traceback."""
    (tmp_path / "slow.py").write_text("import time; print('ready', flush=True); time.sleep(60)")
    with subprocess.Popen(
        [sys.executable, "-m", "tracing", "graph", "slow:flow"],
        cwd=tmp_path,
        env=child_env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)

        assert process.wait(timeout=50) == 130
        assert process.stderr.read() == b""


HANGING = """
import asyncio
from pocketflow_async import AsyncFlow, AsyncNode
from tracing import trace_flow

class Hang(AsyncNode):
    async def exec_async(self, prepared):
        await asyncio.sleep(60)

asyncio.run(trace_flow(AsyncFlow(start=Hang())).run_async({}))
"""


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_running_and_killed_flows(run, child_env, tmp_path):
    """A flow can be watched while it runs; once it is killed, its open node is interrupted."""
    process = subprocess.Popen([sys.executable, "-c", HANGING], env=child_env, cwd=tmp_path)
    try:
        deadline = time.monotonic() + 30
        while "Hang" not in (page := run("show").stdout) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert "It is still running" in page
        assert re.search(r"● Hang  running .*s…$", page, re.M)
        assert "● running" in run("traces").stdout
    finally:
        process.kill()
        process.wait()

    page = run("show").stdout
    assert "↯ interrupted" in page
    assert re.search(r"↯ Hang  interrupted ", page)
    assert "↯ interrupted" in run("traces").stdout


# -- the screen --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("called", "program"),
    [
        ("{here}/tracing/__main__.py", "python -m tracing"),
        ("{here}/.venv/bin/pocketflow-async", ".venv/bin/pocketflow-async"),
        ("/opt/venv/bin/pocketflow-async", "/opt/venv/bin/pocketflow-async"),
        ("{path}/pocketflow-async", "pocketflow-async"),
    ],
)
def test_commands_are_named_as_they_can_be_typed(monkeypatch, tmp_path, called, program):
    """What is printed to be copied works: by name on the PATH, else by the shortest path."""
    here, path = tmp_path / "here", tmp_path / "path"
    for folder in (here, path):
        folder.mkdir()
        (folder / "pocketflow-async").touch(mode=0o755)
    monkeypatch.chdir(here)
    monkeypatch.setenv("PATH", str(path))
    monkeypatch.setattr(sys, "argv", [called.format(here=here, path=path)])

    assert console.program() == program


def test_encodings_that_show_signs(monkeypatch):
    """UTF-8 does; an unknown encoding counts as ASCII."""
    for encoding, shows in (("utf-8", True), ("ascii", False), ("cp437", False), (None, False)):
        monkeypatch.setattr(sys, "stdout", SimpleNamespace(encoding=encoding))
        assert console.shows_unicode() is shows


def test_odd_streams_are_left_alone():
    """A replaced standard output without an encoding of its own is not touched."""
    stream = io.StringIO("as it was")
    console.tolerate(stream)

    assert stream.getvalue() == "as it was"
