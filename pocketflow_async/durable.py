"""Durable runs of flows: `AsyncFlow.run_async` with a store, and `AsyncFlow.resume`."""

from __future__ import annotations

import asyncio
import logging
import warnings
from contextlib import suppress
from typing import Any, Final
from uuid import uuid4

from pocketflow_async.hooks import Step, active, admit_async, keeping
from pocketflow_async.infrastructure.checkpoints.codec import decode
from pocketflow_async.infrastructure.checkpoints.current import current
from pocketflow_async.infrastructure.checkpoints.ending import suspension_in
from pocketflow_async.infrastructure.checkpoints.errors import (
    FlowChanged,
    RunBusy,
    RunNotFound,
    RunSuspended,
)
from pocketflow_async.infrastructure.checkpoints.keeper import Keeper
from pocketflow_async.infrastructure.checkpoints.opening import Stored as Stored
from pocketflow_async.infrastructure.checkpoints.opening import opened
from pocketflow_async.infrastructure.checkpoints.questions import Question, Suspension, asked
from pocketflow_async.infrastructure.checkpoints.reconciling import intent_key
from pocketflow_async.infrastructure.checkpoints.saved import Saved, checkpoint_key, read
from pocketflow_async.infrastructure.checkpoints.traces import continued, traceparent_of
from pocketflow_async.infrastructure.owners import is_gone, this_process
from pocketflow_async.infrastructure.store.errors import LeaseLost
from pocketflow_async.infrastructure.store.model import RunRow, Store
from pocketflow_async.nodes import kind_of, name_of
from pocketflow_async.places import Places, difference
from pocketflow_async.wording import a

logger = logging.getLogger(__name__)

_LONGEST: Final = 200  # characters of a run's id
_NO_TEXT: Final = "run_id is a text, and {!r:.80} is {}"
_FAREWELL: Final = 10.0  # seconds that may be taken to store why a run ends


async def run(flow: Any, shared: Any, run_id: str | None, store: Any, lease: float) -> Any:
    """Run *flow* durably; see `AsyncFlow.run_async`."""
    if isinstance(store, Keeper):  # from `resume`, through what the class's users put around runs
        return await _run(flow, shared, store)
    if store is None:
        raise TypeError("a run_id needs a store: run_async(shared, run_id=…, store=…)")
    _check_id(run_id)
    async with opened(store) as kept:
        keeper = Keeper(Places(flow), kept, run_id or uuid4().hex, _seconds(lease), shared)
        return await _run(flow, shared, keeper)


async def resume(flow: Any, run_id: str, shared: Any, store: Any, lease: float) -> Any:
    """Go on with a run; see `AsyncFlow.resume`."""
    if shared is not None and type(shared) is not dict:
        raise TypeError(f"shared must be a dict, or be left out, not {a(type(shared).__name__)}")
    if not isinstance(run_id, str):
        raise TypeError(_NO_TEXT.format(run_id, a(type(run_id).__name__)))
    async with opened(store) as kept:
        places = Places(flow)
        row = await _known(run_id, kept)
        if row.definition_hash != places.digest:
            change = difference(row.definition or "[]", places.definition)
            raise FlowChanged(run_id, name_of(flow), change)
        if row.status == "completed":
            await _saved(row, kept, shared, deep=False)
            return decode(row.result or "null", "what the flow returned")
        if waits_for := await _unanswered(row, kept):
            raise RunSuspended(waits_for[0], kept, several=len(waits_for) > 1)
        claimed = await _claimed(row, kept, _seconds(lease))
        try:
            saved = await _saved(claimed, kept, shared)
        except BaseException:
            await _given_back(claimed, kept)
            raise
        keeper = Keeper(places, kept, run_id, lease, saved.shared, saved, claimed)
        with continued(claimed.trace):
            return await flow.run_async(saved.shared, store=keeper)


async def _run(flow: Any, shared: Any, keeper: Keeper) -> Any:
    if flow.successors:
        warnings.warn("Node won't run successors. Use AsyncFlow.")  # noqa: B028 (as PocketFlow)
    keeper.expect(flow, 0)
    token = current.set(keeper.root)
    try:
        with keeping(keeper):
            step = Step(kind_of(flow), name_of(flow), flow, shared, active())
            step.after = ()  # so that those who watch say which span it is
            step.facts = keeper.facts
            with step:
                await keeper.begin(traceparent_of(step))
                async with keeper.lease:
                    step.result = result = await _kept(flow, shared, keeper, step)
        return result
    except BaseException as error:
        suspension = suspension_in(error)
        if suspension is None:
            raise
        raise _shown(suspension, keeper) from None
    finally:
        current.reset(token)


async def _kept(flow: Any, shared: Any, keeper: Keeper, step: Step) -> Any:
    try:
        await admit_async(step, active())
        result = await flow._run_async(shared)
        await keeper.finish(result)
    except GeneratorExit:  # the loop is gone; nothing can be awaited any more
        raise
    except BaseException as error:
        if keeper.lease.lost is None:
            try:
                async with asyncio.timeout(_FAREWELL):
                    await keeper.ended(error)
            except Exception:
                logger.exception("why run %r ended is not stored", keeper.run_id)
        raise
    return result


def _shown(suspension: Suspension, keeper: Keeper) -> RunSuspended:
    """Return the error for who has started the run, with what is noted on *suspension*."""
    error = RunSuspended(suspension.question, keeper.store, several=keeper.asks_several)
    error.__dict__.update(vars(suspension))
    return error


async def _known(run_id: str, store: Store) -> RunRow:
    row = await store.run(run_id)
    if row is None or row.kind != "flow":
        raise RunNotFound(run_id, store.durable)
    return row


async def _unanswered(row: RunRow, store: Store) -> list[Question]:
    """Return what the run waits for, where it would do nothing but ask again."""
    found = await asked(row.run_id, store) if row.status == "suspended" else []
    waits = all(answer is None for _, answer in found)
    return [question for question, _ in found] if waits else []


async def _claimed(row: RunRow, store: Store, lease: float) -> RunRow:
    """Take a run that nobody has; that of a process which is gone at once."""
    if row.owner is not None and is_gone(row.owner):
        with suppress(LeaseLost):  # somebody else has just taken it
            await store.append(row.run_id, row.owner, row.fence, release=True)
    claimed = await store.claim(row.run_id, this_process(), lease)
    if claimed is None:
        raise RunBusy(row.run_id, row.owner)
    return claimed


async def _saved(row: RunRow, store: Store, into: Any, deep: bool = True) -> Saved:
    keys = checkpoint_key(row.run_id), intent_key(row.run_id)
    found = await store.get_many(keys)
    if keys[0] not in found:
        raise RunNotFound(row.run_id, store.durable)
    return read(found[keys[0]], found.get(keys[1]), into, deep)


async def _given_back(row: RunRow, store: Store) -> None:
    try:
        await store.append(row.run_id, row.owner or "", row.fence, release=True)
    except Exception:
        logger.exception("run %r is not given back; its lease will run out", row.run_id)


def _check_id(run_id: object) -> None:
    """Raise where *run_id* is no id that people can read, type and find again."""
    if run_id is None:
        return
    if not isinstance(run_id, str):
        raise TypeError(_NO_TEXT.format(run_id, a(type(run_id).__name__)))
    if not run_id:
        raise ValueError("run_id is empty; leave it out to get a new one")
    if len(run_id) > _LONGEST:
        raise ValueError(f"run_id has {len(run_id)} characters; {_LONGEST} is the most")
    if not run_id.isprintable():
        raise ValueError(f"run_id {run_id!r} has characters that cannot be printed")


def _seconds(lease: float) -> float:
    if not lease > 0:
        raise ValueError(f"lease must be a number of seconds above 0, not {lease!r}")
    return lease
