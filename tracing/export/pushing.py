"""Sending by hand what earlier processes could not send."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tracing.errors import StoreMissing, StoreUnreadable
from tracing.export.address import told as without_secrets
from tracing.export.configured import route
from tracing.export.model import Route, Target
from tracing.export.registry import attach
from tracing.export.sender import Sender
from tracing.store.outbox import Waiting
from tracing.store.schema import NotAStore
from tracing.store.store import TraceStore

if TYPE_CHECKING:
    from tracing.config import TracingConfig

_EACH: Final = 1.0  # seconds between two looks at how far it is
_OBJECT: Final = re.compile(r"[\w.]+#\d+")  # how the address of a SpanProcessor is written


@dataclass(frozen=True, slots=True)
class Pushed:
    """What has become of the records that waited for one target.

    Attributes:
        name: Of the target.
        endpoint: Where it is.
        sent: Records that have arrived now.
        waiting: Records that still wait.
        aside: Records that the target will not take.
        said: Why records still wait, and what has been done with those that could not be sent;
            empty if there is nothing to say.
        held: Of those that wait, how many a process that still runs is to send.
    """

    name: str
    endpoint: str
    sent: int
    waiting: int
    aside: int
    said: str
    held: int = 0


def push(
    path: str | Path,
    config: TracingConfig,
    timeout: float,
    say: Callable[[str, int, int], None] = lambda name, sent, waiting: None,
    *,
    to: str | None = None,
    forget: bool = False,
) -> list[Pushed]:
    """Send what waits in a store for the targets of *config*, and is no living process's to send.

    Args:
        path: The store.
        config: Names the targets.
        timeout: Seconds for all of it.
        say: Told now and then how far it is: name of a target, records sent, records waiting.
        to: Name of the target of *config* that gets what waits for targets that are not in it.
        forget: Whether what waits for these is to be sent nowhere any more.

    Returns:
        One line for each target that the store knows and that has, or had, something waiting.

    Raises:
        StoreMissing: There is no file.
        StoreUnreadable: The file is not a trace store, or cannot be written.
        ValueError: The config names a target that cannot be, or has none called *to*.
    """
    if not Path(path).exists():
        raise StoreMissing(str(path))
    way = route(config) or Route()
    gets = None if to is None else _called(way, to)
    store = TraceStore(path)
    try:
        store.sign()
        store.bury()
        before = store.outbox.waiting()
        lost = [told for told in before if told.key not in {one.key for one in way.targets}]
        done = {told.key: _redirected(store, told, gets, forget=forget) for told in lost}
        senders = attach(store, way)
        deadline = time.monotonic() + timeout
        for sender in senders:
            store.outbox.adopt(sender.key)
        for sender in senders:
            _send(store, sender, deadline, say)
        return _lines(before, store, senders, done)
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


def _called(way: Route, name: str) -> Target:
    for target in way.targets:
        if target.name == name:
            return target
    there = ", ".join(target.name for target in way.targets) or "none at all"
    raise ValueError(f"no target called {name!r} is configured here (there is: {there})")


def _redirected(store: TraceStore, told: Waiting, to: Target | None, *, forget: bool) -> str:
    """Do what was asked for with what waits for a target that is not configured; say so."""
    if to is not None and told.waiting:
        store.outbox.know(to.key, to.name, to.endpoint)
        moved = store.outbox.readdress([told.key], to.key)
        where = f"{to.name} at {without_secrets(to.endpoint)}"
        return f"{moved:,} re-addressed to {where}" if moved else ""
    if forget and (gone := store.outbox.forget([told.key])):
        return f"{gone:,} forgotten; their traces stay in the store"
    return ""


def _lines(
    before: list[Waiting], store: TraceStore, senders: list[Sender], done: Mapping[str, str]
) -> list[Pushed]:
    by_key = {sender.key: sender for sender in senders}
    had = {told.key: told.waiting for told in before}
    held = store.outbox.held()
    lines = []
    for told in store.outbox.waiting():
        sender = by_key.get(told.key)
        sent = 0 if sender is None else sender.sent()
        if told.waiting or told.aside or sent or had.get(told.key):
            theirs = min(held.get(told.key, 0), told.waiting)
            why = _why(told, theirs, sender, senders)
            said = "; ".join(part for part in (done.get(told.key, ""), why) if part)
            lines.append(
                Pushed(told.name, told.address, sent, told.waiting, told.aside, said, theirs)
            )
    return lines


def _why(told: Waiting, held: int, sender: Sender | None, senders: Sequence[Sender]) -> str:
    """Return why records still wait; empty if none does."""
    if not told.waiting:
        return ""
    if held == told.waiting:
        return "a process that still runs sends them"
    if sender is not None:
        said = sender.trouble or "time was up"
    else:
        said = unconfigured(told.address, [one.target.name for one in senders])
    if held:
        said = f"{said.rstrip('.?! ')}; a process that still runs sends {held:,} of them"
    return said


def unconfigured(address: str, names: Sequence[str]) -> str:
    """Return what to do about records for a target that is not configured here.

    Args:
        address: Of that target.
        names: Of the targets that are configured.
    """
    if _OBJECT.fullmatch(address):
        said = "they were for a SpanProcessor of a process that has ended"
    else:
        said = (
            "this target is not configured here, or with other credentials; a program that sets "
            "it in its code sends them when it runs next"
        )
    name = " or ".join(names) or "NAME"
    return (
        f"{said}. `traces push --to {name}` sends them to a target that is configured, "
        "`traces push --forget` to none"
    )
