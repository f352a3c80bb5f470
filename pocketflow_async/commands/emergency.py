"""Halting, resuming and looking, from outside of the programs that are at work.

CommandError    it cannot be done; says why, and what to do
"""

from __future__ import annotations

import getpass
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from pocketflow_async.infrastructure.emergency import (
    EmergencyController,
    EmergencyHalted,
    EmergencyState,
)
from pocketflow_async.infrastructure.store.errors import StoreError
from pocketflow_async.infrastructure.store.model import RUNNING, Store
from pocketflow_async.infrastructure.store.opening import open_store
from pocketflow_async.infrastructure.store_place import shown, store_url

WAITING: Final = (RUNNING, "suspended", "halted", "interrupted", "needs_reconciliation")
"""Statuses of runs that have not come to their end."""
MOST: Final = 1000
"""Runs of one status that are counted, at most."""


class CommandError(Exception):
    """Raised when a command cannot do what it was asked for."""


@dataclass(frozen=True, slots=True)
class Overview:
    """How things stand.

    Attributes:
        store: Where that was read; without what is secret.
        status: As `EmergencyController.get_status` has it.
        runs: How many runs have not ended, by status.
        is_new: Whether the store was made by this command: no program uses it yet.
    """

    store: str
    status: Mapping[str, Any]
    runs: Mapping[str, int] = field(default_factory=dict)
    is_new: bool = False

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {"store": self.store, **self.status, "open_runs": dict(self.runs)}


async def halt(
    url: str | None, controller_id: str, reason: str, state: str = EmergencyState.HALT
) -> Overview:
    """Raise the state of a store to *state*; return how things stand then.

    Args:
        url: The store; None: the usual one. It is made if need be: who starts later is halted too.
        controller_id: Which controller.
        reason: Why.
        state: halt, or another that is not normal.

    Raises:
        CommandError: There is no reason, or the store cannot be used.
    """
    if not reason.strip():
        raise CommandError("say why: whoever finds it halted needs to know")
    async with _opened(url, controller_id) as (store, controller, is_new):
        await controller.set_state(state, reason, by=operator())
        return await _overview(url, store, controller, is_new)


async def resume(
    url: str | None,
    controller_id: str,
    reason: str,
    *,
    version: int | None = None,
    reducing: bool = False,
    reset: bool = False,
) -> Overview:
    """Lower the state of a store; return how things stand then.

    Args:
        url: The store; None: the usual one.
        controller_id: Which controller.
        reason: Why.
        version: Only if the state is still the one that somebody has looked at.
        reducing: Let exits through only.
        reset: End a shutdown too.

    Raises:
        CommandError: It is shut down and *reset* is not said, it has changed since that version,
            or the store is not there or cannot be used.
    """
    async with _opened(url, controller_id, must_exist=True) as (store, controller, _):
        try:
            if reset and controller.is_shutdown:
                await controller.reset(operator=operator(), reason=reason)
            else:
                await controller.resume(
                    reason, reducing=reducing, if_version=version, by=operator()
                )
        except EmergencyHalted as error:
            why = "add --reset to end a shutdown" if controller.is_shutdown else "look again"
            raise CommandError(f"{error}; it is not resumed: {why}") from error
        return await _overview(url, store, controller, is_new=False)


async def status(url: str | None, controller_id: str) -> Overview:
    """Return how things stand.

    Args:
        url: The store; None: the usual one.
        controller_id: Which controller.

    Raises:
        CommandError: The store is not there or cannot be used.
    """
    async with _opened(url, controller_id, must_exist=True) as (store, controller, _):
        return await _overview(url, store, controller, is_new=False)


def operator() -> str:
    """Return who is at the keyboard, and where."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # containers know numbers only
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


@asynccontextmanager
async def _opened(
    url: str | None, controller_id: str, *, must_exist: bool = False
) -> AsyncIterator[tuple[Store, EmergencyController, bool]]:
    where = store_url() if url is None else url
    try:
        store = open_store(where)
        if not store.shared:
            raise CommandError(
                f"{shown(where)} is within one process: nothing outside can see or halt it. Name "
                "the store of your programs with --store or STATE_URL"
            )
        path = getattr(store, "path", None)
        is_new = path is not None and not path.exists()
        if is_new and must_exist:
            raise CommandError(
                f"there is no store at {path}. Name that of your programs with --store or STATE_URL"
            )
        async with store, EmergencyController(controller_id, store=store) as controller:
            yield store, controller, is_new
    except (StoreError, ValueError, ImportError, OSError) as error:
        raise CommandError(_bare(str(error) or type(error).__name__, where)) from error


async def _overview(
    url: str | None, store: Store, controller: EmergencyController, is_new: bool
) -> Overview:
    await controller.refresh()
    counted = {one: len(await store.runs(status=one, limit=MOST)) for one in WAITING}
    runs = {one: count for one, count in counted.items() if count}
    where = shown(store_url() if url is None else url)
    return Overview(where, controller.get_status(), runs, is_new)


def _bare(message: str, where: str) -> str:
    """Return *message* without the password that the address has, if it is in there."""
    with suppress(ValueError):  # the address may be what is wrong
        password = urlsplit(where).password or ""
        for secret in filter(None, (password, unquote(password))):
            message = message.replace(secret, "***")
    return message
