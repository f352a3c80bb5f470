"""Any cache, spoken to in one way: what it is asked, and what its answers mean.

Values are kept as text (JSON unless it is said otherwise), so that what a caller gets is its own,
and None, 0 and "" are values like any other: only a cache that answers None has none.
"""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable, MutableMapping
from typing import Any, Final

from pocketflow_async.wording import a

Dumps = Callable[[Any], str | bytes]
Loads = Callable[[Any], Any]

MISSING: Final[Any] = object()
"""Stands for the value that a cache does not have."""

_UNTIL: Final = "__flow_until__"
_TIMES: Final = ("px", "ex", "ttl", "expire", "exptime", "timeout")
"""What `set` may call the time to live: milliseconds, whole seconds, seconds …"""


class CacheAccess:
    """Asks a cache; what it returns may have to be awaited.

    Any object will do that has `get(key)` and one of `set(key, text)` with a time to live by some
    name, `setex(key, seconds, text)`, plain `set(key, text)`, or that is a dict. Where a cache
    takes no time to live, the moment until which a value is good is kept with the value.

    Args:
        cache: The cache.
        ttl: Seconds that it is to keep a value; None: as long as it likes.
        now: Its time, in seconds, for those that take no time to live.
        dumps: Makes text of a value.
        loads: Makes the value of it again.

    Raises:
        TypeError: It has not what it takes.
    """

    __slots__ = (
        "_cache",
        "_dumps",
        "_loads",
        "_now",
        "_time_name",
        "_ttl",
        "answers_at_once",
        "is_bare",
    )

    def __init__(
        self,
        cache: Any,
        ttl: float | None,
        now: Callable[[], float],
        dumps: Dumps | None = None,
        loads: Loads | None = None,
    ) -> None:
        is_dict = isinstance(cache, MutableMapping)
        if not callable(getattr(cache, "get", None)) or not (
            is_dict or any(callable(getattr(cache, name, None)) for name in ("set", "setex"))
        ):
            raise TypeError(
                f"a cache has get(key), and set(key, text) or setex(key, seconds, text); "
                f"{type(cache).__name__} has not"
            )
        self._cache = cache
        self._ttl = ttl
        self._now = now
        self._dumps = dumps or _dumps
        self._loads = loads or json.loads
        set_ = None if is_dict else getattr(cache, "set", None)
        self._time_name = None if set_ is None else _time_name(set_)
        self.is_bare = ttl is not None and (
            is_dict or (self._time_name is None and not callable(getattr(cache, "setex", None)))
        )
        """Whether it takes no time to live, though there is one."""
        self.answers_at_once = False
        """Whether it is known to answer without being awaited, or blocking."""

    def get(self, key: str) -> Any:
        """Ask for the text under *key*; None: there is none."""
        return self._cache.get(key)

    def put(self, key: str, text: str | bytes) -> Any:
        """Tell it to keep *text* under *key*."""
        cache, ttl = self._cache, self._ttl
        if ttl is not None and not self.is_bare:
            name = self._time_name
            if name is None:
                return cache.setex(key, math.ceil(ttl), text)
            return cache.set(key, text, **{name: _in_unit(name, ttl)})
        if self.is_bare:
            assert ttl is not None
            text = _with_end(text, self._now() + ttl)
        if isinstance(cache, MutableMapping):
            cache[key] = text
            return None
        return cache.set(key, text)

    def drop(self, key: str) -> Any:
        """Tell it to forget *key*.

        Raises:
            TypeError: It cannot.
        """
        cache = self._cache
        if isinstance(cache, MutableMapping):
            return cache.pop(key, None) and None
        delete = getattr(cache, "delete", None)
        if not callable(delete):
            raise TypeError(f"{a(type(cache).__name__)} cannot forget: it has no delete(key)")
        return delete(key)

    def text_of(self, value: Any) -> str | bytes:
        """Return *value* as text.

        Raises:
            Exception: It cannot be one.
        """
        return self._dumps(value)

    def value_of(self, text: Any) -> Any:
        """Return the value of what `text_of` has made."""
        return self._loads(text)

    def value_in(self, answer: Any) -> Any:
        """Return the value that the cache's *answer* holds, or MISSING.

        What is no text was put there by others, as an object, and is the value itself.

        Raises:
            Exception: It is no text that could be read.
        """
        if answer is None:
            return MISSING
        if isinstance(answer, memoryview):
            answer = bytes(answer)
        if not isinstance(answer, str | bytes | bytearray):
            return answer
        if self.is_bare:
            answer = self._if_good(answer)
        return answer if answer is MISSING else self._loads(answer)

    def _if_good(self, answer: str | bytes | bytearray) -> Any:
        """Return the text alone, or MISSING if its time is over."""
        text = answer if isinstance(answer, str) else answer.decode()
        if not text.startswith(_UNTIL):
            return answer
        until, _, rest = text.removeprefix(_UNTIL).partition(" ")
        return rest if self._now() < float(until) else MISSING


def _dumps(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _with_end(text: str | bytes, until: float) -> str:
    return f"{_UNTIL}{until!r} {text if isinstance(text, str) else text.decode()}"


def _in_unit(name: str, ttl: float) -> float:
    if name == "px":
        return math.ceil(ttl * 1000)
    whole = math.ceil(ttl)
    return ttl if name == "ttl" and ttl != whole else whole


def _time_name(set_: Any) -> str | None:
    """Return what *set_* calls the time to live; None: nothing."""
    try:
        names = inspect.signature(set_).parameters
    except (TypeError, ValueError):
        return None
    return next((name for name in _TIMES if name in names), None)
