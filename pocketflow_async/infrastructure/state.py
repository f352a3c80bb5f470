"""State by key: any JSON, on a store."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from pocketflow_async.infrastructure.store.errors import UnstorableError
from pocketflow_async.infrastructure.store.model import Store
from pocketflow_async.resilience import CircuitBreaker


class State:
    """Keeps JSON by key: None, booleans, numbers, texts, and lists and dicts of them.

    What comes back is a copy, as JSON has it: a tuple is a list, and keys are texts. None is a
    value like others. What a method has returned from is stored; one that is cancelled has done
    all or nothing, and which of the two is not known. Each raises `StoreUnavailable` when the store
    cannot be reached, and `CircuitBreakerOpen` at once when that has been so for a while.

    Args:
        store: Where it is kept. Its values are not only ours: runs keep theirs there, too.
        breaker: Goes around each call; None: nothing does.
    """

    def __init__(self, store: Store, breaker: CircuitBreaker | None = None) -> None:
        self.store = store
        self._breaker = breaker

    def __repr__(self) -> str:
        return f"<State on {self.store!r}>"

    async def get(self, key: str) -> Any:
        """Return a value; None: there is none, or its time is over, or it is None."""
        return await self.get_or_default(key)

    async def get_or_default(self, key: str, default: Any = None) -> Any:
        """Return a value; *default* where there is none."""
        return _value(await self._ask(self.store.get, key), default)

    async def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """Return those values that there are, by key."""
        found = await self._ask(self.store.get_many, list(keys))
        return {key: json.loads(value) for key, value in found.items()}

    async def set(self, key: str, value: Any, ttl: timedelta | float | None = None) -> None:
        """Keep a value, for *ttl* (a timedelta or seconds); None: for ever.

        Raises:
            UnstorableError: It is no JSON.
            ValueError: *ttl* is not above 0.
        """
        await self._ask(self.store.put, key, _content(key, value), _seconds(ttl))

    async def set_many(
        self, values: Mapping[str, Any], ttl: timedelta | float | None = None
    ) -> None:
        """Keep all of *values*, or none; raises as `set` does."""
        contents = {key: _content(key, value) for key, value in values.items()}
        await self._ask(self.store.put_many, contents, _seconds(ttl))

    async def set_if_not_exists(
        self, key: str, value: Any, ttl: timedelta | float | None = None
    ) -> bool:
        """Keep a value where there is none; return whether it was kept. Raises as `set` does."""
        content = _content(key, value)
        return bool(await self._ask(self.store.put_if_absent, key, content, _seconds(ttl)))

    async def increment(self, key: str, amount: int = 1) -> int:
        """Add to a whole number (0 where there is none), whose time stays; return the sum.

        Raises:
            NotANumberError: The value is something else.
            TypeError: *amount* is no int.
        """
        if type(amount) is not int:
            raise TypeError(f"amount must be an int, not {type(amount).__name__}")
        return int(await self._ask(self.store.add, key, amount))

    async def decrement(self, key: str, amount: int = 1) -> int:
        """Take from a whole number; see `increment`."""
        return await self.increment(key, -amount)

    async def get_and_delete(self, key: str) -> Any:
        """Return a value and delete it at once: of several who ask, one gets it."""
        return _value(await self._ask(self.store.take, key), None)

    async def delete(self, key: str) -> bool:
        """Delete a value; return whether there was one."""
        return bool(await self._ask(self.store.delete, key))

    async def exists(self, key: str) -> bool:
        """Return whether there is a value, be it None."""
        return bool(await self._ask(self.store.exists, key))

    async def keys(self, prefix: str = "") -> list[str]:
        """Return the keys that begin so, in order."""
        return list(await self._ask(self.store.keys, prefix))

    async def close(self) -> None:
        """Close the store; again is fine."""
        await self.store.close()

    async def _ask(self, method: Any, *args: Any) -> Any:
        if self._breaker is None:
            return await method(*args)
        return await self._breaker.acall(lambda: method(*args))


def _content(key: str, value: Any) -> bytes:
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise UnstorableError(f"the value of {key!r}", f"is no JSON ({error})") from error


def _value(content: bytes | None, default: Any) -> Any:
    return default if content is None else json.loads(content)


def _seconds(ttl: timedelta | float | None) -> float | None:
    if ttl is None:
        return None
    seconds = ttl.total_seconds() if isinstance(ttl, timedelta) else float(ttl)
    if not seconds > 0:
        raise ValueError(f"ttl must be above 0, not {seconds:g} s: to be rid of a value, delete it")
    return seconds
