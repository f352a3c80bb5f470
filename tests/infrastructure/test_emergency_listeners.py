"""Listeners of the emergency control: whatever they do, a halt is neither late nor lost."""

from __future__ import annotations

import asyncio
import time
from contextvars import ContextVar

import pytest

from pocketflow_async.infrastructure.emergency import EmergencyHalted
from pocketflow_async.infrastructure.store import MemoryStore, SqliteStore
from tests.infrastructure.emergency_kit import Heard, Shaky, control, until

place: ContextVar[str] = ContextVar("place", default="nowhere")


async def test_listener_that_raises_is_logged_and_hurts_nobody(caplog):
    """The error of one listener reaches neither the caller nor the other listeners."""
    controller, heard = control(), Heard()

    async def broken(event):
        raise ValueError("broken listener")

    def plainly_broken(event):
        raise KeyError("plainly broken")

    for listener in (broken, plainly_broken, heard):
        controller.subscribe(listener)
    await controller.halt("loss")
    await heard.until(1)

    assert "broken listener" in caplog.text
    assert "plainly broken" in caplog.text
    await controller.close()


async def test_listener_that_calls_back_does_not_deadlock():
    """A listener may halt, resume, ask and flush from inside; nothing waits for itself."""
    controller, heard = control(), Heard()

    async def calls_back(event):
        if event.new_state == "alert":
            await controller.halt("from inside")
            with pytest.raises(EmergencyHalted):
                await controller.assert_can_trade()
            await controller.flush(0)
            controller.unsubscribe(calls_back)

    controller.subscribe(calls_back)
    controller.subscribe(heard)
    async with asyncio.timeout(10):
        await controller.alert("slow")
        await heard.until(2)

    await controller.flush(5)
    assert heard.changes == [("normal", "alert", "slow"), ("alert", "halt", "from inside")]
    assert controller.get_status()["handlers_count"] == 1
    await controller.close()


async def test_slow_listener_delays_neither_halt_nor_its_news():
    """While a listener still sleeps over an ALERT, a HALT returns, and it is told of that too."""
    controller, heard = control(), Heard()
    release = asyncio.Event()

    async def slow(event):
        await heard(event)
        await release.wait()

    controller.subscribe(slow)
    before = time.monotonic()
    await controller.alert("slow data")
    await controller.halt("loss")
    assert time.monotonic() - before < 1
    assert [new for _, new, _ in heard.changes] == ["alert", "halt"]
    assert not await controller.flush(0)

    release.set()
    assert await controller.flush(10)
    await controller.close()


async def test_listener_that_never_ends_is_cut_off(caplog):
    """A listener has a limit of time; `close()` waits for nobody longer."""
    controller = control(listener_seconds=0.01)
    ended = asyncio.Event()

    async def endless(event):
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    controller.subscribe(endless)
    await controller.halt("loss")
    async with asyncio.timeout(10):
        await ended.wait()
        await controller.flush()
    assert "TimeoutError" in caplog.text
    await controller.close()


async def test_close_ends_listeners_at_work():
    """After `close()` no listener is at work, and none is told of anything any more."""
    controller, heard = control(), Heard()
    cancelled = asyncio.Event()

    async def waiting(event):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    controller.subscribe(waiting)
    await controller.halt("loss")
    await controller.close()
    assert cancelled.is_set()

    controller.subscribe(heard)
    await controller.resume()
    await controller.close()
    assert len(asyncio.all_tasks()) == 1


async def test_listener_may_close_the_controller():
    """Closing from inside a listener does not wait for that listener."""
    controller = control()
    closed = asyncio.Event()

    async def closes(event):
        await controller.close()
        closed.set()

    controller.subscribe(closes)
    await controller.halt("loss")
    async with asyncio.timeout(10):
        await closed.wait()


async def test_listeners_run_in_the_context_of_who_subscribed():
    """What the halting task has set in its context is not seen by listeners."""
    controller, seen = control(), []
    place.set("subscriber")
    controller.subscribe(lambda event: seen.append(place.get()))
    place.set("halter")

    await controller.halt("loss")
    await controller.flush(5)

    assert seen == ["subscriber"]
    await controller.close()


async def test_listener_is_told_once_and_no_more_when_removed():
    """Subscribing twice is subscribing once, and who has left hears nothing."""
    controller, heard = control(), Heard()
    controller.subscribe(heard)
    await controller.subscribe(heard)
    await controller.alert("slow")
    await controller.unsubscribe(heard)
    controller.unsubscribe(heard)
    await controller.halt("loss")
    await controller.flush(5)

    assert len(heard.events) == 1
    with pytest.raises(TypeError, match="cannot be called"):
        controller.subscribe(None)
    await controller.close()


async def test_changes_by_another_process_are_told(tmp_path):
    """While somebody listens, a halt through another connection is noticed without being asked."""
    async with SqliteStore(tmp_path / "s.db") as store, SqliteStore(tmp_path / "s.db") as other:
        controller, heard = control(store, poll_seconds=0.01), Heard()
        controller.subscribe(heard)
        await control(other).halt("loss")
        await heard.until(1)
        await control(other).resume("all well")
        await heard.until(2)

        assert heard.changes == [("normal", "halt", "loss"), ("halt", "normal", "all well")]
        assert controller.is_normal
        await controller.close()


async def test_listener_learns_of_a_halt_before_its_time():
    """Who subscribes where a halt is in force is told so."""
    store, heard = MemoryStore(), Heard()
    await control(store).halt("yesterday")

    controller = control(store)
    controller.subscribe(heard)
    await heard.until(1)

    assert heard.changes == [("normal", "halt", "yesterday")]
    await controller.close()


async def test_looking_for_changes_outlives_a_lost_store(caplog):
    """A store that is away for a while is looked at again; it is logged once."""
    store, heard = Shaky(), Heard()
    controller = control(store)
    store.fails_reads = True
    controller.subscribe(heard)
    await until(lambda: "is away" in caplog.text)
    for _ in range(20):
        await asyncio.sleep(0)
    await control(store).halt("loss")
    store.fails_reads = False
    await heard.until(1)

    assert caplog.text.count("is away") == 1
    await controller.close()


async def test_nobody_looks_when_nobody_listens():
    """Without listeners there is no task; with the last of them it ends, and comes again."""
    controller, heard = control(poll_seconds=60), Heard()
    await controller.refresh()
    assert len(asyncio.all_tasks()) == 1

    controller.subscribe(heard)
    assert len(asyncio.all_tasks()) == 2
    controller.unsubscribe(heard)
    controller.subscribe(heard)
    controller.unsubscribe(heard)
    await until(lambda: len(asyncio.all_tasks()) == 1)
    await controller.close()


async def test_watching_keeps_what_is_known_fresh():
    """`watch()` looks for changes without a listener, so that what is known follows the store."""
    store = MemoryStore()
    controller = control(store)
    await controller.watch()
    await control(store).halt("loss")
    await until(lambda: not controller.can_trade())

    with pytest.raises(EmergencyHalted):
        controller.admit_now()
    controller.admit_now("none")
    await controller.close()


def test_subscribing_before_a_loop_runs():
    """A listener may be added before the event loop runs; the first question begins the looking."""
    controller, heard = control(), Heard()
    controller.subscribe(heard)

    async def main():
        await controller.refresh()
        await controller.halt("loss")
        await heard.until(1)
        await controller.close()

    asyncio.run(main())

    assert heard.changes == [("normal", "halt", "loss")]
