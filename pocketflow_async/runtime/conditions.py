"""Conditions of nodes: what they are called with, and what their errors say."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final

from pocketflow_async.workflow.errors import NodeExecutionError
from pocketflow_async.workflow.function_work import Needs, has_signature, needs_of
from pocketflow_async.workflow.spec import Context

_INPUTS: Final = "inputs"


class Condition:
    """Decides from its inputs whether a node runs.

    It gets the inputs that it has parameters for, by name, as functions do. A single parameter that
    is called `inputs`, or as no input of the node is, gets all of them as a dict.

    Args:
        function: Says so; may be asynchronous.
        names: Inputs that the node is known to have.
    """

    __slots__ = ("_function", "_names", "_needs", "_single")

    def __init__(self, function: Callable[..., Any], names: frozenset[str]) -> None:
        self._function = function
        self._names = names
        self._needs = needs = needs_of(function)
        self._single = _single(needs) if has_signature(function) else ""

    async def holds(self, inputs: Mapping[str, Any], context: Context) -> bool:
        """Return whether the node is to run.

        Raises:
            NodeExecutionError: The condition has raised something, which is the cause.
        """
        try:
            answer = self._called(inputs, context)
            return bool(await answer if inspect.isawaitable(answer) else answer)
        except (Exception, SystemExit) as error:
            text = f"{type(error).__name__}: {error}"
            raise NodeExecutionError(
                f"the condition of node {context.node_id!r} raised {text}"
            ) from error

    def _called(self, inputs: Mapping[str, Any], context: Context) -> Any:
        if self._takes_all(inputs):
            return self._function(dict(inputs))
        given, named = self._needs.bind(inputs, context, "the condition")
        return self._function(*given, **named)

    def _takes_all(self, inputs: Mapping[str, Any]) -> bool:
        name = self._single
        return (
            name == ""
            or name == _INPUTS
            or (name is not None and name not in inputs and name not in self._names)
        )


def _single(needs: Needs) -> str | None:
    """Return the only parameter; empty if nothing is known of it; None: there is not just one."""
    if not needs.names() and not needs.anything:
        return ""
    found = needs.required or needs.optional
    return found[0] if len(found) == 1 else None
