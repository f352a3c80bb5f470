"""The pattern of three nodes that look into a cache, fetch what is not there, and keep it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pocketflow_async.arguments import seconds, text
from pocketflow_async.workflow.patterns.adding import add_pattern, check_new_ids, pattern_spec
from pocketflow_async.workflow.patterns.cache_aside_key import CacheKey
from pocketflow_async.workflow.patterns.cache_aside_work import (
    CACHE_RESULT,
    FETCH_DATA,
    Aside,
    CheckWork,
    FetchWork,
    StoreWork,
)
from pocketflow_async.workflow.ports import RESULT


def cache_aside(
    builder: Any,
    check_id: str,
    fetch_id: str,
    store_id: str,
    fetch_code: str | Callable[..., Any],
    *,
    cache_resource: str = "cache",
    cache_key_template: str | Callable[..., Any] = "key_{item_id}",
    ttl_seconds: float | None = 3600,
    cache_timeout: float | None = 5.0,
    description: str | None = None,
    **options: Any,
) -> str:
    """Add three nodes that fetch something only if it is not in a cache; return the last one's id.

    - The check looks into the cache: `{found_in_cache, cache_key, data}`.
    - The fetch runs the code if nothing was found: `{needs_caching, cache_key, data}`. Its inputs
      are its own and those of the check, so connect what they need to the check.
    - The store says what became of it: `{data, cached, cache_key, ttl}` of a value that was
      fetched, `{data, cached: False, cache_key, from_cache: True}` of one that was there.

    Runs that miss the same key at the same time share one fetch, which keeps its value before they
    go on: however many there are, the code runs once per key. It runs with the inputs and in the
    context of the run that came first; if that is cancelled it goes on for the others. The waiting
    takes up no slot of the runtime. An error goes to all of them, and is not kept.

    Values are kept as JSON, and `data` is what the cache would give, also when it was fetched just
    now: None, 0 and "" are values, a tuple is a list. What is no JSON is passed on and not kept.
    When the cache fails the code runs, and check and store have `cache_error`. Counts are in
    `workflow.nodes[fetch_id].work.statistics()`.

    Args:
        builder: What the nodes are added to.
        check_id: Id of the node that looks.
        fetch_id: Id of the node that fetches.
        store_id: Id of the node that says what became of it, and has `data` in any case.
        fetch_code: What fetches, its value in `result`; as for `add_async_code`.
        cache_resource: Name of the resource that is the cache: any object with `get`, and `set` or
            `setex`.
        cache_key_template: The key, with inputs of the check as in `"{user}:{order.id}"`; or a
            function that is called with those inputs that it has parameters for.
        ttl_seconds: How long values are kept; None: as long as the cache likes.
        cache_timeout: Seconds that one operation of the cache may take; None: any number.
        description: For people.
        **options: For the fetch, as for `add_async_code`; `timeout` (30 seconds) is that of the
            code, without the waiting.

    Raises:
        TypeError: Something is of a wrong type, or unknown.
        ValueError: Something is out of range, or the template is none.
        WorkflowValidationError: An id is taken or cannot be one, or the code is no code.
    """
    check_new_ids(builder, check_id, fetch_id, store_id)
    try:
        text("cache_resource", cache_resource)
        key = CacheKey(cache_key_template)
        for name, value in (("ttl_seconds", ttl_seconds), ("cache_timeout", cache_timeout)):
            if value is not None:
                seconds(name, value)
    except (TypeError, ValueError) as error:
        raise type(error)(f"node {check_id!r}: {error}") from error
    spec = pattern_spec(fetch_id, fetch_code, {**options, "description": description})
    resources = tuple(dict.fromkeys((cache_resource, *spec.required_resources)))
    aside = Aside(fetch_id, cache_resource, key, ttl_seconds, cache_timeout)
    fetch = FetchWork(spec.work, aside, spec.timeout)  # type: ignore[arg-type]  # made just now
    said = {"required_resources": [cache_resource], "description": description}
    builder.add_node(CheckWork(aside, fetch.taken), check_id, **said)
    add_pattern(builder, replace(spec, required_resources=resources), fetch)
    builder.add_node(StoreWork(aside), store_id, **said)
    builder.add_connection(check_id, RESULT, fetch_id, CACHE_RESULT)
    builder.add_connection(fetch_id, RESULT, store_id, FETCH_DATA)
    return store_id
