"""`traces push` says what became of each target, and whether anything is left."""

from __future__ import annotations

import sys
from collections import namedtuple
from types import ModuleType

import pytest
from typer.testing import CliRunner

from tests.tracing.wire_kit import HttpSink, free_port
from tracing.cli.app import app
from tracing.config import TracingConfig

Pushed = namedtuple("Pushed", "name endpoint sent waiting aside said")


@pytest.fixture
def push(plain_env, monkeypatch, store_path):
    """Run the command with a stand-in for the sender that has these results."""

    def push(*found, args=()):
        module = ModuleType("tracing.export.pushing")

        def stand_in(path, config, timeout, say):
            assert path == str(store_path)
            assert isinstance(config, TracingConfig)
            say("langfuse", 1, int(timeout))  # seen on terminals only
            return list(found)

        module.push = stand_in
        monkeypatch.setitem(sys.modules, "tracing.export.pushing", module)
        return CliRunner().invoke(app, ["traces", "push", *args])

    return push


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


def test_without_a_store(plain_env):
    """The sender itself says that there is no file."""
    result = CliRunner().invoke(app, ["traces", "push"])

    assert result.exit_code == 1
    assert "there is no trace store at" in result.stderr


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
