"""What one run of a flow may still do: steps, time, and the params it hands on."""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType
from typing import Any

from pocketflow_async.clock import clock
from pocketflow_async.defaults import Defaults
from pocketflow_async.errors import FlowTimeoutError, StepLimitError
from pocketflow_async.nodes import name_of
from pocketflow_async.trail import inherit


class Limit:
    """Cancels the block after so many seconds; it then raises FlowTimeoutError."""

    def __init__(self, name: str, seconds: float) -> None:
        self._name = name
        self._seconds = seconds
        self._timeout = asyncio.timeout(seconds)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError as late:
            timeout = FlowTimeoutError(self._name, self._seconds)
            inherit(timeout, error)
            raise timeout from late


class _Unlimited:
    """Does nothing around a block."""

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, *_: object) -> None:
        pass


_UNLIMITED = _Unlimited()


def limit_of(name: str, chosen: Defaults | None) -> Limit | _Unlimited:
    """Return what holds one run of the flow *name* to its timeout, if it has one."""
    if chosen is None or chosen.timeout is None:
        return _UNLIMITED
    return Limit(name, chosen.timeout)


_RECENT = 8  # how many of the last steps the error about too many of them shows


class Limits:
    """What one run of a flow may still do."""

    __slots__ = ("_chosen", "_deadline", "_left", "_name", "_recent")

    def __init__(self, name: str, chosen: Defaults, timed: bool = False) -> None:
        self._name = name
        self._chosen = chosen
        self._left = chosen.max_steps
        self._recent: deque[tuple[str, object]] = deque(maxlen=_RECENT)
        self._deadline: float | None = None
        if timed and chosen.timeout is not None:
            self._deadline = clock().monotonic() + chosen.timeout

    def before(self, node: Any, shares: dict[str, Any]) -> None:
        """Count one visit, and give *node* its params: the run's own dict, unless they are merged.

        Raises:
            StepLimitError: It would be one too many.
            FlowTimeoutError: A synchronous flow is out of time.
        """
        if self._left is not None:
            if not self._left:
                raise StepLimitError(
                    self._name, self._chosen.max_steps or 0, self._recent, name_of(node)
                )
            self._left -= 1
        self.in_time()
        merged = self._chosen.merge_params and node.params
        node.set_params({**shares, **node.params} if merged else shares)

    def done(self, node: Any, action: object, shares: dict[str, Any]) -> None:
        """Remember what *node* returned; hand on what it left in its params for the next."""
        if self._chosen.merge_params and "branches" in node.params:
            shares["branches"] = node.params["branches"]
        if self._left is not None:
            self._recent.append((name_of(node), action))
        self.in_time()

    def in_time(self) -> None:
        """Raise FlowTimeoutError if a synchronous flow is out of time."""
        if self._deadline is not None and clock().monotonic() > self._deadline:
            raise FlowTimeoutError(self._name, self._chosen.timeout or 0.0)


class _Free:
    """The limits of a flow that has none."""

    __slots__ = ()

    def before(self, node: Any, shares: dict[str, Any]) -> None:
        """Give *node* the params of the run."""
        node.set_params(shares)

    def done(self, node: Any, action: object, shares: dict[str, Any]) -> None:
        """Remember nothing."""


_FREE = _Free()


def limits_of(name: str, chosen: Defaults | None, timed: bool = False) -> Limits | _Free:
    """Return what one run of the flow *name* may still do.

    Args:
        name: Name of the flow, for the errors.
        chosen: Its options, if it has any.
        timed: Whether its time is to be watched here, between nodes.
    """
    return _FREE if chosen is None else Limits(name, chosen, timed)
