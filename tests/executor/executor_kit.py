"""Workflows in both dialects from one description, an infrastructure, and handlers for tests."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

from pocketflow_async.infrastructure.config import Config
from pocketflow_async.infrastructure.factory import Infrastructure
from pocketflow_async.workflow.enhanced_executor import EnhancedWorkflowExecutor


def block(name, category, type, /, inputs=None, outputs=(), **more):
    """Return a block as the guide writes them, with names of outputs where inputs come from."""
    return {
        "id": name,
        "category": category,
        "type": type,
        "inputs": inputs or {},
        "outputs": list(outputs),
        **more,
    }


def provider(name="price", outputs=("price",), **properties):
    return block(name, "providers", "test", outputs=outputs, properties=properties)


def threshold(name, value, outputs=("pass",), **properties):
    return block(name, "conditions", "threshold", {"value": value}, outputs, properties=properties)


def buy(name, signal, amount=5, type="buy", **more):
    properties = {"amount": amount}
    return block(
        name, "actions", type, {"signal": signal}, ["order"], properties=properties, **more
    )


def trade(price_output="price", **more):
    """Return the workflow that lost money: a price, a threshold and an order."""
    blocks = [
        provider("price", outputs=[price_output]),
        threshold("cheap", f"price.{price_output}", max=0.99),
        buy("order", "cheap.pass"),
    ]
    return {"blocks": blocks, **more}


def connected(workflow):
    """Return a workflow of dotted references as one of ports in lists, and connections."""
    outputs = {one["id"]: list(one["outputs"]) for one in workflow["blocks"]}
    blocks, connections = [], []
    for one in workflow["blocks"]:
        for place, reference in enumerate(one["inputs"].values()):
            source, _, output = reference.rpartition(".")
            start = {"blockId": source, "index": outputs[source].index(output)}
            end = {"blockId": one["id"], "index": place}
            connections.append({"from": start, "to": end})
        inputs = [{"name": name, "type": "any"} for name in one["inputs"]]
        named = [{"name": name, "type": "any"} for name in one["outputs"]]
        blocks.append({**one, "inputs": inputs, "outputs": named, "icon": "x", "x": 10, "y": 20})
    return {**workflow, "blocks": blocks, "connections": connections}


def yields(**output):
    """Return a handler that yields this."""

    async def handler(node, inputs, context):
        return dict(output)

    return handler


def raises(error):
    """Return a handler that raises this."""

    async def handler(node, inputs, context):
        raise error

    return handler


class Calls:
    """A handler that notes its calls, and does what each is to do: yield a dict, or raise."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.inputs = []
        self.contexts = []

    async def __call__(self, node, inputs, context):
        self.inputs.append(inputs)
        self.contexts.append(context)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def __len__(self):
        return len(self.contexts)


class Waiting:
    """A handler that says that it has begun, and waits until it may go on."""

    def __init__(self, **output):
        self.began = asyncio.Event()
        self.go_on = asyncio.Event()
        self.output = output

    async def __call__(self, node, inputs, context):
        self.began.set()
        await self.go_on.wait()
        return self.output


PRICE = ("providers", "test")
BUY = ("actions", "buy")


@asynccontextmanager
async def infrastructure(store=None, **settings):
    """An infrastructure in memory that waits for nothing between attempts."""
    config = Config(
        env="development",
        logging={"configure": False},
        resilience={"retry_min_wait": 0, "retry_max_wait": 0, **settings},
    )
    async with await Infrastructure.create(config=config, store=store) as infra:
        yield infra


def executor(infra, workflow, handlers=None, workflow_id="w", *ids, **options):
    return EnhancedWorkflowExecutor(
        workflow, infra, workflow_id, *ids, handlers=handlers, **options
    )


async def heard(infra):
    """Return a list that each event is added to from now on."""
    events = []
    await infra.events.subscribe("workflow_events", events.append)
    return events


def types(events):
    return [event["type"] for event in events]


# --- the twelve templates -------------------------------------------------------------------------


def _venue(name, type, *outputs):
    return block(name, "providers", type, outputs=outputs or ("price",))


def _logic(name, type, inputs, outputs, **properties):
    return block(name, "conditions", type, inputs, outputs, properties=properties)


def _told(name, signal, text="look"):
    properties = {"message": text}
    return block(name, "actions", "notify", {"signal": signal}, ["sent"], properties=properties)


def _simple_buy():
    return [
        _venue("provider_1", "polymarket"),
        threshold("condition_1", "provider_1.price", min=0.1, max=0.99),
        buy("action_1", "condition_1.pass"),
    ]


def _take_profit():
    return [
        _venue("provider_1", "binance"),
        threshold("condition_1", "provider_1.price", min=0.9),
        buy("action_1", "condition_1.pass", 2.5, "sell"),
    ]


def _arbitrage():
    return [
        buy("execute_trade", "check_threshold.pass", 100),  # before what it needs, on purpose
        threshold("check_threshold", "spread.result", min=0.01),
        _logic(
            "spread",
            "math",
            {"value1": "polymarket_yes.price", "value2": "kalshi_no.price"},
            ["result"],
            operation="subtract",
        ),
        _venue("polymarket_yes", "polymarket"),
        _venue("kalshi_no", "kalshi"),
    ]


def _compared():
    inputs = {"value1": "price_luno.price", "value2": "price_binance.price"}
    return [
        _venue("price_luno", "luno"),
        _venue("price_binance", "binance"),
        _logic("cheaper", "compare", inputs, ["result"], operator="<"),
        buy("buy_luno", "cheaper.result"),
    ]


def _both():
    return [
        _venue("a", "coinbase"),
        _venue("b", "kraken"),
        threshold("low_a", "a.price", max=0.5),
        threshold("low_b", "b.price", max=0.7),
        _logic("both", "and", {"input1": "low_a.pass", "input2": "low_b.pass"}, ["output"]),
        buy("trade", "both.output"),
    ]


def _one_of_them():
    return [
        _venue("a", "coinbase"),
        _venue("b", "kraken"),
        threshold("low_a", "a.price", max=0.1),
        threshold("low_b", "b.price", max=0.7),
        _logic("any", "or", {"input1": "low_a.pass", "input2": "low_b.pass"}, ["output"]),
        buy("trade", "any.output"),
    ]


def _branch():
    return [
        _venue("p", "bybit"),
        threshold("high", "p.price", min=0.5),
        _logic("which", "if", {"condition": "high.pass"}, ["true", "false"]),
        buy("sell_it", "which.true", 1, "sell"),
        buy("buy_it", "which.false", 1),
    ]


def _stop_loss():
    return [
        _venue("p", "dydx"),
        threshold("fallen", "p.price", max=0.6),
        block("cancel_all", "actions", "cancel", {"signal": "fallen.pass"}, ["done"]),
        _told("tell", "cancel_all.done", "orders cancelled"),
    ]


def _alarm():
    return [
        _venue("p", "market_data", "price", "volume"),
        threshold("busy", "p.volume", min=1000),
        _told("tell", "busy.pass"),
    ]


def _triggered():
    return [
        block("tick", "triggers", "schedule", outputs=["signal"]),
        block("guard", "risk", "stop_loss", outputs=["trigger"]),
        _logic("calm", "if", {"condition": "guard.trigger"}, ["true", "false"]),
        _logic("go", "and", {"input1": "tick.signal", "input2": "calm.false"}, ["output"]),
        buy("trade", "go.output"),
    ]


def _averaged():
    inputs = {"value1": "x.price", "value2": "y.price", "value3": "z.price"}
    return [
        _venue("x", "binance"),
        _venue("y", "coinbase"),
        _venue("z", "kraken"),
        _logic("mean", "math", inputs, ["result"], operation="average"),
        threshold("cheap", "mean.result", max=0.65),
        buy("trade", "cheap.pass"),
        _told("tell", "cheap.pass"),
    ]


def _pairs():
    blocks = []
    for pair in ("BTC", "ETH", "SOL"):
        low = pair.lower()
        blocks += [
            provider(f"price_{low}", pair=pair),
            threshold(f"check_{low}", f"price_{low}.price", max=0.9),
            buy(f"trade_{low}", f"check_{low}.pass"),
        ]
    return blocks


TEMPLATES = {
    make.__name__.strip("_"): {"name": make.__name__.strip("_"), "blocks": make()}
    for make in (
        *(_simple_buy, _take_profit, _arbitrage, _compared, _both, _one_of_them, _branch),
        *(_stop_loss, _alarm, _triggered, _averaged, _pairs),
    )
}

PRICES = {
    "polymarket": 0.62,
    "kalshi": 0.6,
    "binance": 0.95,
    "luno": 0.94,
    "coinbase": 0.45,
    "kraken": 0.55,
    "bybit": 0.4,
    "dydx": 0.5,
    "market_data": 0.7,
    "test": 0.8,
}


async def venue(node, inputs, context):
    """Yield a price by type, and a volume."""
    return {"price": PRICES[node["type"]], "volume": 5000}


VENUES = {"providers": venue}


def bare(result):
    """Return a result without what differs from one execution to the next."""
    found = {key: result[key] for key in ("status", "errors", "skipped")}
    results = [
        {key: one[key] for key in ("nodeId", "nodeName", "nodeType")} for one in result["results"]
    ]
    return {**found, "results": results, "outputs": _without_ids(result["outputs"])}


def _without_ids(value):
    if isinstance(value, dict):
        return {key: _without_ids(one) for key, one in value.items() if key != "client_order_id"}
    return value
