"""Maps, scatters and gathers as the work of nodes."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from pocketflow_async.arguments import seconds, text, whole, yes_or_no
from pocketflow_async.clock import clock
from pocketflow_async.workflow.function_work import Needs, name_of_function, needs_of
from pocketflow_async.workflow.parallel_map import check_items, run_map
from pocketflow_async.workflow.spec import Context, Port, Ports

ItemFunction: TypeAlias = Callable[[Any], Any]
"""What is done with one item."""

Maker: TypeAlias = Callable[[Mapping[str, Any], Context], Awaitable[ItemFunction]]
"""Makes, for one run, the function for an item out of the inputs of the node."""


@dataclass(frozen=True, slots=True)
class MapOptions:
    """How a map goes over its items; see `run_map`.

    Attributes:
        input_field: Name of the input with the items.
        output_field: Key of the results.
        max_workers: How many items may be at work at once.
        batch_size: Items in a batch; None: no batches.
        timeout_per_item: Seconds that an item may take; None: no limit.
        continue_on_error: Whether to go on when an item has failed.
        fail_fast: If it does not go on: whether to stop at the first failure.
        keep_results: Whether to keep the results.
    """

    input_field: str = "items"
    output_field: str = "results"
    max_workers: int = 10
    batch_size: int | None = None
    timeout_per_item: float | None = 5
    continue_on_error: bool = False
    fail_fast: bool = True
    keep_results: bool = True

    def __post_init__(self) -> None:
        for name in ("input_field", "output_field"):
            text(name, getattr(self, name))
        if self.output_field in ("statistics", "errors"):
            raise ValueError(f"output_field must not be {self.output_field!r}: a map has that too")
        whole("max_workers", self.max_workers)
        if self.batch_size is not None:
            whole("batch_size", self.batch_size)
        if self.timeout_per_item is not None:
            seconds("timeout_per_item", self.timeout_per_item)
        for name in ("continue_on_error", "fail_fast", "keep_results"):
            yes_or_no(name, getattr(self, name))


class MapWork:
    """A function over the items of an input, as the work of a node.

    Args:
        make: Makes the function for an item, once a run.
        options: How to go over the items.
        inputs: What the function needs besides the items.
        name: What the items' steps are called when somebody watches; None: as the node.
    """

    is_async = True

    def __init__(
        self,
        make: Maker,
        options: MapOptions,
        inputs: Ports = Ports(),  # noqa: B008 (it is frozen)
        name: str | None = None,
    ) -> None:
        self.options = options
        self._make = make
        self._inputs = inputs
        self._name = name

    def __repr__(self) -> str:
        return f"<MapWork {self._name or ''} {self.options}>"

    @property
    def inputs(self) -> Ports:
        """The items, and what the function needs besides them."""
        field = self.options.input_field
        return Ports({**self._inputs.known, field: Port(field)}, open=self._inputs.open)

    @property
    def outputs(self) -> Ports:
        """The results, the statistics and the errors."""
        return map_outputs(self.options.output_field)

    async def run(self, inputs: Mapping[str, Any], context: Context) -> dict[str, Any]:
        """Go over the items.

        Raises:
            ValueError: The items are not there, or nothing to go over.
            ItemsFailedError: An item failed, and the map is not to go on.
        """
        options = self.options
        field = options.input_field
        if field not in inputs:
            raise ValueError(f"Input field {field!r} not found. Available: {list(inputs)}")
        items = check_items(inputs[field], field)
        return await run_map(
            await self._make(inputs, context),
            items,
            max_workers=options.max_workers,
            batch_size=options.batch_size,
            timeout_per_item=options.timeout_per_item,
            continue_on_error=options.continue_on_error,
            fail_fast=options.fail_fast,
            keep_results=options.keep_results,
            output_field=options.output_field,
            name=self._name or context.node_id,
            clock=clock().monotonic,
        )


def map_outputs(field: str) -> Ports:
    """Return what a map with the output field *field* yields."""
    kinds: dict[str, Any] = {field: list, "statistics": dict, "errors": list}
    return Ports({name: Port(name, kind) for name, kind in kinds.items()}, open=False)


class OfFunction:
    """Makes the function for an item of one that takes the item first.

    Its other parameters get the inputs of the node that have their names.

    Args:
        function: Synchronous or asynchronous.

    Raises:
        TypeError: It cannot take an item.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        if not callable(function):
            raise TypeError(f"a function or a code string is needed, not {function!r:.80}")
        self.function = function
        self._name = f"{name_of_function(function)}()"
        self._rest = self._without_item(needs_of(function))

    def _without_item(self, needs: Needs) -> Needs:
        """Return what the function needs besides the item."""
        names = needs.names()
        item = next(iter((*needs.required, *needs.optional)), None)
        if item is None and not _takes_anything(self.function):
            raise TypeError(f"{self._name} must take an item: def process_item(item): …")
        others = [name for name in needs.first if name != item]
        if any(name in needs.required for name in others):
            raise TypeError(f"{self._name} takes more than the item by position only")
        kept = [name for name in names if name != item and name not in others]
        return Needs(
            required=tuple(name for name in kept if name in needs.required),
            optional=tuple(name for name in kept if name in needs.optional),
            context=needs.context,
            anything=False,
            hints=needs.hints,
        )

    @property
    def inputs(self) -> Ports:
        """What it needs besides the item."""
        rest, hints = self._rest, self._rest.hints or {}
        known = {name: Port(name, hints.get(name), name in rest.required) for name in rest.names()}
        return Ports(known, open=False)

    async def __call__(self, inputs: Mapping[str, Any], context: Context) -> ItemFunction:
        """Return the function, given what it needs besides the item."""
        _, named = self._rest.bind(inputs, context, self._name)
        return functools.partial(self.function, **named) if named else self.function


def _takes_anything(function: Callable[..., Any]) -> bool:
    import inspect  # noqa: PLC0415 (once for each function with no parameter of its own)

    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return True
    return any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters)
