"""Messages, and what may be one."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Final, Literal, NamedTuple, Self, TypeAlias

Verdict: TypeAlias = Literal["ack", "nack", "drop"]
"""What becomes of a message: it is done, delivered again, or given up."""

_NAME: Final = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_LONGEST: Final = 200
_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_RESERVED: Final = "nats-"


class Draft(NamedTuple):
    """A message on its way out."""

    queue: str
    body: bytes
    headers: Mapping[str, str]
    id: str


class Message:
    """A message from a queue. It is delivered again unless it is acknowledged in time.

    `async with message:` acknowledges it at the end, and gives it back when the block fails.

    Attributes:
        body: What it says.
        headers: What is said about it; `tracing.incoming(message.headers)` continues the trace of
            whoever published it.
        id: Given when it was published, and the same at each delivery: whoever keeps those that
            are done knows what comes twice.
        queue: Where it came from.
        redelivered: Whether it was delivered before.
    """

    __slots__ = ("_settle", "body", "headers", "id", "queue", "redelivered", "settled")

    def __init__(
        self,
        draft: Draft,
        settle: Callable[[Verdict], Awaitable[None]],
        *,
        redelivered: bool = False,
    ) -> None:
        self.queue, self.body, headers, self.id = draft
        self.headers = dict(headers)
        self.redelivered = redelivered
        self.settled: Verdict | None = None
        self._settle = settle

    def __repr__(self) -> str:
        return f"<Message {self.id} of {self.queue}, {len(self.body)} bytes>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await (self.ack() if error is None else self.nack())

    def text(self) -> str:
        """Return the body as text.

        Raises:
            UnicodeDecodeError: It is none.
        """
        return self.body.decode()

    def json(self) -> Any:
        """Return what the body says as JSON.

        Raises:
            ValueError: It is no JSON.
        """
        return json.loads(self.body)

    async def ack(self) -> None:
        """Say that it is done. Does nothing to one that is settled.

        Raises:
            QueueUnreachableError: The broker does not hear it; it may be delivered again.
            StaleMessageError: It will be delivered again.
        """
        await self._say("ack")

    async def nack(self, requeue: bool = True) -> None:
        """Give it back to be delivered again. Does nothing to one that is settled.

        Args:
            requeue: False: give it up, and never deliver it again.

        Raises:
            QueueUnreachableError: The broker does not hear it.
            StaleMessageError: It will be delivered again anyway.
        """
        await self._say("nack" if requeue else "drop")

    async def _say(self, verdict: Verdict) -> None:
        if self.settled is None:
            await self._settle(verdict)
            self.settled = verdict


def body_of(message: Any) -> bytes:
    """Return *message* as bytes; what is neither bytes nor text becomes JSON.

    Raises:
        TypeError: It cannot be written as JSON.
        ValueError: Likewise.
    """
    if isinstance(message, (bytes, bytearray, memoryview)):
        return bytes(message)
    if isinstance(message, str):
        return message.encode()
    written = json.dumps(message, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return written.encode()


def name_of(what: str, name: Any) -> str:
    """Return *name*, which all brokers take.

    Raises:
        ValueError: They do not.
    """
    if not isinstance(name, str) or len(name) > _LONGEST or not _NAME.fullmatch(name):
        raise ValueError(
            f"{what} must be of letters, digits, - and _, with single dots between them, and not "
            f"over {_LONGEST} long: {name!r:.80}"
        )
    return name


def headers_of(headers: Mapping[str, Any]) -> dict[str, str]:
    """Return *headers* as texts, which all brokers take.

    Raises:
        ValueError: They do not take a name, or a value of more than one line.
    """
    taken = {str(name): str(value) for name, value in headers.items()}
    for name, value in taken.items():
        if not _HEADER.fullmatch(name) or name.lower().startswith(_RESERVED):
            raise ValueError(f"a header cannot be called {name!r:.80}")
        if value != value.strip() or not value.isprintable():
            raise ValueError(f"header {name!r}: it must be one line without spaces around it")
    return taken
