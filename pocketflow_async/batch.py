"""Batch nodes: exec once for every item that prep returns."""

from __future__ import annotations

from collections.abc import AsyncIterable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, ClassVar

from pocketflow_async._typing import Executed, Generic, Posted, Prepared
from pocketflow_async.attempts import own_attempts
from pocketflow_async.defaults import PLAIN
from pocketflow_async.hooks import Hooks, Step, active
from pocketflow_async.nodes import AsyncNode, Node, name_of
from pocketflow_async.scatter import closable, scatter

if TYPE_CHECKING:
    from typing import Unpack

    from pocketflow_async.options import ParallelKeywords

# In this module `Prepared` is the type of an item and `Executed` that of its result.


def entries(prepared: Any) -> Any:
    """Return what there is to go through: `prepared`, or an empty list if it is None or falsy.

    Arrays have no truth value of their own; they count as something.
    """
    if prepared is None:
        return ()
    try:
        return prepared or ()
    except ValueError:
        return prepared


class BatchNode(Node[Any, Any, Posted], Generic[Prepared, Executed, Posted]):
    """A node whose prep returns an iterable and whose exec handles one item of it.

    Retries, waits, `cur_retry` and the fallback are per item. post gets what prep returned and the
    list of results.
    """

    if TYPE_CHECKING:  # the types of one item, for those who write one

        def exec(self, prep_res: Prepared) -> Executed: ...
        def post(self, shared: Any, prep_res: Any, exec_res: list[Executed]) -> Posted: ...

    def _exec(self, items: Any) -> list[Any]:
        one = super()._exec
        hooks = active()
        if hooks is None:
            return [one(item) for item in entries(items)]
        return [
            _watched_item(self, one, hooks, index, item)
            for index, item in enumerate(entries(items))
        ]


def _watched_item(node: Any, one: Any, hooks: Hooks, index: int, item: Any) -> Any:
    step = Step("item", name_of(node), node, item, hooks)
    step.index = index
    with step:
        step.result = result = one(item)
    return result


async def _watched_item_async(node: Any, one: Any, hooks: Hooks, index: int, item: Any) -> Any:
    step = Step("item", name_of(node), node, item, hooks)
    step.index = index
    with step:
        step.result = result = await one(item)
    return result


class AsyncBatchNode(
    AsyncNode[Any, Any, Posted],
    BatchNode[Prepared, Executed, Posted],
    Generic[Prepared, Executed, Posted],
):
    """An asynchronous batch node that handles its items one after the other.

    `prep_async` may return any iterable or async iterable.
    """

    if TYPE_CHECKING:

        async def exec_async(self, prep_res: Prepared) -> Executed: ...
        async def post_async(
            self, shared: Any, prep_res: Any, exec_res: list[Executed]
        ) -> Posted: ...

    async def _exec(self, items: Any) -> list[Any]:  # type: ignore[override]
        one = super()._exec
        hooks = active()
        if isinstance(items, AsyncIterable):
            results: list[Any] = []
            async with aclosing(closable(items)) as source:
                async for item in source:
                    results.append(await self._pf_item(one, hooks, len(results), item))
            return results
        if hooks is None:
            return [await one(item) for item in entries(items)]
        return [
            await self._pf_item(one, hooks, index, item)
            for index, item in enumerate(entries(items))
        ]

    async def _pf_item(self, one: Any, hooks: Hooks | None, index: int, item: Any) -> Any:
        if hooks is None:
            return await one(item)
        return await _watched_item_async(self, one, hooks, index, item)


class AsyncParallelBatchNode(
    AsyncNode[Any, Any, Posted],
    BatchNode[Prepared, Executed, Posted],
    Generic[Prepared, Executed, Posted],
):
    """An asynchronous batch node that handles its items at once.

    When an item fails for good, the others are cancelled and awaited before its error is raised.
    All items share one `self`; `cur_retry` is each item's own.

    Args:
        max_retries: Total number of attempts at each item.
        wait: Seconds between them.
        concurrency: How many items may be at work at once; None: all. `prep_async` may return a
            generator or async generator: it is read only as far as there is room, so memory does
            not grow with its length but for the list of results.
        on_error: "raise", or "collect" to put the exception in the item's place and go on.
        **given: The other options of `AsyncNode`, per item.
    """

    _pf_keywords: ClassVar[str] = "ParallelKeywords"

    if TYPE_CHECKING:

        def __init__(
            self, max_retries: int = 1, wait: float = 0, **given: Unpack[ParallelKeywords]
        ) -> None: ...
        async def exec_async(self, prep_res: Prepared) -> Executed: ...
        async def post_async(
            self, shared: Any, prep_res: Any, exec_res: list[Executed]
        ) -> Posted: ...

    async def _exec(self, items: Any) -> list[Any]:  # type: ignore[override]
        one = super()._exec
        hooks = active()
        chosen = self._pf_options or PLAIN

        async def watched_one(index: int, item: Any) -> Any:
            assert hooks is not None
            return await _watched_item_async(self, one, hooks, index, item)

        def plain_one(_: int, item: Any) -> Any:
            return one(item)

        call = plain_one if hooks is None else watched_one
        with own_attempts(self):  # all items share this object
            return await scatter(call, entries(items), chosen.concurrency, chosen.on_error)
