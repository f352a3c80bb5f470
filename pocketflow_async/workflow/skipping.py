"""Why a block does not run, by what there is of the others. Pure."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import TYPE_CHECKING, Any, Final

from pocketflow_async.workflow.block_values import is_told_not_to

if TYPE_CHECKING:
    from pocketflow_async.workflow.definition import Block
    from pocketflow_async.workflow.node_handlers import BlockWork

TOLD_NOT_TO: Final = "its signal is false"


def hindrance(
    block: Block,
    foreign: BlockWork | None,
    outputs: Mapping[str, Any],
    failed: Container[str],
    skipped: Container[str],
) -> str | None:
    """Return why a block cannot run; None: it can.

    Args:
        block: The block.
        foreign: Its handler; None: that is built in, and heeds its signal itself.
        outputs: What blocks have yielded, by id.
        failed: Ids of blocks that failed.
        skipped: Ids of blocks that were skipped.
    """
    for need in block.needs:
        if need in failed:
            return f"it needs {need!r}, which failed"
        if need in skipped:
            return f"it needs {need!r}, which was skipped"
    if foreign is not None and is_told_not_to(block, foreign, outputs):
        return TOLD_NOT_TO
    return None
