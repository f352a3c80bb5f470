"""The other blocks that are built in. They are mocks: they say what would be done, and do nothing.

A handler of one's own takes the place of each. Providers of a known type that have no profile yield
nothing, as they are not connected to anything; whatever needs a price of theirs does not run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pocketflow_async.workflow.blocks_logic import CONDITIONS, number, truth
from pocketflow_async.workflow.node_handlers import BlockWork, HandlerRegistry

PROVIDERS: Final = frozenset(
    {"polymarket", "luno", "kalshi", "binance", "coinbase", "bybit", "kraken", "dydx"}
    | {"price_feed", "market_data", "api_call", "test"}
)
"""Types of providers that a block may have without a handler, as long as it has no profile."""


def _order(node: Mapping[str, Any], inputs: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """Say which order would be placed, if the signal is true."""
    amount = number("amount", inputs["amount"])
    if amount <= 0:
        raise ValueError(f"the input 'amount' is {amount}; an order is for more than 0")
    if not truth("signal", inputs["signal"]):
        return {"order": None}
    order = {"side": node["type"], "amount": amount, "status": "mock", "mock": True}
    return {"order": {**order, "client_order_id": context.idempotency_key}}


def _cancel(node: Any, inputs: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """Say whether something would be cancelled."""
    return {"done": truth("signal", inputs["signal"]), "mock": True}


def _notify(node: Any, inputs: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """Say whether somebody would be told."""
    return {"sent": truth("signal", inputs["signal"]), "mock": True}


def _always(node: Any, inputs: Any, context: Any) -> dict[str, Any]:
    return {"signal": True, "mock": True}


def _never(node: Any, inputs: Any, context: Any) -> dict[str, Any]:
    return {"trigger": False, "mock": True}


def _unconnected(node: Any, inputs: Any, context: Any) -> dict[str, Any]:
    return {}


_TRADE: Final = BlockWork(
    _order,
    ("signal", "amount"),
    required=frozenset({"signal", "amount"}),
    outputs=("order",),
    risk_effect="increase",
    is_quick=True,
    is_mock=True,
)


def _told(run: Any, output: str, *more: str) -> BlockWork:
    """Return a mock that does something if its signal is true, and nothing to the risk."""
    return BlockWork(
        run,
        ("signal", *more),
        required=frozenset({"signal"}),
        optional=frozenset(more),
        outputs=(output,),
        risk_effect="none",
        is_quick=True,
        is_mock=True,
    )


def _built_in() -> HandlerRegistry:
    registry = HandlerRegistry()
    for name, work in CONDITIONS.items():
        registry.register("conditions", name, work)
    for name in PROVIDERS:
        unconnected = BlockWork(_unconnected, optional=None, is_quick=True, is_mock=True)
        registry.register("providers", name, unconnected)
    registry.register("actions", "buy", _TRADE)
    registry.register("actions", "sell", _TRADE)
    registry.register("actions", "cancel", _told(_cancel, "done"))
    registry.register("actions", "notify", _told(_notify, "sent", "message"))
    for category, run, output in (("triggers", _always, "signal"), ("risk", _never, "trigger")):
        work = BlockWork(run, optional=None, outputs=(output,), is_quick=True, is_mock=True)
        registry.register(category, None, work)
    return registry


BUILT_IN: Final = _built_in()
