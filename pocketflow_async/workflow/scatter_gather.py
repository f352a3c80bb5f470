"""The end of a scatter: what all the workers have made, under an id of its own.

A scatter is one map over all items, shared out as the workers become free, so no worker waits for
another's share. Its gather hands on what it yields; the ids of both give the same, and the name of
the workers is another name of the scatter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pocketflow_async.workflow.map_work import map_outputs
from pocketflow_async.workflow.spec import Context, Port, Ports

SCATTERED: Final = "scattered"
"""Input of a gather: all that its scatter yields."""


class GatherWork:
    """Hands on what a scatter yields.

    Args:
        field: Key of the results.
    """

    is_async = True

    def __init__(self, field: str) -> None:
        self._field = field

    def __repr__(self) -> str:
        return f"<GatherWork {self._field}>"

    @property
    def inputs(self) -> Ports:
        """What the scatter yields."""
        return Ports({SCATTERED: Port(SCATTERED)}, open=False)

    @property
    def outputs(self) -> Ports:
        """The results, the statistics and the errors."""
        return map_outputs(self._field)

    async def run(self, inputs: Mapping[str, Any], context: Context) -> dict[str, Any]:
        """Return what the scatter has yielded."""
        return dict(inputs[SCATTERED])
