"""A code string that defines `process_item`, for maps."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, Final

from pocketflow_async.workflow.code import compile_code
from pocketflow_async.workflow.errors import WorkflowValidationError
from pocketflow_async.workflow.map_work import ItemFunction
from pocketflow_async.workflow.names import RESULT, names_of
from pocketflow_async.workflow.source import named, parse, read
from pocketflow_async.workflow.spec import Context, Port, Ports

ITEM_FUNCTION: Final = "process_item"
_FIRST_LINE = re.compile(r"^([ \t]*)[^\s#]", re.MULTILINE)


class OfCode:
    """Makes the function for an item of a code string, once a run.

    The code may import, define and await what it needs; the inputs of the node are its names, and
    those of its function.

    Args:
        code: Defines `process_item(item)`, synchronous or asynchronous.
        node_id: Whose it is, for errors.
        allow: What the lint is to let pass.

    Raises:
        WorkflowValidationError: It is no Python, or defines no such function.
    """

    def __init__(self, code: str, node_id: str, allow: Collection[str] = ()) -> None:
        source = read(code, node_id)
        parse(source)
        with named(source):
            names = names_of(source.roofed)
        if ITEM_FUNCTION not in names.bound:
            raise WorkflowValidationError(
                f"node {node_id!r}: Function must define 'def {ITEM_FUNCTION}(item)' "
                f"or 'async def {ITEM_FUNCTION}(item)'"
            )
        # One more line, with the indentation of the others, so that theirs keep their numbers.
        margin = _FIRST_LINE.search(code)
        line = f"{margin[1] if margin else ''}{RESULT} = {ITEM_FUNCTION}"
        self.compiled = compile_code(
            f"{code}\n{line}\n", node_id=node_id, is_async=True, allow=frozenset(allow)
        )

    @property
    def inputs(self) -> Ports:
        """What the code reads and does not define."""
        return Ports({name: Port(name) for name in sorted(self.compiled.needed)}, open=True)

    async def __call__(self, inputs: Mapping[str, Any], context: Context) -> ItemFunction:
        """Run the code; return the function that it has defined.

        Raises:
            TypeError: What it has defined cannot be called.
        """
        function: Any = await self.compiled.run(inputs, context)
        if not callable(function):
            kind = type(function).__name__
            raise TypeError(f"node {context.node_id!r}: {ITEM_FUNCTION} is no function but {kind}")
        made: ItemFunction = function
        return made
