"""What a journal says of an execution that goes on. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pocketflow_async.infrastructure.store.model import Entry
from pocketflow_async.workflow.definition import Block, Definition, OnRestart
from pocketflow_async.workflow.recording import Past


@dataclass(frozen=True, slots=True)
class InDoubt:
    """A node of which nobody knows whether it has taken effect: the process died in it.

    Attributes:
        execution_id: The execution.
        workflow_id: The workflow.
        node_id: The node.
        node_type: What it is, such as "buy".
        node: Its block, as it is in the definition.
        idempotency_key: The key that the handler was given.
        attempt: Number of the attempt, from 1.
        since: When that began, in seconds since the epoch.
    """

    execution_id: str
    workflow_id: str
    node_id: str
    node_type: str
    node: dict[str, Any]
    idempotency_key: str
    attempt: int
    since: float


@dataclass(frozen=True, slots=True)
class Retraced:
    """What there is to go on with.

    Attributes:
        past: What was done before.
        doubts: The lines of attempts that were neither completed nor failed, and must not simply
            be made again.
        stale: Nodes that were completed, and run again since their inputs are too old.
    """

    past: Past
    doubts: tuple[Entry, ...]
    stale: frozenset[str]


def retrace(
    definition: Definition,
    entries: Sequence[Entry],
    seq: int,
    restart_of: Callable[[Block], OnRestart],
    too_old: float | None = None,
) -> Retraced:
    """Return what *entries* say.

    Args:
        definition: What is executed.
        entries: The journal.
        seq: Number of the last event.
        restart_of: Returns what becomes of a block in which the process died.
        too_old: What providers yielded before that time (in seconds since the epoch) is not used
            any more; None: all of it is.
    """
    last: dict[str, Entry] = {}  # in the order in which they came to that
    begun: dict[str, float] = {}
    for entry in entries:
        last.pop(entry.node_id, None)
        last[entry.node_id] = entry
        if entry.phase == "started":
            begun.setdefault(entry.node_id, entry.at)
    blocks = {block.id: block for block in definition.blocks}
    stale = frozenset(() if too_old is None else _stale(definition, last, restart_of, too_old))
    kept = [entry for entry in last.values() if entry.node_id not in stale]
    past = Past(
        outputs={
            entry.node_id: json.loads(entry.output or b"null") for entry in _of(kept, "completed")
        },
        durations={
            entry.node_id: round((entry.at - begun[entry.node_id]) * 1000, 3)
            for entry in _of(kept, "completed")
            if entry.node_id in begun
        },
        errors={entry.node_id: json.loads(entry.error or "{}") for entry in _of(kept, "failed")},
        skipped={entry.node_id: entry.error or "" for entry in _of(kept, "skipped")},
        attempts={
            entry.node_id: entry.attempt
            for entry in last.values()
            if entry.phase == "started" or entry.node_id in stale
        },
        seq=seq,
    )
    doubts = tuple(
        entry for entry in _of(kept, "started") if restart_of(blocks[entry.node_id]) == "reconcile"
    )
    return Retraced(past, doubts, stale)


def _of(entries: Iterable[Entry], phase: str) -> list[Entry]:
    return [entry for entry in entries if entry.phase == phase]


def _stale(
    definition: Definition,
    last: dict[str, Entry],
    restart_of: Callable[[Block], OnRestart],
    too_old: float,
) -> set[str]:
    """Return the nodes that have to run again before an action may use what they yield.

    These are providers whose values are too old, and what was concluded from them; but nothing that
    must not run twice, and nothing that no action waits for.
    """
    awaited: set[str] = set()
    for block in reversed(definition.blocks):
        is_open = _is_open(last.get(block.id))
        if block.category == "actions":
            wants = is_open
        else:
            wants = block.id in awaited and (is_open or restart_of(block) == "rerun")
        if wants:
            awaited.update(block.needs)
    found: set[str] = set()
    for block in definition.blocks:  # each after what it needs
        entry = last.get(block.id)
        if entry is None or block.id not in awaited or restart_of(block) != "rerun":
            continue
        if entry.phase == "started" or block.category == "actions":
            continue
        old = block.category == "providers" and entry.phase == "completed" and entry.at < too_old
        if old or not found.isdisjoint(block.needs):
            found.add(block.id)
    return found


def _is_open(entry: Entry | None) -> bool:
    return entry is None or entry.phase == "started"
