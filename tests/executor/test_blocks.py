"""The blocks that are built in, and handlers of one's own."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
from decimal import Decimal

import pytest

from pocketflow_async.workflow.executor import (
    BlockContext,
    HandlerRegistry,
    WorkflowExecutor,
    handler,
    handlers,
    register_handler,
)
from tests.executor.executor_kit import (
    BUY,
    PRICE,
    block,
    buy,
    provider,
    raises,
    threshold,
    yields,
)


async def run_block(category, type, _inputs, outputs=(), **properties):
    """Execute one block whose inputs come from a provider; return its output, or its error."""
    blocks = [
        provider("source", []),
        block(
            "it",
            category,
            type,
            {name: f"source.{name}" for name in _inputs},
            outputs,
            properties=properties,
        ),
    ]
    executor = WorkflowExecutor({"blocks": blocks}, handlers={PRICE: yields(**_inputs)})
    result = await executor.execute()
    return result["outputs"].get("it") or result["errors"][0]


async def condition(type, inputs, **properties):
    return await run_block("conditions", type, inputs, **properties)


@pytest.mark.parametrize(
    ("value", "bounds", "passes"),
    [
        (0.5, {"max": 0.99}, True),
        (123456, {"max": 0.99}, False),
        (0.99, {"max": 0.99}, True),
        (0.1, {"min": 0.2, "max": 0.99}, False),
        (0.2, {"min": 0.2}, True),
        (0, {"min": -1}, True),
        (-2, {"min": -1, "max": 0}, False),
    ],
)
async def test_threshold(value, bounds, passes):
    """Defect 2: bounds in `properties` count, both included; 123456 does not pass "<0.99"."""
    assert await condition("threshold", {"value": value}, **bounds) == {"pass": passes}


@pytest.mark.parametrize("value", [None, "0.5", True, [], {"price": 0.5}])
async def test_what_is_no_number_passes_no_threshold(value):
    """It is an error of the block: nothing is read as 0."""
    found = await condition("threshold", {"value": value}, max=1)

    assert found["error_type"] == "TypeError"
    assert found["error"].startswith("the input 'value' must be a number, not ")


async def test_bounds_may_be_connected():
    """A bound that comes from another block goes before the one in properties."""
    found = await condition("threshold", {"value": 5, "max": 4}, max=10)

    assert found == {"pass": False}


@pytest.mark.parametrize("bound", ["0.99", True, []])
async def test_bounds_are_numbers(bound):
    """A text in a form's field is no bound that could be ignored."""
    assert (await condition("threshold", {"value": 0.5}, max=bound))["error_type"] == "TypeError"


@pytest.mark.parametrize(
    ("one", "sign", "other", "result"),
    [
        *[(1, sign, 2, True) for sign in ("<", "lt", "<=", "lte", "!=", "ne")],
        *[(1, sign, 2, False) for sign in (">", "gt", ">=", "gte", "==", "eq")],
        *[(2.0, sign, 2, True) for sign in ("<=", ">=", "==", "=", "le", "ge")],
        ("BTC", "==", "BTC", True),
        ("BTC", "!=", "ETH", True),
        (True, "==", True, True),
    ],
)
async def test_compare(one, sign, other, result):
    """Numbers by any sign; texts and truth values for whether they are equal."""
    found = await condition("compare", {"value1": one, "value2": other}, operator=sign)

    assert found == {"result": result}


@pytest.mark.parametrize(
    ("one", "sign", "other", "kind"),
    [
        ("1", "<", "2", "TypeError"),
        ("1", "==", 1, "TypeError"),
        (None, "==", None, "TypeError"),
        (True, "==", 1, "TypeError"),
        (1, "~", 1, "ValueError"),
        (1, 3, 1, "ValueError"),
    ],
)
async def test_what_cannot_be_compared(one, sign, other, kind):
    """There is no order of texts to buy by, and no operator is guessed."""
    found = await condition("compare", {"value1": one, "value2": other}, operator=sign)

    assert found["error_type"] == kind


@pytest.mark.parametrize("one", [True, False])
@pytest.mark.parametrize("other", [True, False])
async def test_and_or_if(one, other):
    """As everywhere; `if` yields both ways."""
    inputs = {"input1": one, "input2": other}

    assert await condition("and", inputs) == {"output": one and other}
    assert await condition("or", inputs) == {"output": one or other}
    assert await condition("if", {"condition": one}) == {"true": one, "false": not one}


@pytest.mark.parametrize("type", ["and", "or"])
@pytest.mark.parametrize("wrong", [None, 0, 1, "true"])
async def test_truth_values_are_not_guessed(type, wrong):
    """Each input is looked at, also where the others decide already."""
    for inputs in ({"input1": wrong, "input2": True}, {"input1": type == "or", "input2": wrong}):
        found = await condition(type, inputs)
        assert found["error_type"] == "TypeError"
    assert (await condition("if", {"condition": wrong}))["error_type"] == "TypeError"


async def test_more_than_two_truth_values():
    """`and` and `or` take any number of inputs."""
    inputs = {"a": True, "b": True, "c": False}

    assert await condition("and", inputs) == {"output": False}
    assert await condition("or", inputs) == {"output": True}


@pytest.mark.parametrize(
    ("operation", "values", "result"),
    [
        ("add", (1, 2, 3.5), 6.5),
        ("subtract", (5, 3), 2),
        ("-", (3, 5), -2),
        ("multiply", (2, 3, 4), 24),
        ("divide", (1, 4), 0.25),
        ("average", (1, 2, 6), 3),
        ("min", (3, 1, 2), 1),
        ("max", (3, 1, 2), 3),
        ("spread", (1, 4), 3),
        ("percent_change", (50, 60), 20),
        ("percent_change", (-50, -60), -20),
        ("abs", (-4,), 4),
        ("negate", (4,), -4),
    ],
)
async def test_math(operation, values, result):
    """The inputs count in the order in which the block names them."""
    inputs = {f"value{place}": value for place, value in enumerate(values)}

    assert await condition("math", inputs, operation=operation) == {"result": result}


@pytest.mark.parametrize(
    ("operation", "values", "kind"),
    [
        ("divide", (1, 0), "ZeroDivisionError"),
        ("percent_change", (0, 1), "ZeroDivisionError"),
        ("multiply", (1e308, 1e308), "ValueError"),
        ("subtract", (1, 2, 3), "ValueError"),
        ("abs", (1, 2), "ValueError"),
        ("power", (1, 2), "ValueError"),
        ("add", (1, "2"), "TypeError"),
        ("add", (1, None), "TypeError"),
    ],
)
async def test_math_that_has_no_result(operation, values, kind):
    """It is an error, and no infinity or 0 that something is bought by."""
    inputs = {f"value{place}": value for place, value in enumerate(values)}

    assert (await condition("math", inputs, operation=operation))["error_type"] == kind


@pytest.mark.parametrize("side", ["buy", "sell"])
async def test_orders_are_mocks_that_say_so(side):
    """The order has the idempotency key as its client's id; without a signal there is none."""
    found = await run_block("actions", side, {"signal": True}, amount=2.5)
    order = found["order"]

    assert order.pop("client_order_id").endswith(":it")
    assert order == {"side": side, "amount": 2.5, "status": "mock", "mock": True}
    assert await run_block("actions", side, {"signal": False}, amount=2.5) == {"order": None}


@pytest.mark.parametrize(
    ("signal", "amount"), [(True, 0), (True, -1), (True, "5"), (1, 5), ("true", 5), (None, 5)]
)
async def test_orders_are_not_guessed(signal, amount):
    """An amount is a number above 0, and a signal is true or false."""
    found = await run_block("actions", "buy", {"signal": signal, "amount": amount})

    assert found["error_type"] in ("TypeError", "ValueError")


async def test_the_other_mocks():
    """Each keeps its shape, and says that it is a mock."""
    told = {"mock": True}

    assert await run_block("actions", "cancel", {"signal": True}) == {"done": True, **told}
    assert await run_block("actions", "notify", {"signal": False}) == {"sent": False, **told}
    assert await run_block("triggers", "schedule", {}) == {"signal": True, **told}
    assert await run_block("risk", "stop_loss", {}) == {"trigger": False, **told}


async def test_one_output_may_have_another_name():
    """Outputs that a block declares under names of its own are those of its type, in order."""
    blocks = [
        provider(),
        threshold("t", "price.price", ["passed"], max=1),
        block("i", "conditions", "if", {"condition": "t.passed"}, ["yes", "no"]),
        block("j", "conditions", "if", {"condition": "t.passed"}, ["false", "true"]),
    ]
    handlers = {PRICE: yields(price=0.5)}

    outputs = (await WorkflowExecutor({"blocks": blocks}, handlers=handlers).execute())["outputs"]

    assert outputs["t"] == {"passed": True}
    assert outputs["i"] == {"yes": True, "no": False}
    assert outputs["j"] == {"true": True, "false": False}


# --- handlers of one's own ------------------------------------------------------------------------


async def outputs_of(*blocks, **options):
    result = await WorkflowExecutor({"blocks": list(blocks)}, **options).execute()
    assert result["errors"] == []
    return result["outputs"]


async def test_a_handler_gets_the_block_its_inputs_and_the_context():
    """The block as it came in, with the parts that were left out; and all ids."""
    seen = []

    @handler("actions", "buy")
    async def buying(node, inputs, context):
        seen.append((node, inputs, context))
        return {"order": 7}

    found = await outputs_of(
        provider(),
        threshold("t", "price.price", max=1),
        buy("b", "t.pass", note="mine"),
        handlers={PRICE: yields(price=0.5)},
    )

    ((node, inputs, context),) = seen
    assert found["b"] == {"order": 7}
    assert node == {**buy("b", "t.pass", note="mine"), "config": {}, "name": "b"}
    assert inputs == {"signal": True, "amount": 5}
    key = f"{context.execution_id}:b"
    assert context == BlockContext(context.execution_id, "workflow", "b", 1, key)


async def test_own_handlers_go_before_registered_ones_before_built_in_ones():
    """By (category, type) before by category, in each."""
    block_of = {"a": block("a", "risk", "x"), "b": block("b", "risk", "y")}
    register_handler("risk", None, yields(by="all"))
    register_handler("risk", "x", yields(by="x"))
    own = HandlerRegistry({"risk": yields(by="own")})

    assert await outputs_of(*block_of.values()) == {"a": {"by": "x"}, "b": {"by": "all"}}
    assert await outputs_of(block_of["a"], handlers=own) == {"a": {"by": "own"}}
    assert handlers.unregister("risk", "x")
    assert not handlers.unregister("risk", "x")
    assert await outputs_of(block_of["a"]) == {"a": {"by": "all"}}


async def test_plain_functions_run_in_a_thread_with_the_context():
    """They may block; the event loop and contextvars go on."""
    variable = contextvars.ContextVar("variable")
    variable.set("kept")

    def blocking(node, inputs, context):
        return {
            "thread": threading.current_thread() is threading.main_thread(),
            "v": variable.get(),
        }

    found = await outputs_of(provider(), handlers={PRICE: blocking})

    assert found == {"price": {"thread": False, "v": "kept"}}


async def test_what_is_no_dict_is_the_only_output():
    """It is called `result` where the block declares none, or several."""
    both = {"providers": lambda node, inputs, context: 7}

    assert await outputs_of(provider("p", ["price"]), handlers=both) == {"p": {"price": 7}}
    assert await outputs_of(provider("p", []), handlers=both) == {"p": {"result": 7}}


async def test_a_handler_cannot_change_what_others_get():
    """Neither the definition, nor what another block has yielded."""

    async def spoiling(node, inputs, context):
        node["properties"].clear()
        inputs.get("all", {}).clear()
        return {}

    blocks = [
        provider("p"),
        block("x", "actions", "own", {"all": "p"}, properties={"k": 1}),
        block("y", "actions", "keep", {"all": "p"}),
    ]
    own = {PRICE: yields(n=[1]), ("actions", "own"): spoiling}
    own["actions", "keep"] = lambda node, inputs, context: inputs
    executor = WorkflowExecutor({"blocks": blocks}, handlers=own)

    for _ in range(2):
        assert (await executor.execute())["outputs"]["y"] == {"all": {"n": [1]}}
    assert executor.definition.blocks[1].properties == {"k": 1}


async def test_natural_ports_of_a_handler():
    """It may say which inputs it needs and what it yields, for blocks that declare none."""
    register_handler(
        "conditions",
        "own",
        lambda node, inputs, context: {"out": inputs},
        ports=("first", "second"),
        optional=("second",),
        outputs=("out",),
    )
    blocks = [{"id": "p", "category": "providers", "type": "test"}]
    blocks.append({"id": "c", "category": "conditions", "type": "own"})
    ends = {"from": {"blockId": "p"}, "to": {"blockId": "c"}}

    found = await WorkflowExecutor({"blocks": blocks, "connections": [ends]}).execute()

    assert found["outputs"]["c"] == {"out": {"first": {}}}


@pytest.mark.parametrize(
    ("args", "options", "said"),
    [
        (("magic", None, print), {}, "the category is 'magic'"),
        (("risk", None, print), {"risk_effect": "more"}, "risk_effect is 'more'"),
        (("risk", None, print), {"on_restart": "skip"}, "on_restart is 'skip'"),
    ],
)
def test_what_cannot_be_registered(args, options, said):
    """It is said which words there are."""
    with pytest.raises(ValueError, match=said):
        register_handler(*args, **options)
    with pytest.raises(TypeError, match="a handler is a function, not 3"):
        register_handler("risk", None, 3)


async def test_decimals_in_a_condition():
    """What handlers yield is plain JSON: a Decimal is refused where it comes out."""
    executor = WorkflowExecutor({"blocks": [provider()]}, handlers={PRICE: yields(p=Decimal(1))})

    (error,) = (await executor.execute())["errors"]

    assert error["error"] == (
        "the output of block 'price', at /p: a Decimal is no plain JSON: yield text, numbers, "
        "lists and dicts"
    )


async def test_a_handler_that_ends_the_process_only_fails():
    """`sys.exit()` in a handler is its error, in a thread as on the loop."""

    def leaving(node, inputs, context):
        raise SystemExit(3)

    for function in (leaving, raises(SystemExit(3))):
        executor = WorkflowExecutor({"blocks": [provider()]}, handlers={PRICE: function})
        (error,) = (await executor.execute())["errors"]
        assert error["error_type"] == "NodeExecutionError"
        assert "SystemExit(3)" in error["error"]


async def test_a_handler_has_so_much_time():
    """`timeout` ends it, on the loop at once."""
    forever = {BUY: lambda node, inputs, context: asyncio.Event().wait()}
    blocks = [block("b", "actions", "buy", timeout=0.01, properties={"signal": True, "amount": 1})]

    (error,) = (await WorkflowExecutor({"blocks": blocks}, handlers=forever).execute())["errors"]

    assert error == {
        "nodeId": "b",
        "error": "block 'b' took longer than 0.01 s",
        "error_type": "CallTimeoutError",
    }


async def test_what_is_called_asynchronously_runs_on_the_loop():
    """An object with an asynchronous `__call__` and a partial of an `async def` need no thread."""

    class Price:
        async def __call__(self, node, inputs, context):
            return {"thread": threading.current_thread() is threading.main_thread()}

    async def price(extra, node, inputs, context):
        return {"thread": threading.current_thread() is threading.main_thread()}

    for function in (Price(), functools.partial(price, 3)):
        assert await outputs_of(provider(), handlers={PRICE: function}) == {
            "price": {"thread": True}
        }


async def test_a_handler_that_is_cancelled_from_within_only_fails():
    """What it awaits may be cancelled by others; the execution is not."""

    async def price(node, inputs, context):
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    executor = WorkflowExecutor({"blocks": [provider()]}, handlers={PRICE: price})

    (error,) = (await executor.execute())["errors"]

    assert error["error_type"] == "NodeExecutionError"
    assert error["error"] == "block 'price': something that it awaits was cancelled"
