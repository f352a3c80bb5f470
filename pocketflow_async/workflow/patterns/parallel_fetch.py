"""The pattern of a node that does several things at once, each with a limit of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pocketflow_async.arguments import seconds, yes_or_no
from pocketflow_async.workflow.patterns.adding import add_pattern, pattern_spec
from pocketflow_async.workflow.patterns.parallel_fetch_work import ParallelFetchWork
from pocketflow_async.workflow.spec import NodeSpec


def parallel_fetch(
    builder: Any,
    node_id: str,
    fetch_operations: Mapping[str, str | Callable[..., Any]],
    *,
    timeout_per_operation: float | None = 10.0,
    continue_on_error: bool = True,
    description: str | None = None,
    **options: Any,
) -> str:
    """Add a node that does several things at once; return its id.

    It yields `successful`, what each has come to by its key; `failed`, the error of each that
    failed by its key, such as `"ConnectionError: no route"`; and `statistics`: `total_operations`,
    `successful_count`, `failed_count` and `success_rate` (0 to 1). Keys are in the order given.

    Each operation gets the inputs of the node, in a task of its own, and fails alone: also when it
    is late. Late code is cancelled; a function that is not asynchronous cannot be, so the node
    waits until it has come back.

    Args:
        builder: What the node is added to.
        node_id: Its id.
        fetch_operations: What is done, by any texts; each as for `add_async_code`.
        timeout_per_operation: Seconds that each may take; None: no limit.
        continue_on_error: Whether the node goes on when one has failed. Otherwise the others are
            cancelled, and it fails: `RuntimeError: 1 operations failed: …`.
        description: For people.
        **options: As for `add_async_code`, but for `timeout`; `max_concurrent_tasks` holds for
            each operation.

    Raises:
        TypeError: Something is of a wrong type, or unknown.
        ValueError: Something is out of range, or there are no operations.
        WorkflowValidationError: The id is taken or cannot be one, or some code is no code; says
            of which operation.
    """
    if "timeout" in options:
        raise TypeError(
            f"node {node_id!r}: parallel_fetch takes no timeout: it is timeout_per_operation"
        )
    try:
        _check(fetch_operations)
        yes_or_no("continue_on_error", continue_on_error)
        if timeout_per_operation is not None:
            seconds("timeout_per_operation", timeout_per_operation)
    except (TypeError, ValueError) as error:
        raise type(error)(f"node {node_id!r}: {error}") from error
    said = {**options, "description": description}
    specs = {key: _spec(node_id, key, code, said) for key, code in fetch_operations.items()}
    works: Any = {key: spec.work for key, spec in specs.items()}
    work = ParallelFetchWork(works, timeout_per_operation, continue_on_error)
    return add_pattern(builder, next(iter(specs.values())), work)


def _check(operations: Any) -> None:
    if not isinstance(operations, Mapping):
        raise TypeError(f"fetch_operations must be a dict, not {operations!r:.80}")
    if not operations:
        raise ValueError("fetch_operations must not be empty")
    for key in operations:
        if not isinstance(key, str):
            raise TypeError(f"the keys of fetch_operations must be texts, not {key!r:.80}")


def _spec(node_id: str, key: str, code: str | Callable[..., Any], said: dict[str, Any]) -> NodeSpec:
    """Return the node that one operation would be by itself."""
    try:
        return pattern_spec(node_id, code, said)
    except (TypeError, ValueError) as error:
        problems = error.args or (str(error),)
        raise type(error)(*(f"operation {key!r}: {each}" for each in problems)) from error
