"""Breakers by name, so that all who call the same thing share one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import cache
from inspect import signature
from typing import Any

from pocketflow_async.resilience.breaker import CircuitBreaker


class Breakers:
    """One breaker for each name, made when it is first asked for.

        breakers.get("venue", failure_threshold=3)
        …
        @breakers.get("venue")
        async def price(symbol): ...

    Give each thing that may fail by itself its own name: one that is down does not block the
    others. Any number of threads may ask at once.

    Args:
        **defaults: Options of `CircuitBreaker` for all of them.
    """

    def __init__(self, **defaults: Any) -> None:
        CircuitBreaker("defaults", **defaults)  # what is wrong with them is to show at once
        self._defaults = defaults
        self._lock = threading.RLock()
        self._breakers: dict[str, CircuitBreaker] = {}
        self._options: dict[str, dict[str, Any]] = {}

    def __repr__(self) -> str:
        return f"<Breakers {', '.join(self.all()) or 'none yet'}>"

    def __len__(self) -> int:
        return len(self._breakers)

    def __contains__(self, name: object) -> bool:
        return name in self._breakers

    def __iter__(self) -> Iterator[CircuitBreaker]:
        return iter(self.all().values())

    def get(self, name: str, **options: Any) -> CircuitBreaker:
        """Return the breaker of that name; the first to ask for it says what it is like.

        Args:
            name: Its name.
            **options: Of `CircuitBreaker`; those of the registry hold where they are left out.

        Raises:
            TypeError: An option is unknown or of a wrong type.
            ValueError: An option is out of range, or the breaker is there and differs in it.
        """
        if not name:
            raise ValueError("a breaker of a registry needs a name: it is known by that")
        with self._lock:
            there = self._breakers.get(name)
            if there is None:
                there = CircuitBreaker(name, **{**self._defaults, **options})
                self._breakers[name] = there
                self._options[name] = options
                return there
            first = {**_plain_options(), **self._defaults, **self._options[name]}
        if options:
            CircuitBreaker(name, **{**self._defaults, **options})  # refuses what cannot be
        for option, value in options.items():
            if first[option] != value:
                raise ValueError(
                    f"circuit breaker {name!r} is there already, and not with "
                    f"{option}={value!r:.80}: give its options in one place, or leave them out"
                )
        return there

    def all(self) -> dict[str, CircuitBreaker]:
        """Return those that there are, by name, in the order in which they were made."""
        with self._lock:
            return dict(self._breakers)

    def stats(self) -> dict[str, dict[str, Any]]:
        """Return `CircuitBreaker.get_stats` of each, by name."""
        return {name: breaker.get_stats() for name, breaker in self.all().items()}

    def reset(self) -> None:
        """Reset all of them; see `CircuitBreaker.reset`."""
        for breaker in self.all().values():
            breaker.reset()

    def remove(self, name: str) -> None:
        """Forget the breaker of that name, if there is one; whoever has it keeps it."""
        with self._lock:
            self._breakers.pop(name, None)
            self._options.pop(name, None)


@cache
def _plain_options() -> dict[str, Any]:
    """Return what the options of a breaker are when they are left out."""
    parameters = signature(CircuitBreaker).parameters.values()
    return {one.name: one.default for one in parameters if one.kind is one.KEYWORD_ONLY}


breakers = Breakers()
"""Those of the whole process, for whoever needs no registry of its own."""
