"""How a pattern's work becomes a node, with all that was said about the node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from pocketflow_async.workflow.errors import WorkflowValidationError
from pocketflow_async.workflow.node_options import OPTIONS, check_id
from pocketflow_async.workflow.node_specs import make_spec, parted
from pocketflow_async.workflow.spec import NodeSpec, Work

_CODE: Final = "AsyncPythonCodeNode"
_BY_THE_WORK: Final = ("timeout", "max_concurrent_tasks")
"""Options that the work of a pattern enforces itself: neither delays nor waiting count."""


def pattern_spec(node_id: str, code: str | Callable[..., Any], given: dict[str, Any]) -> NodeSpec:
    """Return the node that the code would be by itself."""
    return make_spec(_CODE, node_id, *parted(_CODE, {"code": code, **given}))


def add_pattern(builder: Any, spec: NodeSpec, work: Work) -> str:
    """Add *work* under the id of *spec*, with all that was said about that one."""
    add = getattr(builder, "add_node", None)
    if add is None:
        raise TypeError(
            f"node {spec.id!r}: a workflow builder is needed first, not {builder!r:.80}"
        )
    said = {
        name: value
        for name in OPTIONS
        if name not in _BY_THE_WORK and (value := getattr(spec, name)) is not None
    }
    added: str = add(work, spec.id, **said)
    return added


def check_new_ids(builder: Any, *ids: str) -> None:
    """Raise before anything is added, so that no part of the pattern stays behind.

    Raises:
        TypeError: This is no builder, or an id is no text.
        WorkflowValidationError: An id is taken, there twice, or cannot be one.
    """
    is_node = getattr(builder, "_is_node", None)
    if is_node is None:
        raise TypeError(f"node {ids[0]!r}: a workflow builder is needed first, not {builder!r:.80}")
    for place, name in enumerate(ids):
        check_id(name)
        if is_node(name) or name in ids[:place]:
            raise WorkflowValidationError(f"Node ID {name!r} already exists in workflow")
