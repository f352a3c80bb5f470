"""The pattern of two nodes, of which the second stands in where the first is late or fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pocketflow_async.arguments import seconds
from pocketflow_async.workflow.patterns.adding import add_pattern, check_new_ids, pattern_spec
from pocketflow_async.workflow.patterns.timeout_with_fallback_work import (
    PRIMARY_RESULT,
    FallbackWork,
    PrimaryWork,
)
from pocketflow_async.workflow.ports import RESULT


def timeout_with_fallback(
    builder: Any,
    primary_id: str,
    fallback_id: str,
    primary_code: str | Callable[..., Any],
    fallback_code: str | Callable[..., Any],
    *,
    timeout_seconds: float = 5.0,
    description: str | None = None,
    **options: Any,
) -> str:
    """Add a node, and another that stands in where it is late or fails; return the other's id.

    The fallback node has the outcome in any case. It yields what the primary does, unless that
    took too long or failed; then its own code runs, with `primary_result` among its inputs.

    - A dict of the code has `_source` too, `"primary"` or `"fallback"`; anything else, None and
      other values that count as false as well, is `{"value": …, "_source": …}`.
    - What the fallback yields has `_primary_timeout` (bool) and `_primary_error` (the words of the
      error; None after a timeout).
    - What the primary yields is `{"_timeout": True, "_source": "timeout", "_timeout_seconds": …}`
      when it was late, and when it failed `{"_error": True, "_source": "error",
      "_error_message": …, "_error_type": …}`. A TimeoutError of its own is an error.

    Keys of those names in a dict of the code's own stay as they are. Late code is cancelled; a
    function that is not asynchronous cannot be, so the fallback begins once it has come back. The
    primary never fails; if the fallback does, so does its node, and a note says what became of the
    primary. Both get the inputs of the run; what another node yields, connect to each.

    Args:
        builder: What the nodes are added to.
        primary_id: Id of the node that is tried.
        fallback_id: Id of the node that stands in.
        primary_code: What is tried; as for `add_async_code`.
        fallback_code: What stands in.
        timeout_seconds: Seconds that the primary may take.
        description: For people.
        **options: As for `add_async_code`, and for both nodes. But `condition` is for the primary
            alone, without which there is no fallback; `timeout` (30 seconds), `retry_policy` and
            `error_handler` are for the fallback.

    Raises:
        TypeError: Something is of a wrong type, or unknown.
        ValueError: Something is out of range.
        WorkflowValidationError: An id is taken or cannot be one, or the code is no code.
    """
    check_new_ids(builder, primary_id, fallback_id)
    try:
        seconds("timeout_seconds", timeout_seconds)
    except (TypeError, ValueError) as error:
        raise type(error)(f"node {primary_id!r}: {error}") from error
    said = {**options, "description": description}
    primary = pattern_spec(primary_id, primary_code, said)
    fallback = pattern_spec(fallback_id, fallback_code, said)
    first = PrimaryWork(primary.work, timeout_seconds, primary_id)  # type: ignore[arg-type]  # made just now
    second = FallbackWork(fallback.work, first, fallback.timeout)  # type: ignore[arg-type]
    add_pattern(builder, replace(primary, retry_policy=None, error_handler=None), first)
    add_pattern(builder, replace(fallback, condition=None), second)
    builder.add_connection(primary_id, RESULT, fallback_id, PRIMARY_RESULT)
    return fallback_id
