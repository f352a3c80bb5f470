"""Breakers by name: one for each thing that may fail, for all who call it."""

from __future__ import annotations

import threading

import pytest

from pocketflow_async import resilience
from pocketflow_async.resilience import Breakers, CircuitBreakerOpen
from tests.resilience.breaker_kit import Service


def fails(breaker):
    with pytest.raises(ConnectionError):
        breaker.call(Service(ConnectionError("down")))


def test_there_is_one_for_each_name():
    """Whoever asks gets the same, with or without saying again what it is like."""
    breakers = Breakers()
    venue = breakers.get("venue", failure_threshold=3)
    assert breakers.get("venue") is venue
    assert breakers.get("venue", failure_threshold=3) is venue
    assert breakers.get("venue", reset_timeout=60.0) is venue
    assert breakers.get("other") is not venue
    assert list(breakers.all()) == ["venue", "other"]
    assert list(breakers) == list(breakers.all().values())
    assert len(breakers) == 2
    assert "venue" in breakers
    assert repr(breakers) == "<Breakers venue, other>"


def test_whoever_is_new_meets_the_state_that_there_is():
    """An object made for each run does not begin anew: the sixth run is refused."""
    breakers = Breakers(failure_threshold=5)
    service = Service(ConnectionError("down"))

    class Executor:
        def __init__(self):
            self.breaker = breakers.get("api")

        def execute(self):
            return self.breaker.call(service)

    for _ in range(5):
        with pytest.raises(ConnectionError):
            Executor().execute()
    for _ in range(15):
        with pytest.raises(CircuitBreakerOpen):
            Executor().execute()
    assert service.calls == 5


def test_one_that_is_open_blocks_no_other():
    """A dead venue does not block a healthy one."""
    breakers = Breakers(failure_threshold=1)
    fails(breakers.get("dead"))
    assert breakers.get("dead").is_open
    assert breakers.get("healthy").call(Service()) == 1


def test_two_that_disagree_are_told():
    """By the option; its value too."""
    breakers = Breakers(reset_timeout=9)
    breakers.get("venue", failure_threshold=3)
    with pytest.raises(ValueError, match=r"'venue' is there already, .* failure_threshold=5"):
        breakers.get("venue", failure_threshold=5)
    with pytest.raises(ValueError, match="reset_timeout=60"):
        breakers.get("venue", reset_timeout=60)
    with pytest.raises(TypeError, match="threshold"):
        breakers.get("venue", threshold=5)


@pytest.mark.parametrize(
    ("name", "options", "error"),
    [
        ("", {}, ValueError),
        (7, {}, TypeError),
        ("x", {"failure_threshold": 0}, ValueError),
        ("x", {"threshold": 1}, TypeError),
    ],
)
def test_what_cannot_be_is_refused_and_not_kept(name, options, error):
    """The name is free afterwards."""
    breakers = Breakers()
    with pytest.raises(error):
        breakers.get(name, **options)
    assert len(breakers) == 0


def test_defaults_that_cannot_be_show_at_once():
    """And not when the first breaker is made."""
    with pytest.raises(ValueError, match="failure_threshold"):
        Breakers(failure_threshold=0)


def test_all_can_be_looked_at_and_reset():
    """By name; one that is removed is its holder's alone, and the name may be used anew."""
    breakers = Breakers(failure_threshold=1)
    old = breakers.get("a")
    fails(old)
    breakers.get("b")
    assert {name: stats["state"] for name, stats in breakers.stats().items()} == {
        "a": "open",
        "b": "closed",
    }
    breakers.reset()
    assert old.is_closed
    fails(old)
    breakers.remove("a")
    breakers.remove("never there")
    assert breakers.get("a", failure_threshold=2).is_closed
    assert old.is_open


def test_threads_that_ask_at_once_get_the_same():
    """Whoever is first makes it."""
    breakers, ready, got = Breakers(), threading.Barrier(16), []

    def ask():
        ready.wait(30)
        got.append([breakers.get(str(n)) for n in range(50)])

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()

    assert len(got) == 16
    assert all(mine == got[0] for mine in got)


def test_the_process_has_one_of_its_own():
    """For whoever needs no other; nothing is in it by itself."""
    assert type(resilience.breakers) is Breakers
    name = "test_the_process_has_one_of_its_own"
    assert resilience.breakers.get(name) is resilience.breakers.get(name)
    resilience.breakers.remove(name)
