"""What does the work of blocks: functions by category and type.

@handler("actions", "buy")
async def buy(node, inputs, context):
    return {"order": await venue.buy(inputs["amount"], client_id=context.idempotency_key)}
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from pocketflow_async.offloading import offload
from pocketflow_async.resilience.errors import CallTimeoutError

if TYPE_CHECKING:
    from pocketflow_async.workflow.definition import Block, OnRestart, RiskEffect

_CATEGORIES: Final = ("providers", "triggers", "conditions", "actions", "risk")


@dataclass(frozen=True, slots=True)
class BlockContext:
    """What a handler may know of the attempt that it makes.

    Attributes:
        execution_id: The execution, and its correlation id.
        workflow_id: The workflow.
        node_id: The block.
        attempt: Number of the attempt, from 1; it goes on counting after a crash.
        idempotency_key: The same for all attempts of this block in this execution, after a crash
            too: give it to whoever must not do the same thing twice.
        bot_id: For grouping.
        strategy_id: For grouping.
        infra: The infrastructure; None in a base executor.
    """

    execution_id: str
    workflow_id: str
    node_id: str
    attempt: int
    idempotency_key: str
    bot_id: str | None = None
    strategy_id: str | None = None
    infra: Any = None


Handler: TypeAlias = Callable[[dict[str, Any], dict[str, Any], BlockContext], Any]
"""Gets the block as a dict, its inputs by name, and the context; returns its outputs by name.

What is no dict is the value of the only output that the block declares, or of `result`. It may be
asynchronous; a plain function runs in a thread, which cannot be stopped when its time is over.
"""
H = TypeVar("H", bound=Handler)
T = TypeVar("T")

here: ContextVar[BlockContext | None] = ContextVar("pocketflow_block", default=None)
"""The attempt that is being made in this context."""


@dataclass(frozen=True, slots=True)
class BlockWork:
    """A handler, and what is known of it.

    Attributes:
        run: The handler.
        ports: Names of its inputs, for blocks that declare none; they must be there then.
        required: Inputs that must be there in any case.
        optional: Inputs that may be absent, even where a block declares them; None: all.
        outputs: Names of what it yields, in order; empty: that is not known.
        risk_effect: What it does to the risk.
        on_restart: What becomes of it when the process died in it.
        check: Says what is wrong with the names of the inputs that there are, if anything is.
        is_quick: Whether it neither waits nor computes for long: it needs no thread.
        is_mock: Whether it only pretends.
    """

    run: Handler
    ports: tuple[str, ...] = ()
    required: frozenset[str] = frozenset()
    optional: frozenset[str] | None = frozenset()
    outputs: tuple[str, ...] = ()
    risk_effect: RiskEffect | None = None
    on_restart: OnRestart | None = None
    check: Callable[[frozenset[str]], str | None] | None = None
    is_quick: bool = False
    is_mock: bool = False

    def in_place_of(self, other: BlockWork) -> BlockWork:
        """Return this with the ports of *other*, unless it has some of its own."""
        if self.ports or self.outputs or self.optional or other.optional is None:
            return self
        return replace(
            other,
            run=self.run,
            risk_effect=self.risk_effect or other.risk_effect,
            on_restart=self.on_restart or other.on_restart,
            is_quick=self.is_quick,
            is_mock=self.is_mock,
        )

    async def do(
        self, node: dict[str, Any], inputs: dict[str, Any], context: BlockContext
    ) -> dict[str, Any]:
        """Return what the handler yields, by name of the output."""
        if self.is_quick or _is_async(self.run):
            value = self.run(node, inputs, context)
        else:
            value = await offload(self.run, node, inputs, context)
        if inspect.isawaitable(value):
            value = await value
        return self._by_name(value, node)

    def _by_name(self, value: Any, node: Mapping[str, Any]) -> dict[str, Any]:
        declared: list[str] = [
            one if isinstance(one, str) else str(one["name"]) for one in node.get("outputs") or ()
        ]
        if not isinstance(value, Mapping):
            return {declared[0] if len(declared) == 1 else "result": value}
        fresh = frozenset(declared).isdisjoint(self.outputs)
        if fresh and len(declared) == len(self.outputs):  # other names for the same outputs
            names: dict[Any, Any] = dict(zip(self.outputs, declared, strict=True))
            value = {names.get(name, name): one for name, one in value.items()}
        return {**value}

    def inputs_of(self, block: Block) -> tuple[str, ...]:
        """Return the names of all inputs that *block* may have, in order."""
        names = dict.fromkeys((*(block.inputs or self.ports), *block.sources))
        more = dict.fromkeys((*sorted(self.required), *sorted(self.optional or ())))
        return tuple(names | more)

    def needed_by(self, block: Block) -> frozenset[str]:
        """Return the names of the inputs that must be there."""
        wired = frozenset(block.sources)
        if self.optional is None:
            return wired
        names = block.inputs or (() if wired else self.ports)
        return wired | ((frozenset(names) | self.required) - self.optional - block.optional)


class HandlerRegistry:
    """Handlers by category and type, or for all types of a category.

    Args:
        handlers: By category, or by (category, type).
    """

    def __init__(
        self, handlers: Mapping[str | tuple[str, str], Handler | BlockWork] | None = None
    ) -> None:
        self._works: dict[tuple[str, str | None], BlockWork] = {}
        for key, function in (handlers or {}).items():
            category, kind = (key, None) if isinstance(key, str) else key
            self.register(category, kind, function)

    def __repr__(self) -> str:
        return f"<HandlerRegistry: {len(self._works)} handlers>"

    def register(
        self,
        category: str,
        type: str | None,
        function: Handler | BlockWork,
        *,
        ports: Iterable[str] = (),
        optional: Iterable[str] = (),
        outputs: Iterable[str] = (),
        risk_effect: RiskEffect | None = None,
        on_restart: OnRestart | None = None,
    ) -> None:
        """Let *function* do the work of all blocks of a category and type; it replaces another.

        Args:
            category: providers, triggers, conditions, actions or risk.
            type: The type; None: all types of the category that have none of their own.
            function: The handler.
            ports: Names of its inputs, for blocks that declare none. Without them and *outputs*,
                it has those of the built-in type that it takes the place of, if it does.
            optional: Those of them that may be absent.
            outputs: Names of what it yields.
            risk_effect: "increase", "reduce" or "none"; when left out, actions increase the risk,
                but for `cancel` and `notify`.
            on_restart: "rerun", or "reconcile" where doing it twice does harm; that is what
                actions do when it is left out.

        Raises:
            TypeError: It cannot be called.
            ValueError: There is no such category, effect or way to go on.
        """
        _one_of("the category", category, _CATEGORIES)
        _one_of("risk_effect", risk_effect, (None, "none", "increase", "reduce"))
        _one_of("on_restart", on_restart, (None, "rerun", "reconcile"))
        if not isinstance(function, BlockWork):
            if not callable(function):
                raise TypeError(f"a handler is a function, not {function!r:.80}")
            function = BlockWork(
                function,
                tuple(ports),
                optional=frozenset(optional),
                outputs=tuple(outputs),
                risk_effect=risk_effect,
                on_restart=on_restart,
            )
        self._works[category, type] = function

    def unregister(self, category: str, type: str | None = None) -> bool:
        """Forget a handler; return whether there was one."""
        return self._works.pop((category, type), None) is not None

    def find(self, category: str, type: str) -> BlockWork | None:
        """Return what does the work of a type: its own handler, or that of the category."""
        return self._works.get((category, type)) or self._works.get((category, None))


handlers: Final = HandlerRegistry()
"""Those of the whole process, asked after an executor's own and before those that are built in."""

register_handler = handlers.register


def handler(
    category: str,
    type: str | None = None,
    **options: Any,
) -> Callable[[H], H]:
    """Register the decorated function for the whole process; see `HandlerRegistry.register`."""

    def decorate(function: H) -> H:
        handlers.register(category, type, function, **options)
        return function

    return decorate


def _is_async(function: Any) -> bool:
    """Return whether calling *function* only makes something to await."""
    while isinstance(function, partial):
        function = function.func
    call = getattr(type(function), "__call__", None)  # noqa: B004 (of an object that is called)
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)


def _one_of(what: str, value: object, known: tuple[str | None, ...]) -> None:
    if value not in known:
        names = ", ".join(repr(one) for one in known if one is not None)
        raise ValueError(f"{what} is {value!r:.80}; it is one of {names}")


async def within(seconds: float, name: str, call: Callable[[], Awaitable[T]]) -> T:
    """Await a call, which may take only so long.

    Raises:
        CallTimeoutError: It took longer; it has been cancelled.
    """
    try:
        async with asyncio.timeout(seconds) as limit:
            return await call()
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise CallTimeoutError(seconds, f"block {name!r}") from error
