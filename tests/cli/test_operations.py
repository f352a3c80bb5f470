"""`halt`, `resume` and `status` as processes, beside programs that are at work."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys

import pytest

from pocketflow_async.infrastructure.emergency import EmergencyController, EmergencyHalted
from pocketflow_async.infrastructure.store import PostgresStore, RunRow, SqliteStore

SECRET = "very-secret-word"


@pytest.fixture
def url(tmp_path):
    """Return the address of a store that a program has used."""
    import asyncio

    async def use():
        async with SqliteStore(tmp_path / "s.db") as store:
            await store.put("key", b"1")

    asyncio.run(use())
    return f"sqlite:///{tmp_path / 's.db'}"


@pytest.fixture
def run(command):
    """Run a command that succeeds; return the lines of its output."""

    def run(*args, **env):
        result = command(*args, **env)
        assert result.returncode == 0, result.stderr
        assert result.stderr == ""
        return result.stdout.splitlines()

    return run


@pytest.fixture
def refused(command):
    """Run a command that is refused; return its one line of error."""

    def refused(*args, **env):
        result = command(*args, **env)
        assert result.returncode == 1, result
        assert "Traceback" not in result.stderr
        assert SECRET not in result.stderr + result.stdout
        return result.stderr.splitlines()[-1]

    return refused


async def test_halt_stops_a_program_at_work(run, tmp_path, url):
    """A program that holds the store open refuses its next entry after the command."""
    import asyncio

    async with SqliteStore(tmp_path / "s.db") as store:
        controller = EmergencyController(store=store)
        await controller.admit("increase")

        page = await asyncio.to_thread(run, "halt", "news: war", "--store", url)

        with pytest.raises(EmergencyHalted, match="news: war"):
            await controller.admit("increase")
        assert page[0] == "HALT: only what has no effect on the risk"
        assert "  reason      news: war" in page
        await asyncio.to_thread(run, "resume", "over", "--yes", "--store", url)
        await controller.admit("increase")
        assert controller.get_status()["metadata"]["resumed"]["reason"] == "over"


async def test_status_shows_state_limits_and_open_runs(run, tmp_path, url):
    """`status` says what is stopped, why, since when and by whom, and what is waiting."""
    async with SqliteStore(tmp_path / "s.db") as store:
        limits = {"daily_loss": -500}
        controller = EmergencyController(store=store, limits=limits)
        with pytest.raises(Exception, match="daily_loss"):
            await controller.check_risk_limit("daily_loss", -600)
        await controller.halt("also \x1b[31mthis")
        for number, status in enumerate(["running", "running", "suspended", "completed"]):
            await store.create_run(RunRow(f"r{number}", "flow", "w", "h", status=status))

    page = run("status", "--store", url)
    found = json.loads("\n".join(run("status", "--json", "--store", url)))

    assert page[0].startswith("HALT")
    assert "  reason      Risk limit exceeded: daily_loss" in page
    assert "  open runs   2 running, 1 suspended" in page
    assert "    daily_loss: -600.0 of -500 (120%)" in page
    assert any("also \\x1b[31mthis" in line for line in page)
    assert found["state"] == "halt"
    assert found["open_runs"] == {"running": 2, "suspended": 1}
    assert found["risk_limits"]["daily_loss"]["utilization"] == 1.2
    assert any(found["halt_timestamp"] in line for line in page)


def test_store_is_named_by_the_environment(run, url):
    """Without `--store` the commands use what the environment names."""
    run("halt", "loss", STATE_URL=url)

    assert run("status", STATE__URL=url)[0].startswith("HALT")
    assert run("status", "--controller", "other", STATE_URL=url)[0].startswith("NORMAL")


def test_usual_store_is_among_the_users_data(command, tmp_path):
    """Without a word it is the user's own; that no program has used it yet is said."""
    env = {"XDG_DATA_HOME": str(tmp_path), "STATE_URL": ""}

    missing = command("status", **env)
    first = command("halt", "loss", **env)
    second = command("halt", "loss", **env)

    assert missing.returncode == 1
    assert "there is no store at" in missing.stderr
    assert (first.returncode, second.returncode) == (0, 0)
    assert first.stderr.startswith("Warning: the store ")
    assert "It was just made, and no program has used it yet" in first.stderr
    assert "Error" not in first.stderr
    assert second.stderr == ""
    assert (tmp_path / "pocketflow-async" / "state.db").exists()


def test_shutdown_and_reducing(run, refused, url):
    """A shutdown needs `--reset`; a halt can be resumed to REDUCING first."""
    run("halt", "loss", "--yes", "--store", url)
    assert run("resume", "--reducing", "-y", "--store", url)[0].startswith("REDUCING: only exits")
    assert run("halt", "volatile", "--reducing", "--store", url)[0].startswith("REDUCING")
    run("halt", "fire", "--shutdown", "--store", url)

    assert "add --reset" in refused("resume", "--yes", "--store", url)
    assert run("status", "--store", url)[0].startswith("SHUTDOWN")
    assert run("resume", "--reset", "--yes", "--store", url)[0].startswith("NORMAL")


def test_resume_asks_people_and_refuses_scripts(refused, url, child_env, run, tmp_path):
    """Without `--yes` somebody has to be there, sees why it was stopped, and may say no."""
    run("halt", "loss", "--store", url)
    assert "say --yes" in refused("resume", "--store", url)

    for answer, state in ((b"n\n", "HALT"), (b"y\n", "NORMAL")):
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "tracing", "resume", "--store", url],
            env=child_env,
            cwd=tmp_path,
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        os.write(ours, answer)
        said = process.communicate(timeout=50)[1].decode()
        os.close(ours)
        os.close(theirs)
        assert "reason      loss" in said
        assert "Resume?" in said
        assert run("status", "--store", url)[0].startswith(state)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["status", "--store", "memory:"], "within one process"),
        (["halt", " ", "--store", "x.db"], "say why"),
        (["status", "--store", "nowhere.db"], "there is no store at"),
        (["resume", "-y", "--store", "nowhere.db"], "there is no store at"),
        (["status", "--store", "redis://host"], "no place for a store"),
        (["status", "--store", f"postgresql://u:{SECRET}@127.0.0.1:1/x"], "cannot be reached"),
        (["status", "--store", f"postgresql://u:{SECRET}@[x/x"], "IPv6"),
        (["status", "--store", "/dev/null/s.db"], "there is no store at"),
        (["halt", "loss", "--store", "/dev/null/s.db"], "/dev/null"),
    ],
)
def test_what_cannot_be_done_is_one_line(refused, args, says):
    """Wrong stores are one clear line, without passwords, and exit code 1."""
    assert says in refused(*args)


def test_damaged_store_is_one_line(refused, tmp_path):
    """A file that is no store is not taken for one, and stays as it is."""
    file = tmp_path / "s.db"
    file.write_bytes(b"hello" * 1000)

    assert "s.db" in refused("halt", "loss", "--store", str(file))
    assert file.read_bytes() == b"hello" * 1000


async def test_halt_on_postgres(postgres_url, postgres_schema, run):
    """With PostgreSQL the command halts programs on other hosts."""
    import asyncio

    url = f"{postgres_url}?schema={postgres_schema}"
    await asyncio.to_thread(run, "halt", "loss", "--store", url)

    async with PostgresStore(postgres_url, schema=postgres_schema) as store:
        with pytest.raises(EmergencyHalted, match="loss"):
            await EmergencyController(store=store).admit("increase")
