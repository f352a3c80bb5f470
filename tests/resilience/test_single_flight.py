"""One call for all who want the same: who shares, who is cancelled, what errors look like."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import traceback
import weakref

import pytest

from pocketflow_async.hooks import observing
from pocketflow_async.resilience import CircuitBreakerOpen, SingleFlight, compose
from pocketflow_async.resilience.error_copies import copy_of
from tests.workflow.runtime_kit import nothing_left


class Backend:
    """Counts its calls; each waits for the gate, then gives *value* or raises."""

    def __init__(self, value="value", error=None):
        self.value = value
        self.error = error
        self.calls = self.cancelled = self.ended = 0
        self.has_begun = asyncio.Event()
        self.gate = asyncio.Event()

    async def __call__(self):
        self.calls += 1
        self.has_begun.set()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.ended += 1
        if self.error is not None:
            raise self.error
        return self.value


async def joined(flights, key, backend, count):
    """Return tasks of *count* callers that all wait for *key*."""
    tasks = [asyncio.create_task(flights.ajoin(key, backend)) for _ in range(count)]
    await backend.has_begun.wait()
    for _ in range(3):  # all tasks have had their turn
        await asyncio.sleep(0)
    return tasks


async def test_ten_thousand_callers_share_one_call():
    """All get the same object, and nothing of the call is kept after its end."""
    flights, backend = SingleFlight(), Backend(value=object())
    tasks = await joined(flights, "key", backend, 10_000)
    assert flights.statistics() == (1, 9_999, 1)
    backend.gate.set()

    assert set(await asyncio.gather(*tasks)) == {backend.value}
    assert backend.calls == 1
    assert flights.statistics().under_way == 0
    await flights.ajoin("key", backend)
    assert backend.calls == 2


async def test_each_key_has_its_own_call():
    """Callers of one key do not wait for another."""
    flights, slow, fast = SingleFlight(), Backend("slow"), Backend("fast")
    fast.gate.set()
    (task,) = await joined(flights, "slow", slow, 1)

    assert await flights.ajoin("fast", fast) == "fast"
    assert not task.done()
    assert flights.is_under_way("slow")
    slow.gate.set()
    assert await task == "slow"
    assert not flights.is_under_way("slow")


@pytest.mark.parametrize("cancelled", [0, 1, 2])
async def test_a_cancelled_caller_does_not_end_the_call(cancelled):
    """Whether it came first, in the middle or last, the others get the value."""
    flights, backend = SingleFlight(), Backend()
    tasks = await joined(flights, "key", backend, 3)
    tasks[cancelled].cancel()
    with pytest.raises(asyncio.CancelledError):
        await tasks[cancelled]
    assert backend.cancelled == 0
    backend.gate.set()

    others = [task for place, task in enumerate(tasks) if place != cancelled]
    assert await asyncio.gather(*others) == ["value", "value"]


async def test_the_last_caller_that_is_cancelled_ends_the_call():
    """The call is cancelled and has ended before that caller goes on, and leaves no task."""
    flights, backend = SingleFlight(), Backend()
    async with nothing_left():
        tasks = await joined(flights, "key", backend, 3)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert (backend.cancelled, backend.ended) == (1, 1)
        assert all(task.cancelled() for task in tasks)
    assert flights.statistics().under_way == 0


async def test_ten_thousand_cancelled_callers_are_quick():
    """Leaving takes no look at all others: it is not quadratic."""
    flights, backend = SingleFlight(), Backend()
    tasks = await joined(flights, "key", backend, 10_000)
    async with asyncio.timeout(5):
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    assert backend.cancelled == 1


async def test_who_comes_while_a_call_is_being_cancelled_gets_a_new_one():
    """Nobody joins a call that is on its way out, however long it takes to clean up."""
    flights, cleaning, done = SingleFlight(), asyncio.Event(), asyncio.Event()

    async def stubborn():
        try:
            await asyncio.Event().wait()
        finally:
            cleaning.set()
            await done.wait()

    async def quick():
        return "new"

    old = asyncio.create_task(flights.ajoin("key", stubborn))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    old.cancel()
    await cleaning.wait()
    assert await flights.ajoin("key", quick) == "new"
    old.cancel()  # told again: it still waits for the end of the call
    await asyncio.sleep(0)
    assert not old.done()
    done.set()
    with pytest.raises(asyncio.CancelledError):
        await old


async def test_a_caller_cancelled_before_the_call_began_leaves_nothing():
    """A call that never began is no coroutine that nobody has awaited."""
    flights, backend = SingleFlight(), Backend()
    task = asyncio.create_task(flights.ajoin("key", backend))
    asyncio.get_running_loop().call_soon(task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task
    gc.collect()

    assert backend.calls <= 1
    assert backend.ended == backend.calls
    assert flights.statistics().under_way == 0


async def test_an_error_goes_to_all_each_with_a_copy_and_is_not_kept():
    """Notes that one caller adds are not on what another one has; all show where it was raised."""
    flights, backend = SingleFlight(), Backend(error=KeyError("zip"))
    tasks = await joined(flights, "key", backend, 100)
    backend.gate.set()
    errors = await asyncio.gather(*tasks, return_exceptions=True)

    assert errors[0] is backend.error
    assert len({id(error) for error in errors}) == 100
    assert {(type(error), error.args) for error in errors} == {(KeyError, ("zip",))}
    errors[1].add_note("mine")
    assert not any(hasattr(error, "__notes__") for error in errors if error is not errors[1])
    assert all("__call__" in "".join(traceback.format_exception(error)) for error in errors)
    backend.error = None
    assert await flights.ajoin("key", backend) == "value"


async def test_a_call_that_cancels_itself_is_cancelled_for_all():
    """It is what each would have got by itself."""
    flights = SingleFlight()

    async def gone():
        await asyncio.sleep(0)
        raise asyncio.CancelledError

    tasks = [asyncio.create_task(flights.ajoin("key", gone)) for _ in range(2)]
    await asyncio.wait(tasks)
    assert all(task.cancelled() for task in tasks)


async def test_a_call_that_ends_the_process_reaches_who_waits():
    """SystemExit does not go past the caller into the event loop."""

    async def leave():
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        await SingleFlight().ajoin("key", leave)


async def test_a_call_that_asks_for_itself_is_an_error_and_not_a_deadlock():
    """Also through the call of another key."""
    flights = SingleFlight()

    async def outer():
        return await flights.ajoin("inner", lambda: flights.ajoin("outer", outer))

    with pytest.raises(RuntimeError, match="asks for that itself"):
        await flights.ajoin("outer", outer)
    with pytest.raises(RuntimeError, match="'key' asks for that itself"):
        flights.join("key", lambda: flights.join("key", int))


def test_each_event_loop_has_its_own_call():
    """Loops in two threads at once do not wait for each other's calls."""
    flights, both = SingleFlight(), threading.Barrier(2, timeout=10)
    seen = []

    async def call():
        both.wait()  # passed only if each of the loops makes the call
        seen.append(asyncio.get_running_loop())
        return "value"

    threads = [
        threading.Thread(target=lambda: asyncio.run(flights.ajoin("key", call))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(seen)) == 2


def test_a_loop_that_was_closed_in_the_middle_is_forgotten():
    """The next loop begins anew, and the old one is not kept alive."""
    flights = SingleFlight()
    loop = asyncio.new_event_loop()

    async def never():
        await asyncio.Event().wait()

    task = loop.create_task(flights.ajoin("key", never))
    loop.run_until_complete(asyncio.sleep(0))
    loop.run_until_complete(asyncio.sleep(0))
    for each in asyncio.all_tasks(loop):
        each._log_destroy_pending = False
    loop.close()
    ref = weakref.ref(loop)
    del loop, task, each

    async def value():
        return 1

    assert asyncio.run(flights.ajoin("key", value)) == 1
    gc.collect()
    assert ref() is None
    assert flights.statistics().under_way == 0


def test_threads_share_a_call():
    """The first thread does the work, the others wait for it; an error is a copy for each."""
    flights, gate, calls = SingleFlight(), threading.Event(), []

    def work():
        calls.append(1)
        gate.wait(10)
        raise ValueError("no")

    errors = []

    def ask():
        try:
            flights.join("key", work)
        except ValueError as error:
            errors.append(error)

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    gate.set()
    for thread in threads:
        thread.join(10)
    assert len({id(error) for error in errors}) == 20
    assert flights.statistics() == (len(calls), 20 - len(calls), 0)


def test_a_thread_that_is_interrupted_leaves_the_work_to_another():
    """KeyboardInterrupt is for one thread; who waited makes the call itself."""
    flights, begun, gate, got = SingleFlight(), threading.Event(), threading.Event(), []

    def interrupted():
        begun.set()
        gate.wait(10)
        raise KeyboardInterrupt

    def first():
        with pytest.raises(KeyboardInterrupt):
            flights.join("key", interrupted)

    one = threading.Thread(target=first)
    one.start()
    begun.wait(10)
    two = threading.Thread(target=lambda: got.append(flights.join("key", lambda: "mine")))
    two.start()
    gate.set()
    one.join(10)
    two.join(10)
    assert got == ["mine"]


async def test_what_is_forgotten_is_joined_by_nobody():
    """Those who wait already get the old value, the next caller a new one."""
    flights, old, new = SingleFlight(), Backend("old"), Backend("new")
    (first,) = await joined(flights, "key", old, 1)
    flights.forget("key")
    new.gate.set()
    assert await flights.ajoin("key", new) == "new"
    old.gate.set()
    assert await first == "old"


async def test_as_a_decorator_the_key_is_made_of_the_arguments():
    """By place, by name, with defaults, of methods, under other policies, by a function."""
    seen = []

    class Users:
        @SingleFlight("user:{self.tenant}:{user_id}:{page:02d}")
        async def get(self, user_id, page=1):
            seen.append(user_id)
            await asyncio.sleep(0)
            return user_id

        tenant = "t"

    users = Users()
    assert await asyncio.gather(users.get(1), users.get(user_id=1), users.get(1, 2)) == [1, 1, 1]
    assert seen == [1, 1]

    def double(x, *more, **named):
        return 2 * x

    both = compose(SingleFlight("{x}{y}"), SingleFlight(lambda x, *more, **named: x))(double)
    assert both(4, 1, y=3) == 8
    assert SingleFlight("constant").call(lambda: 5) == 5
    with pytest.raises(ValueError, match=r"key uses \{z\}, but the values are: 'x'"):
        SingleFlight("{z}")(lambda x: x)(1)
    with pytest.raises(TypeError, match="needs a key"):
        SingleFlight()(double)(1)


@pytest.mark.parametrize(
    ("key", "error", "words"),
    [
        (5, TypeError, "must be a text or a function"),
        ("", ValueError, "must not be empty"),
        ("{", ValueError, "is no template"),
        ("a{}", ValueError, "has the field {}: a name is needed"),
        ("a{0}", ValueError, "has the field {0}"),
        ("{a:{1}}", ValueError, "a name is needed"),
    ],
)
def test_a_key_that_can_be_none_is_refused(key, error, words):
    """When it is given, and not with the first call."""
    with pytest.raises(error, match=words):
        SingleFlight(key)


async def test_who_watches_is_told_whether_it_was_shared():
    """A step of kind policy for each caller."""
    told = []

    async def slow():
        await asyncio.sleep(0)

    with observing(told.append):
        guarded = SingleFlight("key", name="one")(slow)
        await asyncio.gather(guarded(), guarded())
    assert [(step.name, step.facts["flow.single_flight.shared"]) for step in told] == [
        ("one", False),
        ("one", True),
    ]


class Odd(Exception):
    """Makes its message of something else."""

    def __init__(self, number):
        super().__init__(f"the number {number} is odd")
        self.number = number


class Slotted(Exception):
    """Has something that is not in its __dict__."""

    __slots__ = ("extra",)


def json_error():
    try:
        json.loads("{")
    except ValueError as error:
        return error


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a", 1),
        KeyError("zip"),
        FileNotFoundError(2, "No such file", "a.txt"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no"),
        ImportError("no", name="module"),
        ExceptionGroup("several", [ValueError(1)]),
        asyncio.IncompleteReadError(b"ab", 5),
        Odd(3),
        CircuitBreakerOpen("api", 5, retry_after=2.0),
        json_error(),
    ],
)
def test_a_copy_of_an_error_is_like_it(error):
    """Same class, words, fields and cause; but its notes are its own."""
    error.__cause__ = OSError("cause")
    error.add_note("before")
    twin = copy_of(error)

    assert twin is not error
    assert type(twin) is type(error)
    assert (str(twin), twin.args) == (str(error), error.args)
    fields = {name: value for name, value in vars(error).items() if name != "__notes__"}
    assert fields.items() <= vars(twin).items()
    for name in ("filename", "errno", "name", "reason", "exceptions"):
        assert getattr(twin, name, None) == getattr(error, name, None)
    assert twin.__cause__ is error.__cause__
    twin.add_note("after")
    assert error.__notes__ == ["before"]


def test_what_cannot_be_copied_safely_is_shared():
    """An error with slots of its own keeps what is in them."""
    error = Slotted("a")
    error.extra = 5

    assert copy_of(error) is error
