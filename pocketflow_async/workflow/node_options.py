"""What can be said about any node, whatever it does: checked when it is added."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, Final

from pocketflow_async.arguments import seconds, whole
from pocketflow_async.workflow.errors import WorkflowValidationError
from pocketflow_async.workflow.ports import did_you_mean, listed

_LONGEST_ID: Final = 200

OPTIONS: Final = (
    "timeout",
    "max_concurrent_tasks",
    "retry_policy",
    "error_handler",
    "required_resources",
    "condition",
    "description",
)
"""Names of what can be said about any node."""


def check_id(node_id: object, what: str = "a node's id") -> str:
    """Return *node_id* if it can be one.

    Raises:
        TypeError: It is no text.
        WorkflowValidationError: It is empty, too long, or has dots, line breaks or the like.
    """
    if not isinstance(node_id, str):
        raise TypeError(f"{what} must be a text, not {node_id!r:.80}")
    wrong = _wrong_with(node_id)
    if wrong is not None:
        shown = repr(node_id) if len(node_id) <= 80 else f"{node_id[:80]!r}…"
        raise WorkflowValidationError(f"{what} cannot be {shown}: {wrong}")
    return str(node_id)


def _wrong_with(node_id: str) -> str | None:
    if not node_id.strip():
        return "it is empty"
    if len(node_id) > _LONGEST_ID:
        return f"it has {len(node_id)} characters, and {_LONGEST_ID} are the most"
    if not node_id.isprintable():
        return "it has characters that cannot be shown, such as line breaks"
    if node_id != node_id.strip():
        return "it begins or ends with a space"
    if "." in node_id:
        return "dots are for the ports of nodes (node.port)"
    if node_id.startswith("__") and node_id.endswith("__"):
        return "such names are Python's own"
    return None


def check_names(
    given: Mapping[str, Any], known: Collection[str], what: str, besides: Collection[str] = ()
) -> None:
    """Raise if something was *given* that is not *known*; *besides* are other names to offer.

    Raises:
        TypeError: Something was; names it and what may have been meant.
    """
    for name in given:
        if name not in known:
            names = [*known, *besides]
            guess = did_you_mean(name, names)
            raise TypeError(f"{what} takes no {name!r:.80}{guess}; it takes {listed(names, 30)}")


def check_options(node_id: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a node as fields of its NodeSpec.

    Raises:
        TypeError: One is of a wrong type, or there is no such option.
        ValueError: One is out of range.
    """
    check_names(given, OPTIONS, f"node {node_id!r}")
    try:
        return {name: _CHECKS[name](value) for name, value in given.items() if value is not None}
    except (TypeError, ValueError) as error:
        error.args = (f"node {node_id!r}: {error}",)
        raise


_OF_POLICY: Final = ("delay", "is_retried", "max_attempts", "to_dict")
_OF_HANDLER: Final = ("handle", "handler_type", "fallback_value")


def _policy(value: Any) -> Any:
    if isinstance(value, type) or not all(hasattr(value, name) for name in _OF_POLICY):
        raise TypeError(f"retry_policy must be a RetryPolicy(…), not {value!r:.80}")
    return value


def _handler(value: Any) -> Any:
    if isinstance(value, type) or not all(hasattr(value, name) for name in _OF_HANDLER):
        raise TypeError(f"error_handler must be an ErrorHandler(…), not {value!r:.80}")
    return value


def _resources(value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Collection):
        raise TypeError(f"required_resources must be a list of names, not {value!r:.80}")
    for name in value:
        if not isinstance(name, str) or not name:
            raise TypeError(f"required_resources must be names, not {name!r:.80}")
    names = sorted(value) if isinstance(value, set | frozenset) else value
    return tuple(dict.fromkeys(names))


def _condition(value: Any) -> Any:
    if not callable(value):
        raise TypeError(f"condition must be a function of the inputs, not {value!r:.80}")
    return value


def _description(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"description must be a text, not {value!r:.80}")
    return value


_CHECKS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "timeout": partial(seconds, "timeout"),
    "max_concurrent_tasks": partial(whole, "max_concurrent_tasks"),
    "retry_policy": _policy,
    "error_handler": _handler,
    "required_resources": _resources,
    "condition": _condition,
    "description": _description,
}
