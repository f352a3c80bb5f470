"""What goes into a block and comes out of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pocketflow_async.wording import a
from pocketflow_async.workflow.definition import Block, Source
from pocketflow_async.workflow.errors import WorkflowError
from pocketflow_async.workflow.node_handlers import BlockWork
from pocketflow_async.workflow.plain_json import NotPlainJson, encode

_SIGNAL: Final = "signal"
"""The input of an action that says whether it is to act."""


class MissingInputError(WorkflowError, LookupError):
    """Raised in place of running a block whose input is not there."""


class OutputError(WorkflowError, ValueError):
    """Raised when what a block has yielded cannot be kept."""


def inputs_of(block: Block, work: BlockWork, outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs of a block by name: what is connected, else properties, else config.

    Args:
        block: The block.
        work: Its handler.
        outputs: What blocks have yielded, by id.

    Raises:
        MissingInputError: One that must be there is not. Nothing stands in for it.
    """
    needed = work.needed_by(block)
    found: dict[str, Any] = {}
    for name in work.inputs_of(block):
        source = block.sources.get(name)
        value = block.constant(name) if source is None else _yielded(name, source, outputs)
        if value is not None or source is not None:
            found[name] = value
        elif name in needed:
            raise MissingInputError(f"the input {name!r} is missing")
    return found


def is_told_not_to(block: Block, work: BlockWork, outputs: Mapping[str, Any]) -> bool:
    """Return whether an action has a `signal` that says no; one that is missing says nothing.

    All outputs of a block together say no when each of them does.
    """
    if block.category != "actions" or _SIGNAL not in work.inputs_of(block):
        return False
    source = block.sources.get(_SIGNAL)
    if source is None:
        value = block.constant(_SIGNAL)
        return value is not None and not value
    try:
        value = _yielded(_SIGNAL, source, outputs)
    except MissingInputError:
        return False
    return not any(value.values()) if isinstance(value, dict) else not value


def _yielded(name: str, source: Source, outputs: Mapping[str, Any]) -> Any:
    value = outputs[source.node_id]
    if source.output is None:
        return value
    if isinstance(value, dict) and source.output in value:
        return value[source.output]
    there = ", ".join(map(repr, value)) if isinstance(value, dict) else a(type(value).__name__)
    what = f"{source.node_id!r} yielded no {source.output!r}, but {there or 'nothing'}"
    raise MissingInputError(f"the input {name!r} is missing: {what:.500}")


def kept(block: Block, value: Any, most: int) -> tuple[str, Any]:
    """Return what a block has yielded, as JSON text and as it comes back from there.

    Args:
        block: The block.
        value: What it has yielded.
        most: How many bytes of JSON it may be.

    Raises:
        OutputError: It cannot be kept.
    """
    try:
        text, copy = encode(value)
    except NotPlainJson as error:
        raise OutputError(f"the output of block {block.id!r}, {error}") from error
    if len(text) > most:
        what = f"the output of block {block.id!r} has {len(text):,} bytes of JSON"
        raise OutputError(f"{what}, and {most:,} may be (max_output_bytes)")
    return text, copy
