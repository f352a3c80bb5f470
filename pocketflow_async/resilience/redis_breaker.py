"""The state of circuit breakers in Redis, shared by all processes that use the same prefix."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import logging
import math
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast
from weakref import WeakKeyDictionary

from pocketflow_async.arguments import number, seconds, whole
from pocketflow_async.clock import Clock
from pocketflow_async.clock import clock as current_clock
from pocketflow_async.resilience.breaker_shared import Answer, Question
from pocketflow_async.resilience.breaker_states import Settings
from pocketflow_async.resilience.redis_away import Away, lost_connection, words
from pocketflow_async.resilience.redis_breaker_script import SCRIPTS
from pocketflow_async.wording import a

logger = logging.getLogger(__name__)

_SHA: Final = {
    verb: hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    for verb, text in SCRIPTS.items()
}
_LEASE: Final = 60.0
_DAY: Final = 86_400.0
_LONGEST: Final = 10 * 366 * _DAY
"""Seconds, of which Lua can still tell the millionths apart."""


class RedisBreakerState:
    """Keeps the state of breakers in Redis: `CircuitBreaker("name", shared=RedisBreakerState(…))`.

    Breakers of one name and prefix are one breaker, whichever process they are in: their failures
    add up, and in half-open they let `half_open_max_calls` probes through in all. Give them the
    same settings. Each call asks twice, before and after, and each question is one script that runs
    as one step by the clock of the server; clocks of the processes do not matter, and a server
    clock that goes back holds nothing up. A probe has a lease (`probe_timeout`, 60 seconds when
    left out): if its process dies, its place is free again after that.

    Redis may go away at any time. A question waits *timeout* seconds at most, and after one that
    was in vain nobody asks for *pause* seconds: each process goes on from where all stood, by
    itself. That is logged once, with the reason. Then one call asks again, and waits a fifth of
    *timeout* (but a tenth of a second) for the answer, while the others go on. When Redis is back
    its state holds again, and what has happened meanwhile counts no more.

    Args:
        client: A `redis.asyncio` client, for asynchronous calls; or a `redis` client that blocks,
            for both kinds (asynchronous calls ask in a thread, and `timeout` is then its own
            affair: give it a `socket_timeout` and no retries). Or a function that returns one, for
            programs with several event loops, each of which needs a client of its own. Closing is
            up to its owner.
        prefix: What the keys begin with.
        timeout: Seconds that one question may take, with the waiting for its turn.
        pause: Seconds without a question after one in vain.
        connections: How many questions an event loop asks at once; more wait for their turn.
        clock: The time of *pause*; that of the context when left out.

    Raises:
        TypeError: An argument is of a wrong type.
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        client: Any,
        *,
        prefix: str = "pocketflow:breaker:",
        timeout: float = 1.0,
        pause: float = 5.0,
        connections: int = 8,
        clock: Clock | None = None,
    ) -> None:
        if not isinstance(prefix, str):
            raise TypeError(f"prefix must be a text, not {prefix!r:.80}")
        seconds("timeout", timeout)
        number("pause", pause)
        whole("connections", connections)
        has_commands = hasattr(client, "evalsha")
        if not has_commands and not callable(client):
            raise TypeError(f"client must be a Redis client, not {a(type(client).__name__)}")
        self.prefix = prefix
        self._client: Callable[[], Any] = (lambda: client) if has_commands else client
        self._timeout = timeout
        self._connections = connections
        self._clock = clock
        self._lock = threading.Lock()
        self._away = Away(pause)
        self._turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore]
        self._turns = WeakKeyDictionary()

    def __repr__(self) -> str:
        return f"<RedisBreakerState {self.prefix!r}{'' if self.is_there else ', away'}>"

    @property
    def is_async(self) -> bool:
        """Whether the client is asynchronous."""
        return inspect.iscoroutinefunction(self._client().execute_command)

    @property
    def is_there(self) -> bool:
        """Whether the last question was answered."""
        return not self._away.is_now

    def keys(self, name: str) -> tuple[str, str, str]:
        """Return the keys of a breaker: its state, its window and its probes."""
        # What is in braces decides on the slot, which has to be the same for all three.
        state, window, probes = (
            f"{self.prefix}{{{name}}}:{what}" for what in ("state", "window", "probes")
        )
        return state, window, probes

    async def aask(self, question: Question) -> Answer | None:
        """Ask from a task; None: Redis does not answer. May be cancelled."""
        allowed = self._away.seconds_to_ask(self._time().monotonic(), self._timeout)
        if allowed is None:
            return None
        away_until = self._away.until
        try:
            async with asyncio.timeout(allowed), self._turn():
                if self._away.until != away_until:  # others have found out meanwhile
                    return None
                reply = await self._aeval(question)
        except Exception as error:  # noqa: BLE001 (whatever is wrong with Redis: calls go on)
            self._went(error)
            return None
        return self._came(reply)

    def ask(self, question: Question) -> Answer | None:
        """Ask from a thread, which blocks; None: Redis does not answer."""
        if self._away.seconds_to_ask(self._time().monotonic(), self._timeout) is None:
            return None
        try:
            reply = self._eval(question)
        except Exception as error:  # noqa: BLE001 (whatever is wrong with Redis: calls go on)
            self._went(error)
            return None
        return self._came(reply)

    async def _aeval(self, question: Question) -> Any:
        client, keys, arguments = self._client(), self.keys(question.name), _arguments(question)
        try:
            made = client.evalsha(_SHA[question.verb], len(keys), *keys, *arguments)
            return await cast("Awaitable[Any]", made)
        except Exception as error:
            if not _is_unknown(error):
                raise
        made = client.eval(SCRIPTS[question.verb], len(keys), *keys, *arguments)
        return await cast("Awaitable[Any]", made)

    def _eval(self, question: Question) -> Any:
        client, keys, arguments = self._client(), self.keys(question.name), _arguments(question)
        try:
            return client.evalsha(_SHA[question.verb], len(keys), *keys, *arguments)
        except Exception as error:
            if not _is_unknown(error):
                raise
        return client.eval(SCRIPTS[question.verb], len(keys), *keys, *arguments)

    def _turn(self) -> asyncio.Semaphore:
        loop = asyncio.get_running_loop()
        with self._lock:
            turn = self._turns.get(loop)
            if turn is None:
                turn = self._turns[loop] = asyncio.Semaphore(self._connections)
        return turn

    def _went(self, error: Exception) -> None:
        if self._away.begins(self._time().monotonic()):
            logger.warning(
                "Redis does not answer (%s): circuit breakers under %r decide for themselves",
                words(lost_connection(error) or error),
                self.prefix,
            )

    def _came(self, reply: Any) -> Answer:
        if self._away.ends():
            logger.warning("Redis answers again: circuit breakers under %r are shared", self.prefix)
        return _answer(reply)

    def _time(self) -> Clock:
        return current_clock() if self._clock is None else self._clock


def _is_unknown(error: Exception) -> bool:
    """Return whether Redis does not have the script, as after a restart or SCRIPT FLUSH."""
    return type(error).__name__ == "NoScriptError"


def _arguments(question: Question) -> list[str | int | float]:
    """Return what the scripts are given, in their order."""
    arguments = _settings(question.settings)
    if question.verb == "command":
        return [*arguments, question.command]
    if question.verb == "admit":
        return [*arguments, question.call]
    return [*arguments, question.call, question.generation, question.outcome]


def _settings(settings: Settings) -> list[str | int | float]:
    lease = _LEASE if settings.probe_timeout is None else settings.probe_timeout
    longest = max(settings.window or 0.0, settings.reset_timeout, lease)
    keep = _DAY + 2 * min(longest, _LONGEST)
    return [
        settings.failure_threshold,
        _micro(settings.window or 0.0),
        settings.window_calls or 0,
        settings.minimum_calls,
        settings.failure_rate or 0.0,
        _micro(settings.reset_timeout),
        settings.half_open_max_calls,
        settings.success_threshold,
        _micro(lease),
        math.ceil(keep * 1000),
    ]


def _micro(span: float) -> int:
    return math.ceil(min(span, _LONGEST) * 1_000_000)


def _answer(reply: Any) -> Answer:
    granted, probe, opened, state, generation, failures, open_for, reason = reply
    micro = int(_text(open_for))
    return Answer(
        bool(granted),
        bool(probe),
        bool(opened),
        cast("Any", _text(state)),
        _text(generation),
        int(failures),
        None if micro < 0 else micro / 1_000_000,
        _text(reason),
    )


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
