"""Redis that is not there: what the matter is, and when and for how long it is tried again."""

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Final

from pocketflow_async.resilience.errors import RedisUnreachableError

_DEEPEST: Final = 20
_SHARE: Final = 0.2
_SHORTEST: Final = 0.1


def trial_seconds(timeout: float) -> float:
    """Return for how long Redis is asked that was away just now, if an answer may take *timeout*.

    Who asks could do without, so it is a fifth; but long enough for a connection to be made.
    """
    return min(timeout, max(_SHORTEST, _SHARE * timeout))


class Away:
    """Whether Redis is away, and who asks it again; for all threads and event loops.

    Args:
        pause: Seconds in which it is not asked again.
    """

    def __init__(self, pause: float) -> None:
        self._pause = pause
        self._until: float | None = None
        self._lock = threading.Lock()

    @property
    def is_now(self) -> bool:
        """Whether the last question was in vain."""
        return self._until is not None

    @property
    def until(self) -> float | None:
        """Until when it is not asked again; changes with each question in vain."""
        return self._until

    def seconds_to_ask(self, now: float, timeout: float) -> float | None:
        """Return for how long it may be asked; None: it need not be.

        After the pause one caller asks, for a short time, while the others go on without.
        """
        if not self.is_now:
            return timeout
        with self._lock:
            until = self._until
            if until is None:
                return timeout
            # A clock that is behind by more than the pause is another one.
            if until - self._pause <= now < until:
                return None
            self._until = now + self._pause
            return trial_seconds(timeout)

    def begins(self, now: float) -> bool:
        """Note that it could not be asked; return whether that is new."""
        with self._lock:
            is_new, self._until = self._until is None, now + self._pause
        return is_new

    def ends(self) -> bool:
        """Note that it has answered; return whether that is new."""
        if self._until is None:
            return False
        with self._lock:
            was, self._until = self._until, None
        return was is not None


@contextmanager
def telling(what: str, name: str) -> Generator[None, None, None]:
    """Make of what says that there is no connection to Redis one error that says so.

    Args:
        what: Which policy it is, such as "rate limiter".
        name: Its name.

    Raises:
        RedisUnreachableError: There is none; the client's error is the cause.
        Exception: What else the block raises, as it is.
    """
    try:
        yield
    except Exception as error:
        lost = lost_connection(error)
        if lost is None:
            raise
        raise RedisUnreachableError(what, name, lost) from lost


def lost_connection(error: BaseException) -> BaseException | None:
    """Return what says that there is no connection: *error*, or what has led to its time limit.

    The clients try again by themselves. When time is over meanwhile, that is all one sees; but
    what was wrong with the last try is the context of the cancellation that has reached them.
    """
    if _is_lost(error):
        return error
    if not isinstance(error, TimeoutError):
        return None
    return next((one for one in _chain(error) if _is_lost(one)), None)


def words(error: BaseException) -> str:
    """Return what the matter is, for the log: without an address."""
    kind = type(error).__name__
    if "Auth" in kind:
        return f"{kind}: {error}"  # what the server says about a login
    for one in _chain(error):
        if isinstance(one, OSError) and one.errno is not None:
            return f"{kind}: {os.strerror(one.errno) if one.errno > 0 else one.strerror}"
    return kind


def _is_lost(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return not isinstance(error, TimeoutError)
    return any(
        one.__name__ == "ConnectionError" and one.__module__.startswith("redis.")
        for one in type(error).__mro__
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    one: BaseException | None = error
    for _ in range(_DEEPEST):
        if one is None:
            return
        yield one
        one = one.__cause__ or one.__context__
