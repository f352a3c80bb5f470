"""Compiled code as the work of a workflow's node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pocketflow_async.workflow.code import Compiled
from pocketflow_async.workflow.spec import Context, Port, Ports


class CodeWork:
    """Runs compiled code.

    Args:
        compiled: The code.
        wrapped: Whether to yield `{"result": value}` instead of the value.
        max_concurrent_tasks: Most tasks of its own that it may have at work at a time.
    """

    __slots__ = ("compiled", "max_concurrent_tasks", "wrapped")

    def __init__(
        self, compiled: Compiled, *, wrapped: bool = False, max_concurrent_tasks: int | None = None
    ) -> None:
        self.compiled = compiled
        self.wrapped = wrapped
        self.max_concurrent_tasks = max_concurrent_tasks

    @property
    def is_async(self) -> bool:
        """Whether `run` returns a coroutine."""
        return self.compiled.is_async

    def run(self, inputs: Mapping[str, Any], context: Context) -> Any:
        """Run the code with *inputs* as its names; see `Compiled.run`."""
        value = self.compiled.run(inputs, context, self.max_concurrent_tasks)
        if not self.wrapped:
            return value
        return _wrapped(value) if self.compiled.is_async else {"result": value}

    @property
    def inputs(self) -> Ports:
        """What the code reads and does not set; an input may also be a resource."""
        known = {name: Port(name) for name in sorted(self.compiled.needed)}
        return Ports(known, open=True)

    @property
    def outputs(self) -> Ports:
        """Keys of its value, as far as its text makes them certain; those of all its branches."""
        keys = self.compiled.keys
        if self.wrapped or keys is None:
            return Ports({"result": Port("result")}, open=not self.wrapped)
        return Ports({name: Port(name) for name in ["result", *sorted(keys)]}, open=False)


async def _wrapped(value: Any) -> dict[str, Any]:
    return {"result": await value}
