"""The events of one execution: with all its ids, numbered, without secrets and of bounded size."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from pocketflow_async.infrastructure.events.stamp import timestamp, uuid7
from pocketflow_async.infrastructure.logging_redaction import clean, told
from pocketflow_async.workflow.definition import Block
from pocketflow_async.workflow.recording import Event, Execution

SCHEMA_VERSION: Final = 1
LONGEST_OUTPUT: Final = 32_768
"""Characters of JSON up to which the outputs of a block are told; the result has all of them."""


class ExecutionEvents:
    """Makes the events of one execution.

    Args:
        execution: The execution.
        seq: Number of its last event.
        clock: Returns seconds since the epoch.
    """

    def __init__(
        self, execution: Execution, seq: int = 0, clock: Callable[[], float] = time.time
    ) -> None:
        self.seq = seq
        self._execution = execution
        self._clock = clock

    def make(self, type: str, **more: Any) -> Event:
        """Return the next event."""
        self.seq += 1
        now = self._clock()
        run = self._execution
        return {
            "type": type,
            "execution_id": run.execution_id,
            "workflow_id": run.workflow_id,
            "bot_id": run.bot_id,
            "strategy_id": run.strategy_id,
            "timestamp": timestamp(now),
            "event_id": uuid7(lambda: now),
            "seq": self.seq,
            "schema_version": SCHEMA_VERSION,
            **more,
        }

    def of_block(self, type: str, block: Block, **more: Any) -> Event:
        """Return the next event, which is about a block."""
        names = {"node_id": block.id, "node_name": block.name, "node_category": block.category}
        return self.make(type, **names, **more)


def shown(output: Any, size: int) -> Any:
    """Return the output of a block, which has *size* characters of JSON, as events tell it."""
    if size > LONGEST_OUTPUT:
        keys = list(output)[:20] if isinstance(output, dict) else []
        return {"truncated": True, "characters": size, "keys": told(keys)}
    return told(output)


def words(error: BaseException) -> str:
    """Return what an error says, without secrets; its type, if it says nothing."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 (its class has an error of its own)
        text = ""
    return clean(text) or type(error).__name__


def about(error: BaseException) -> dict[str, Any]:
    """Return what events and results say of an error."""
    return {"error": words(error), "error_type": type(error).__name__}
