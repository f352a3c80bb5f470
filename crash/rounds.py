"""The kill matrix: what is killed when, and what goes on afterwards."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from crash.effects import Effects
from crash.oracle import broken, halt_lost
from crash.places import Place
from crash.processes import PATIENCE, Process
from crash.traps import AT_ENDS, IN_HALT, IN_NODES, IN_RECOVERY, NODES

SHORT = 0.4
"""Seconds of a lease that is to run out."""
LONG = 1.5
"""Seconds of one that is renewed in time, also where many processes share the machine."""


@dataclass
class Round:
    """One round, and what came of it.

    Attributes:
        place: Where it takes place.
        random: Says what is left to chance.
        anew: Whether processes are started as interpreters of their own.
        kills: Processes that were killed.
        stops: Processes that were stopped, and continued.
        restarts: Servers that were restarted.
        broken: What did not hold.
    """

    place: Place
    random: Random
    anew: bool = False
    kills: int = 0
    stops: int = 0
    restarts: int = 0
    broken: list[str] = field(default_factory=list)

    @property
    def effects(self) -> Effects:
        """What has happened."""
        return Effects(self.place.effects)

    def start(self, job: str, **said: Any) -> Process:
        """Start a process."""
        common = {
            "store": self.place.store,
            "effects": str(self.place.effects),
            "redis": self.place.redis,
            "prefix": self.place.prefix,
        }
        return Process(self.place.folder, {**common, "job": job, **said}, anew=self.anew)

    def do(self, job: str, **said: Any) -> Any:
        """Have a process do something to its end; return what it answered."""
        process = self.start(job, **said)
        answer = process.wait()
        self.kills += process.was_killed
        return answer

    def point(self, *, recovers: bool = False) -> dict[str, str]:
        """Return a point to be killed at, and the node that it is in."""
        points = (*IN_NODES, "end:before", "end:after", "end told:after")
        return {
            "point": self.random.choice((*IN_RECOVERY, *points) if recovers else points),
            "node": self.random.choice(NODES),
        }

    def until_begun(self) -> None:
        """Wait until a run is in the store."""
        end = time.monotonic() + PATIENCE
        while not self.effects.of("begun") and time.monotonic() < end:
            time.sleep(0.005)

    def check(self) -> None:
        """Have all go on, and look whether everything is as it should be."""
        self.do("recover")
        found = self.do("examine")
        self.broken += broken(found, self.effects.read(), told=self.place.told())


def at_point(point: str) -> Callable[[Round], None]:
    """Return a round in which the process is killed there, in any node."""

    def killed(now: Round) -> None:
        process = now.start("execute", point=point, node=now.random.choice(NODES))
        process.wait()
        now.kills += process.was_killed
        if not process.was_killed:
            now.broken.append(f"nothing was killed at {point}")
        now.check()

    return killed


def anywhere(now: Round) -> None:
    """Kill the process from outside, at any moment."""
    process = now.start("execute", seconds=0.01)
    if now.random.random() < 0.75:
        now.until_begun()
    time.sleep(now.random.uniform(0.0, 0.12))
    process.signal(signal.SIGKILL)
    process.wait()
    now.kills += process.was_killed
    now.check()


def in_recovery(now: Round) -> None:
    """Kill the process, then one that recovers, then another one."""
    now.do("execute", **now.point())
    for _ in range(2):
        now.do("recover", **now.point(recovers=True))
    now.check()


def several(now: Round) -> None:
    """Kill the process, and have three recover at once, one of which is killed too."""
    for _ in range(2):
        now.do("execute", **now.point())
    processes = [
        now.start("recover", **now.point(recovers=True)),
        now.start("recover", seconds=0.01),
        now.start("recover"),
    ]
    for process in processes:
        process.wait()
        now.kills += process.was_killed
    now.check()


def beside_the_living(now: Round) -> None:
    """Recover again and again while the process is alive, for longer than its lease."""
    owner = now.start("execute", seconds=LONG * 0.45, lease=LONG)
    now.until_begun()
    others = [now.start("recover", lease=LONG) for _ in range(2)]
    if (answer := owner.wait()) != "completed":
        now.broken.append(f"the owner, who was alive, ended with {answer}")
    for other in others:
        if found := other.wait():
            now.broken.append(f"an execution whose owner was alive was taken: {found}")
    now.check()


def zombie(now: Round) -> None:
    """Stop the process for longer than its lease; have another go on; let the first wake up."""
    where = now.point()
    first = now.start("execute", stops=True, lease=SHORT, **where)
    if not first.until_stopped():
        now.broken.append(f"nothing was stopped at {where}")
        return
    now.stops += 1
    time.sleep(SHORT + 0.2)
    now.do("recover", asks=False, lease=SHORT)
    first.signal(signal.SIGCONT)
    first.wait()
    now.do("settle", lease=SHORT)
    now.check()


def halted(point: str) -> Callable[[Round], None]:
    """Return a round in which a process dies in its halt, and another in its execution."""

    def killed(now: Round) -> None:
        now.do("execute", **now.point())
        now.do("halt", point=point)
        if point == "halt:after":
            now.effects.say("halted")  # it was stored, so it has to hold
        elif now.random.random() < 0.5:
            now.do("halt")
        _halt_holds(now)

    return killed


def halted_meanwhile(now: Round) -> None:
    """Halt while an execution is at work, and kill it then, or do not."""
    process = now.start("execute", seconds=0.03)
    now.until_begun()
    time.sleep(now.random.uniform(0.0, 0.2))
    now.do("halt")
    if now.random.random() < 0.5:
        process.signal(signal.SIGKILL)
    process.wait()
    now.kills += process.was_killed
    _halt_holds(now, may_finish=1)


def _halt_holds(now: Round, may_finish: int = 0) -> None:
    """Look whether nothing goes on under the halt; then end it, and have all go on."""
    now.do("recover", once=True)
    now.do("recover", once=True, **now.point(recovers=True))
    now.broken += halt_lost(now.do("examine"), now.effects.read(), may_finish)
    now.do("resume")
    now.do("recover")
    now.do("go_on")
    now.check()


def server_away(now: Round) -> None:
    """Stop or kill PostgreSQL in the middle, start it again; kill the process too, or do not."""
    assert now.place.restart is not None
    process = now.start("execute", seconds=0.05)
    now.until_begun()
    time.sleep(now.random.uniform(0.0, 0.3))
    dies = now.random.random() < 0.5
    if dies and now.random.random() < 0.5:
        process.signal(signal.SIGKILL)
        dies = False
    now.place.restart(now.random.random() < 0.5, now.random.uniform(0.0, 0.5))
    now.restarts += 1
    if dies:
        process.signal(signal.SIGKILL)
    process.wait()
    now.kills += process.was_killed
    now.check()


def bus_away(now: Round) -> None:
    """Stop or kill Redis in the middle, and start it again: the process lives, and tells all."""
    assert now.place.restart_redis is not None
    process = now.start("execute", seconds=0.05)
    now.until_begun()
    time.sleep(now.random.uniform(0.0, 0.3))
    now.place.restart_redis(now.random.random() < 0.5, now.random.uniform(0.0, 0.5))
    now.restarts += 1
    process.wait()
    now.check()


EVERYWHERE = ("sqlite", "postgres", "postgres+redis")
SERVER = EVERYWHERE[1:]


@dataclass(frozen=True, slots=True)
class Scenario:
    """A kind of round.

    Attributes:
        name: Its name in the table.
        play: Plays one round.
        backends: Where it can take place.
    """

    name: str
    play: Callable[[Round], None]
    backends: tuple[str, ...] = EVERYWHERE


SCENARIOS = (
    *(Scenario(point, at_point(point)) for point in (*AT_ENDS[:2], *IN_NODES, *AT_ENDS[2:])),
    Scenario("any moment", anywhere),
    Scenario("recovery, twice", in_recovery),
    Scenario("three recover at once", several),
    Scenario("owner is alive", beside_the_living),
    Scenario("zombie (SIGSTOP)", zombie),
    *(Scenario(point, halted(point)) for point in IN_HALT),
    Scenario("halt meanwhile", halted_meanwhile),
    Scenario("server away", server_away, SERVER),
    Scenario("bus away", bus_away, EVERYWHERE[2:]),
)
