"""What can be read only once: it goes into one node, and into one attempt of that."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from pocketflow_async.workflow.errors import NodeExecutionError

if TYPE_CHECKING:
    from pocketflow_async.runtime.prepared import Planned

_ORDINARY: Final = frozenset(
    {dict, list, str, int, float, bool, type(None), tuple, set, frozenset, bytes}
)


class Readers:
    """Which node of a run reads what can be read only once."""

    __slots__ = ("_claimed",)

    def __init__(self) -> None:
        self._claimed: dict[int, tuple[Any, str]] = {}  # the value is kept: ids are used again

    def claim(self, node: Planned, inputs: dict[str, Any]) -> dict[str, Any]:
        """Return the *inputs* of *node*, noting what it alone can read from now on.

        Raises:
            NodeExecutionError: Another node reads one of them already.
        """
        for name, value in inputs.items():
            if type(value) not in _ORDINARY and _is_read_once(value) and _reads(node, name):
                _, reader = self._claimed.setdefault(id(value), (value, node.id))
                if reader != node.id:
                    raise NodeExecutionError(
                        f"node {node.id!r}: its input {name!r} ({_origin(node, name)}) is "
                        f"{_kind(value)}, which can be read once, and node {reader!r} reads it "
                        "already: give a list"
                    )
        return inputs


def spent(node: Planned, inputs: Mapping[str, Any]) -> str:
    """Return why *node* cannot be tried again with the same *inputs*; empty: it can."""
    for name, value in inputs.items():
        if type(value) not in _ORDINARY and _is_read_once(value) and _reads(node, name):
            return (
                f"not tried again: its input {name!r} is {_kind(value)}, which can be read once; "
                "give a list"
            )
    return ""


def _is_read_once(value: Any) -> bool:
    return isinstance(value, Iterator | AsyncIterator)


def _kind(value: Any) -> str:
    name = type(value).__name__.replace("_", " ")
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _reads(node: Planned, name: str) -> bool:
    return node.reads is None or name in node.reads


def _origin(node: Planned, name: str) -> str:
    for source, output, _, _, input in node.edges:
        if input == name:
            return f"{'all' if output is None else f'output {output!r}'} of node {source!r}"
    return f"input {name!r} of the run"
