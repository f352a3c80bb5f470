"""The pattern of a node that collects items over runs and processes many at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pocketflow_async.workflow.code_work import CodeWork
from pocketflow_async.workflow.patterns.adding import add_pattern, pattern_spec
from pocketflow_async.workflow.patterns.batch_processor_work import RESULTS, BatchWork


def batch_processor(
    builder: Any,
    node_id: str,
    code: str | Callable[..., Any],
    *,
    batch_size: int = 100,
    flush_interval: float | None = 5.0,
    description: str | None = None,
    **options: Any,
) -> str:
    """Add a node that collects items over all runs and processes many at once; return its id.

    Its input `items` has the items of a run: a list, a tuple, or one item alone; None or nothing
    adds none. The code finds one batch in `items` and leaves its results in `batch_results` (or
    else in `result`, or returns them). A run processes all batches that are full by then; those
    whose oldest item is too old; and with the input `force_flush` all there is. It yields, of the
    batches that it has processed itself, of whichever runs their items are:

    - `processed_count`: how many items;
    - `results`: what the code left, one batch after the other;
    - `remaining_in_batch`: how many items wait;
    - `flush_reason`: "batch_full", "time_based", "forced" (of the last batch), or None;
    - `next_flush_in`: seconds until the oldest item that waits is processed in any case.

    What waits is also processed when no run comes any more: when it is old enough, at the end of
    the event loop (that is, of each `asyncio.run` and of each `LocalRuntime.execute`), and in the
    `cleanup` of the runtime, with the other inputs of the run that came last. The results are in
    `workflow.nodes[node_id].work.late_results`, those of the last 1000 batches; `work.statistics()`
    tells how many items wait. Of the same work are `flush`, `aclose` and `reset`, which forgets
    what waits.

    When the code fails, so does the run that processed the batch. The items are kept together, and
    tried again after the interval, or with the next `force_flush`; so they may be processed in part
    twice, but are never lost while the process lives. It is the same when a run is cancelled, but
    for the delay. A `retry_policy` tries the same batch again and adds nothing twice.

    Args:
        builder: What the node is added to.
        node_id: Its id.
        code: What is done with a batch; as for `add_async_code`.
        batch_size: Most items of a batch.
        flush_interval: Most seconds that an item waits; None: until there are enough, or somebody
            says so.
        description: For people.
        **options: As for `add_async_code`; `timeout` (30 seconds) is that of one batch.

    Raises:
        TypeError: Something is of a wrong type, or unknown.
        ValueError: Something is out of range.
        WorkflowValidationError: The id is taken or cannot be one, or the code is no code.
    """
    spec = pattern_spec(node_id, code, {**options, "description": description})
    try:
        work = BatchWork(spec.work, batch_size, flush_interval, spec.timeout)  # type: ignore[arg-type]  # made just now
    except (TypeError, ValueError) as error:
        said = str(error).replace("size must", "batch_size must")
        said = said.replace("interval must", "flush_interval must")
        raise type(error)(f"node {node_id!r}: {said}") from error
    if isinstance(spec.work, CodeWork):
        spec.work.compiled.leave_in(RESULTS)
    return add_pattern(builder, spec, work)
