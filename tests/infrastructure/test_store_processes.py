"""Several processes at one store: nothing lost, nothing twice, nobody in between."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter

import pytest

from pocketflow_async.infrastructure.store import open_store
from tests.infrastructure.store_kit import Program, a_run, until


@pytest.fixture(params=["sqlite", "postgres"])
def url(request, tmp_path):
    """Return the address of a store that processes share."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store.db"
    schema = request.getfixturevalue("postgres_schema")
    return f"{request.getfixturevalue('postgres_url')}?schema={schema}"


@pytest.mark.parametrize("round_", range(5))
async def test_what_is_acknowledged_outlives_a_kill(url, round_):
    """After kill -9 in the middle, each acknowledged entry is there, whole and without gaps."""
    with Program("write", url, "w") as program:
        seen = [await asyncio.to_thread(program.line) for _ in range(20 + 37 * round_)]
        seen += program.kill()

    kept = Counter({run_id: int(place) for run_id, place in seen[1:]})
    async with open_store(url) as store:
        assert await store.runs()
        for run_id, place in kept.items():
            run = await store.run(run_id)
            entries, events = await store.entries(run_id), await store.events(run_id)
            assert run.places >= place
            assert [entry.place for entry in entries] == list(range(1, run.places + 1))
            assert [event.seq for event in events] == list(range(1, run.places + 2))
            assert await store.get(run_id) == (b"%d" % run.places if run.places else None)


async def test_four_processes_lose_no_sum(url):
    """Four that each read, modify and write 300 times do so 1200 times together."""
    async with open_store(url) as store:
        programs = [Program("count", url, number, 300) for number in range(4)]
        done = await asyncio.gather(*(asyncio.to_thread(program.rest) for program in programs))

        assert [lines[-1][0] for lines in done] == ["counted"] * 4
        assert await store.get("sum") == b"1200"
        row = await store.emergency("c")
        assert (row.version, row.metadata) == (1200, {"n": 1200})


async def test_each_run_is_claimed_by_one_process(url):
    """Three processes that recover the same 40 runs share them; each gets its one entry once."""
    async with open_store(url) as store:
        for number in range(40):
            await store.create_run(a_run(f"r{number}"), lease=0)
        programs = [Program("claim", url, f"p{number}", 40) for number in range(3)]
        done = await asyncio.gather(*(asyncio.to_thread(program.rest) for program in programs))

        claimed = [line[0] for lines in done for line in lines[1:]]
        assert sorted(claimed) == sorted(f"r{number}" for number in range(40))
        assert {(run.fence, run.places) for run in await store.runs()} == {(2, 1)}


async def test_a_process_that_stood_still_is_fenced(url):
    """SIGSTOP past the lease, a claim by another, SIGCONT: the zombie's write is refused."""
    async with open_store(url) as store:
        await store.create_run(a_run(owner=None))
        with Program("stand_still", url, "zombie") as program:
            assert [await asyncio.to_thread(program.line) for _ in "12"] == [
                ["open"], ["claimed", "1"]
            ]  # fmt: skip
            program.process.send_signal(signal.SIGSTOP)
            claimed = await until(lambda: store.claim("r", "heir", 60))
            program.process.send_signal(signal.SIGCONT)
            program.say("go on")
            assert await asyncio.to_thread(program.line) == ["lost"]

        assert claimed.fence == 2
        assert await store.get("who") is None
        assert await store.run("r") == claimed
