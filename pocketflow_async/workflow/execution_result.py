"""The result of an execution, as the callers of executors know it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pocketflow_async.workflow.definition import Block

if TYPE_CHECKING:
    from pocketflow_async.workflow.execution import ExecutionRun


def result_of(
    run: ExecutionRun,
    status: str,
    duration: float,
    durations: Mapping[str, float],
    blocks: Iterable[Block],
) -> dict[str, Any]:
    """Return what there is of *run* by now as a result, which is plain JSON.

    Args:
        run: The execution.
        status: How it ended.
        duration: What it took, in milliseconds.
        durations: What its blocks took, by id.
        blocks: The blocks.
    """
    known = {block.id: block for block in blocks}
    return {
        "status": status,
        "execution_id": run.execution.execution_id,
        "workflow_id": run.execution.workflow_id,
        "duration": duration,
        "results": [
            {
                "nodeId": name,
                "nodeName": known[name].name,
                "nodeType": known[name].category,
                "output": output,
                "duration": durations.get(name, 0.0),
            }
            for name, output in run.outputs.items()
        ],
        "outputs": dict(run.outputs),
        "errors": list(run.errors.values()),
        "skipped": [{"nodeId": name, "reason": reason} for name, reason in run.skipped.items()],
    }
