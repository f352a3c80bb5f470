"""A limit for each key, in bounded memory, and never a key over its limit for that."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from copy import deepcopy
from itertools import islice
from typing import Final

from pocketflow_async.arguments import whole
from pocketflow_async.resilience.bucket import Pace
from pocketflow_async.resilience.turns import Turns

_LOOKED_AT: Final = 8
"""How many of the keys that were used longest ago are looked at for one that is idle."""


class Lane:
    """One limit, and who waits for it.

    Attributes:
        pace: Decides.
        turns: The queue.
    """

    __slots__ = ("pace", "turns")

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self.turns = Turns()

    def is_idle(self, now: float) -> bool:
        """Return whether it is as good as new."""
        return not self.turns and self.pace.is_idle(now)


class Lanes:
    """A lane for each key; those that are idle make room for others.

    When as many keys as there may be are all in use, those that come besides share one lane, which
    can only be stricter. A key that gets a lane of its own again begins it as that one is, so that
    its calls there still count. Whoever uses it holds one lock over all calls.

    Args:
        make: Makes a pace as good as new.
        most: Most keys.

    Raises:
        TypeError: `most` is no whole number.
        ValueError: `most` is below 1.
    """

    def __init__(self, make: Callable[[], Pace], most: int) -> None:
        self._make = make
        self._most = whole("max_keys", most)
        self._lanes: OrderedDict[Hashable, Lane] = OrderedDict()
        self._rest = Lane(make())

    def __len__(self) -> int:
        return len(self._lanes)

    @property
    def waiting(self) -> int:
        """How many wait in all lanes."""
        return len(self._rest.turns) + sum(len(lane.turns) for lane in self._lanes.values())

    def lane(self, key: Hashable, now: float) -> Lane:
        """Return the lane of *key*; with it the whole of what was decided stands for now."""
        lanes = self._lanes
        lane = lanes.get(key)
        if lane is not None:
            lanes.move_to_end(key)
            return lane
        self._drop_idle(now)
        rest = self._rest
        if len(lanes) >= self._most or rest.turns:
            return rest
        lane = lanes[key] = Lane(self._make() if rest.is_idle(now) else deepcopy(rest.pace))
        return lane

    def fill(self) -> None:
        """Forget all calls so far."""
        for lane in (self._rest, *self._lanes.values()):
            lane.pace.fill()

    def _drop_idle(self, now: float) -> None:
        """Drop at most two, so that there are fewer again after many were in use."""
        oldest = islice(self._lanes.items(), _LOOKED_AT)
        for key in [key for key, lane in oldest if lane.is_idle(now)][:2]:
            del self._lanes[key]
