"""Sending by hand what earlier processes could not send."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tracing.errors import StoreMissing, StoreUnreadable
from tracing.export.configured import route
from tracing.export.registry import attach
from tracing.export.sender import Sender
from tracing.store.outbox import Waiting
from tracing.store.schema import NotAStore
from tracing.store.store import TraceStore

if TYPE_CHECKING:
    from tracing.config import TracingConfig

_EACH: Final = 1.0  # seconds between two looks at how far it is


@dataclass(frozen=True, slots=True)
class Pushed:
    """What has become of the records that waited for one target.

    Attributes:
        name: Of the target.
        endpoint: Where it is.
        sent: Records that have arrived now.
        waiting: Records that still wait.
        aside: Records that the target will not take.
        said: Why records still wait; empty if none does.
    """

    name: str
    endpoint: str
    sent: int
    waiting: int
    aside: int
    said: str


def push(
    path: str | Path,
    config: TracingConfig,
    timeout: float,
    say: Callable[[str, int, int], None] = lambda name, sent, waiting: None,
) -> list[Pushed]:
    """Send what waits in a store for the targets of *config*, and is no living process's to send.

    Args:
        path: The store.
        config: Names the targets.
        timeout: Seconds for all of it.
        say: Told now and then how far it is: name of a target, records sent, records waiting.

    Returns:
        One line for each target that the store knows and that has, or had, something waiting.

    Raises:
        StoreMissing: There is no file.
        StoreUnreadable: The file is not a trace store, or cannot be written.
        ValueError: The config names a target that cannot be.
    """
    if not Path(path).exists():
        raise StoreMissing(str(path))
    way = route(config)
    store = TraceStore(path)
    try:
        store.sign()
        store.bury()
        before = store.outbox.waiting()
        senders = attach(store, way) if way is not None else []
        deadline = time.monotonic() + timeout
        for sender in senders:
            store.outbox.adopt(sender.key)
        for sender in senders:
            _send(store, sender, deadline, say)
        return _lines(before, store.outbox.waiting(), senders)
    except (sqlite3.Error, OSError, NotAStore) as error:
        raise StoreUnreadable(str(path), str(error)) from error
    finally:
        store.close(0.5)


def _send(
    store: TraceStore, sender: Sender, deadline: float, say: Callable[[str, int, int], None]
) -> None:
    while (left := store.outbox.own(sender.key)) and time.monotonic() < deadline:
        say(sender.target.name, sender.sent(), left)
        before = sender.sent()
        sender.flush(min(deadline, time.monotonic() + _EACH))
        if sender.trouble and sender.sent() == before:
            return


def _lines(before: list[Waiting], after: list[Waiting], senders: list[Sender]) -> list[Pushed]:
    by_key = {sender.key: sender for sender in senders}
    had = {told.key: told.waiting for told in before}
    lines = []
    for told in after:
        sender = by_key.get(told.key)
        sent = 0 if sender is None else sender.sent()
        if told.waiting or told.aside or sent or had.get(told.key):
            said = _why(sender) if told.waiting else ""
            lines.append(Pushed(told.name, told.address, sent, told.waiting, told.aside, said))
    return lines


def _why(sender: Sender | None) -> str:
    if sender is None:
        return "this target is not configured here, or with other credentials"
    return sender.trouble or "a process that still runs has them, or time was up"
