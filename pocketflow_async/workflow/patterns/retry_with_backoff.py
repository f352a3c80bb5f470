"""The pattern of a node that is tried again when it has failed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from pocketflow_async.workflow.patterns.adding import add_pattern, pattern_spec
from pocketflow_async.workflow.patterns.retried_work import JitteredPolicy, RetriedWork
from pocketflow_async.workflow.retrying import ErrorName


def retry_with_backoff(
    builder: Any,
    node_id: str,
    code: str | Callable[..., Any],
    *,
    max_retries: int = 3,
    initial_backoff: float = 1.0,
    backoff_factor: float = 2.0,
    max_backoff: float = 60.0,
    retry_on: Iterable[ErrorName] | ErrorName | None = None,
    description: str | None = None,
    **options: Any,
) -> str:
    """Add a node that is tried again when it has failed; return its id.

    It yields the dict that the code does, with `success` (True), `attempts` (of each: attempt,
    success, duration in seconds, error, error_type) and `total_attempts`; keys of those names
    in the code's own dict stay as they are. Anything else but None is under `value`. When the
    last attempt has failed, so has the node: `RuntimeError: Operation failed after 3 attempts:
    …`. An error that is not to be retried comes as it is.

    Args:
        builder: What the node is added to.
        node_id: Its id.
        code: What is tried; as for `add_async_code`.
        max_retries: Most attempts in all, the first included.
        initial_backoff: Seconds after the first failed attempt. Up to as many again are added
            to each delay by chance, so that not all callers come back at once.
        backoff_factor: What the delay is multiplied by from one attempt to the next.
        max_backoff: Most seconds of any delay.
        retry_on: Errors worth another attempt, classes or names such as `"TimeoutError"` and
            `"aiohttp.ClientError"`; None: all.
        description: For people.
        **options: As for `add_async_code`; `timeout` (30 seconds) is that of one attempt.

    Raises:
        TypeError: Something is of a wrong type, or unknown.
        ValueError: Something is out of range.
        WorkflowValidationError: The id is taken or cannot be one, or the code is no code.
    """
    if "retry_policy" in options:
        raise TypeError(f"node {node_id!r}: retry_with_backoff takes no retry_policy: it is one")
    try:
        policy = JitteredPolicy(
            max_retries=max_retries,
            base_delay=initial_backoff,
            backoff_factor=backoff_factor,
            max_delay=max_backoff,
            retry_on=retry_on,
        )
    except (TypeError, ValueError) as error:
        said = str(error).replace("base_delay", "initial_backoff")
        said = said.replace("max_delay", "max_backoff")
        raise type(error)(f"node {node_id!r}: {said}") from error
    spec = pattern_spec(
        node_id, code, {**options, "description": description, "retry_policy": policy}
    )
    return add_pattern(builder, spec, RetriedWork(spec.work, policy, spec.timeout))  # type: ignore[arg-type]  # made just now
