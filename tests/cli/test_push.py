"""`traces push` says what became of each target, and whether anything is left."""

from __future__ import annotations

import sys
from collections import namedtuple
from types import ModuleType

import pytest
from typer.testing import CliRunner

from tests.tracing.wire_kit import HttpSink, free_port
from tracing.cli.app import app
from tracing.cli.configuring import BadSettings
from tracing.config import TracingConfig

Pushed = namedtuple("Pushed", "name endpoint sent waiting aside said held", defaults=[0])


@pytest.fixture
def asked():
    """What the sender was told to do with targets that are not configured: to, forget."""
    return []


@pytest.fixture
def push(plain_env, monkeypatch, store_path, asked):
    """Run the command with a stand-in for the sender that has these results."""

    def push(*found, args=()):
        module = ModuleType("tracing.export.pushing")

        def stand_in(path, config, timeout, say, *, to, forget):
            assert path == str(store_path)
            assert isinstance(config, TracingConfig)
            asked.append((to, forget))
            say("langfuse", 1, int(timeout))  # seen on terminals only
            return list(found)

        module.push = stand_in
        monkeypatch.setitem(sys.modules, "tracing.export.pushing", module)
        return CliRunner().invoke(app, ["traces", "push", *args])

    return push


def test_a_question_is_not_ended_twice():
    """Causes that end in a mark of their own stand well in a longer message."""
    for cause in ("is it there?", "it is not.", "no"):
        said = str(BadSettings(cause, "p"))
        assert said == f"{cause.rstrip('.?')}. All settings are checked by `p doctor`."


def test_all_sent(push):
    """A table of the targets, and exit code 0."""
    result = push(
        Pushed("langfuse", "https://cloud.langfuse.com/api/public/otel/v1/traces", 1200, 0, 0, ""),
        args=("--timeout", "5"),
    )

    assert result.exit_code == 0
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["TARGET", "SENT", "WAITING", "ASIDE", "ENDPOINT"],
        ["langfuse", "1,200", "0", "0", "https://cloud.langfuse.com/api/public/otel/v1/traces"],
    ]


def test_something_left(push):
    """What is left is counted, its reason is said, and the exit code is 1."""
    result = push(
        Pushed("otlp", "http://a/v1/traces", 0, 7, 0, "connection refused by http://a/v1/traces"),
        Pushed("other", "http://b/v1/traces", 5, 0, 2, ""),
    )

    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1] == "otlp: connection refused by http://a/v1/traces"


def test_nothing_to_send(push):
    """No target at all is no failure."""
    result = push()

    assert result.exit_code == 0
    assert result.stdout == "Nothing waits to be sent.\n"


def test_wrong_settings_are_one_line(push, monkeypatch):
    """A setting that cannot be ends it with its name, and the way to check them all."""
    monkeypatch.setenv("POCKETFLOW_TRACE_SAMPLE_RATE", "7")

    result = push()

    assert result.exit_code == 1
    assert result.stderr.startswith("Error: sample_rate (POCKETFLOW_TRACE_SAMPLE_RATE) must be")
    assert " doctor`" in result.stderr


def test_without_a_store(plain_env, store_path):
    """Who has recorded nothing yet has nothing to send, which is no failure."""
    result = CliRunner().invoke(app, ["traces", "push"])

    assert result.exit_code == 0
    assert result.stdout == f"Nothing to send yet: there is no trace store at {store_path}.\n"
    assert not store_path.exists()


def test_what_a_running_process_has_is_no_failure(push):
    """The exit code is that of what nobody sends."""
    held = Pushed("otlp", "http://a/v1/traces", 0, 7, 0, "a process that still runs sends them", 7)

    assert push(held).exit_code == 0
    assert push(held._replace(held=6)).exit_code == 1


@pytest.mark.parametrize(
    ("args", "told"),
    [((), (None, False)), (("--to", "otlp"), ("otlp", False)), (("--forget",), (None, True))],
)
def test_what_becomes_of_the_others_is_the_users_choice(push, asked, args, told):
    """The sender is told what to do with what waits for targets that are not configured."""
    push(args=args)

    assert asked == [told]


def test_not_both(push, asked):
    """To send and to forget the same is a mistake of the one who typed."""
    assert push(args=("--to", "otlp", "--forget")).exit_code == 2
    assert asked == []


def test_what_a_process_could_not_send(command, plain_env, monkeypatch, tmp_path):
    """A run with its target down, and a push when it is back: every record arrives."""
    port = free_port()
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.txt").write_text("one two three\n")
    where = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"}
    monkeypatch.setenv(*next(iter(where.items())))
    monkeypatch.chdir(tmp_path)
    assert command("demo", "files", **where).returncode == 0

    down = command("traces", "push", "--timeout", "2", **where)
    with HttpSink(port=port) as sink:
        up = CliRunner().invoke(app, ["traces", "push"])

    assert (down.returncode, up.exit_code) == (1, 0), up.output
    assert "connection refused" in down.stdout
    assert up.stdout.splitlines()[1].split()[1:4] == ["5", "0", "0"]
    assert "AnalyseFolder" in sink.names


@pytest.fixture
def stranded(command, plain_env, monkeypatch, tmp_path):
    """Let a run wait for a host that is then corrected; return where it waited for."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.txt").write_text("one two three\n")
    where = f"http://127.0.0.1:{free_port()}"
    assert command("demo", "files", OTEL_EXPORTER_OTLP_ENDPOINT=where).returncode == 0
    monkeypatch.chdir(tmp_path)
    return where


def test_a_target_that_was_corrected(stranded, monkeypatch):
    """Without an option the way out is named; with --to all arrives, and nothing is left."""
    with HttpSink() as sink:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", sink.url)

        left = CliRunner().invoke(app, ["traces", "push"])
        assert (left.exit_code, sink.names) == (1, [])
        assert "`traces push --to otlp`" in left.stdout
        assert "`traces push --forget`" in left.stdout
        assert "sets it in its code" in left.stdout

        moved = CliRunner().invoke(app, ["traces", "push", "--to", "otlp"])
        assert moved.exit_code == 0, moved.output
        assert f"otlp: 5 re-addressed to otlp at {sink.url}" in " ".join(moved.stdout.split())
        assert "AnalyseFolder" in sink.names

        again = CliRunner().invoke(app, ["traces", "push"])
    assert (again.exit_code, again.stdout) == (0, "Nothing waits to be sent.\n")


def test_a_target_that_is_no_more(stranded):
    """With --forget nothing waits any more, and the trace is there."""
    gone = CliRunner().invoke(app, ["traces", "push", "--forget"])

    assert gone.exit_code == 0, gone.output
    assert "otlp: 5 forgotten; their traces stay in the store" in gone.stdout
    assert CliRunner().invoke(app, ["traces", "push"]).stdout == "Nothing waits to be sent.\n"
    assert "AnalyseFolder" in CliRunner().invoke(app, ["show"]).stdout


def test_no_target_of_that_name(stranded):
    """A name that is not configured is said, with those that are; nothing is touched."""
    result = CliRunner().invoke(
        app, ["traces", "push", "--to", "langfus"], env={"OTEL_EXPORTER_OTLP_ENDPOINT": stranded}
    )

    assert result.exit_code == 1
    assert "no target called 'langfus' is configured here (there is: otlp). All" in result.stderr
