"""Random workflows of all kinds of nodes, made by the builder, and what must come of them."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import gc
import logging
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from pocketflow_async.clock import clock
from pocketflow_async.workflow import AsyncWorkflowBuilder, ErrorHandler, RetryPolicy, Workflow

KINDS = (
    "code",
    "sync code",
    "function",
    "sync function",
    "work",
    "map",
    "workflow",
    "sync workflow",
)
PORTS = {
    "sync code": "result.v",
    "map": "made.0.v",
    "workflow": "inner.v",
    "sync workflow": "inner.v",
}
ERRORS = {"map": "ItemsFailedError", "workflow": "WorkflowExecutionError"}
DEEDS = ("fine", "fine", "fine", "fine", "fails", "flaky", "handled", "dropped")
FORMS = ("key", "result", "whole")
SECONDS = (0, 0, 0.5, 1, 2)
FALLBACK = {"v": 1000, "tag": None}


@dataclass(frozen=True)
class Graph:
    """A random workflow.

    Attributes:
        kinds: What each node is made of; node *i* needs only nodes before it.
        deeds: What each does: fine; fails; flaky (the first attempt fails); handled (fails, and its
            handler answers); dropped (its condition is false).
        seconds: How long each takes.
        edges: Source, target and how the output is asked for.
        order: The order in which the nodes are added.
    """

    kinds: tuple[str, ...]
    deeds: tuple[str, ...]
    seconds: tuple[float, ...]
    edges: tuple[tuple[int, int, str], ...]
    order: tuple[int, ...]

    def needs(self, number: int) -> list[int]:
        return [source for source, target, _ in self.edges if target == number]


@st.composite
def graphs(draw: Any, most: int = 9, deeds: tuple[str, ...] = DEEDS) -> Graph:
    count = draw(st.integers(1, most))
    pairs = [(a, b) for b in range(count) for a in range(b)]
    chosen = draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []

    def each(values: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(draw(st.lists(st.sampled_from(values), min_size=count, max_size=count)))

    forms = draw(st.lists(st.sampled_from(FORMS), min_size=len(chosen), max_size=len(chosen)))
    return Graph(
        each(KINDS),
        each(deeds),
        each(SECONDS),
        tuple((a, b, form) for (a, b), form in zip(chosen, forms, strict=True)),
        tuple(draw(st.permutations(range(count)))),
    )


@dataclass
class Log:
    """What the nodes of one run have said, in order; threads may write too."""

    said: list[tuple[str, int]] = field(default_factory=list)

    def begin(self, number: int, deed: str) -> None:
        self.said.append(("begin", number))
        if deed in ("fails", "handled") or (deed == "flaky" and self.begun(number) == 1):
            raise ValueError(f"no {number}")

    def end(self, number: int) -> None:
        self.said.append(("end", number))

    def begun(self, number: int) -> int:
        return self.said.count(("begin", number))


class OwnWork:
    """An object with `run`, as anybody may write one."""

    is_async = True

    def __init__(self, number: int, deed: str, seconds: float, names: list[tuple[str, str]]):
        self.parts = number, deed, seconds, names

    async def run(self, inputs: Any, context: Any) -> Any:
        number, deed, seconds, names = self.parts
        assert context.node_id == f"n{number}"
        inputs["log"].begin(number, deed)
        await asyncio.sleep(seconds)
        value = 1 + sum(_part(inputs[name], form) for name, form in names)
        inputs["log"].end(number)
        return {"v": value, "tag": inputs["tag"]}


def _part(value: Any, form: str) -> int:
    if form == "key":
        return int(value)
    return int(inner(value)["v"])


def _sum(names: list[tuple[str, str]]) -> str:
    """Return the code that adds up what the edges bring."""
    shapes = {"key": "{}"}
    terms = [shapes.get(form, "inner({})['v']").format(name) for name, form in names]
    return " + ".join(["1", *terms])


def _code(number: int, deed: str, seconds: float, names: list[tuple[str, str]], sync: bool) -> str:
    return f"""
        log.begin({number}, {deed!r})
        {"pass" if sync else f"await asyncio.sleep({seconds})"}
        value = {_sum(names)}
        log.end({number})
        result = {{"v": value, "tag": tag}}
    """


def _item_code(number: int, deed: str, seconds: float, names: list[tuple[str, str]]) -> str:
    return f"""
        async def process_item(item):
            log.begin({number}, {deed!r})
            await asyncio.sleep({seconds})
            value = {_sum(names)}
            log.end({number})
            return {{"v": value, "tag": tag}}
    """


def _function(
    number: int, deed: str, seconds: float, names: list[tuple[str, str]], sync: bool
) -> Any:
    def answer(log: Log, tag: Any, inputs: dict[str, Any]) -> Any:
        value = 1 + sum(_part(inputs[name], form) for name, form in names)
        log.end(number)
        return {"v": value, "tag": tag}

    def synchronous(log: Log, tag: Any, **inputs: Any) -> Any:
        log.begin(number, deed)
        clock().sleep(seconds)
        return answer(log, tag, inputs)

    async def asynchronous(log: Log, tag: Any, **inputs: Any) -> Any:
        log.begin(number, deed)
        await asyncio.sleep(seconds)
        return answer(log, tag, inputs)

    return synchronous if sync else asynchronous


def inputs(log: Log, tag: Any) -> dict[str, Any]:
    """Return the inputs of a run."""
    return {"log": log, "tag": tag, "items": [None], "inner": inner}


def built(graph: Graph, name: str = "whole") -> Workflow:
    """Return *graph* as the builder builds it."""
    builder = AsyncWorkflowBuilder(name)
    for number in graph.order:
        _add(builder, graph, number)
    for source, target, form in graph.edges:
        key = PORTS.get(graph.kinds[source], "v")
        output = {"result": "result", "whole": None, "key": key}[form]
        builder.add_connection(f"n{source}", output, f"n{target}", f"from_{source}")
    return builder.build()


def _add(builder: AsyncWorkflowBuilder, graph: Graph, number: int) -> None:
    kind, deed, seconds = graph.kinds[number], graph.deeds[number], graph.seconds[number]
    names = [(f"from_{a}", form) for a, target, form in graph.edges if target == number]
    parts = number, deed, seconds, names
    node_id, sync, more = f"n{number}", kind.startswith("sync"), _options(kind, deed)
    match kind.removeprefix("sync "):
        case "work":
            builder.add_node(OwnWork(*parts), node_id, **more)
        case "map":
            builder.add_parallel_map(node_id, _item_code(*parts), output_field="made", **more)
        case "workflow":
            within = AsyncWorkflowBuilder("within")
            within.add_function("inner", _function(*parts, sync))
            builder.add_workflow(node_id, within, **more)
        case "function":
            builder.add_function(node_id, _function(*parts, sync), **more)
        case "code":
            if sync:
                builder.add_node("PythonCodeNode", node_id, {"code": _code(*parts, sync)}, **more)
            else:
                builder.add_async_code(node_id, _code(*parts, sync), **more)


def _options(kind: str, deed: str) -> dict[str, Any]:
    if deed == "flaky":
        return {"retry_policy": RetryPolicy(2, 0.25)}
    if deed == "dropped":
        return {"condition": lambda inputs: False}
    if deed != "handled":
        return {}
    shapes = {"map": {"made": [FALLBACK]}, "workflow": {"inner": FALLBACK}}
    value = shapes.get(kind.removeprefix("sync "), FALLBACK)
    return {"error_handler": ErrorHandler("fallback", value, log_level="debug")}


@dataclass
class Expected:
    """What must come of a run.

    Attributes:
        values: The numbers that the nodes that run yield.
        failed: Those that fail.
        skipped: Those that do not run.
    """

    values: dict[int, int]
    failed: set[int]
    skipped: set[int]


def expected(graph: Graph) -> Expected:
    """Say what must come of *graph*, in the simplest way that there is."""
    said = Expected({}, set(), set())
    for number, deed in enumerate(graph.deeds):
        needs = graph.needs(number)
        if any(need not in said.values for need in needs) or deed == "dropped":
            said.skipped.add(number)
        elif deed == "fails":
            said.failed.add(number)
        elif deed == "handled":
            said.values[number] = FALLBACK["v"]  # type: ignore[assignment]
        else:
            said.values[number] = 1 + sum(said.values[need] for need in needs)
    return said


def inner(value: dict[str, Any]) -> dict[str, Any]:
    """Return what a node has made, wrapped or not."""
    if "made" in value:
        return value["made"][0]
    return value if "v" in value else value.get("result") or value["inner"]


def made(result: Any) -> list[tuple[str, dict[str, Any]]]:
    """Return what the nodes have made, in order; without how long their items took."""
    return [(node_id, inner(value)) for node_id, value in result["results"].items()]


def check_result(graph: Graph, result: Any, tag: Any, log: Log | None = None) -> None:
    """Fail unless *result* is what must come of *graph*."""
    want = expected(graph)
    found = dict(made(result))
    assert {node_id: value["v"] for node_id, value in found.items()} == {
        f"n{number}": value for number, value in want.values.items()
    }
    assert {value["tag"] for value in found.values()} <= {tag, None}
    assert list(found) == [f"n{number}" for number in graph.order if number in want.values]
    assert set(result["errors"]) == {f"n{number}" for number in want.failed}
    for number in want.failed:
        assert f"no {number}" in result["errors"][f"n{number}"]
    assert set(result["skipped"]) == {f"n{number}" for number in want.skipped}
    assert result["status"] == ("failed" if want.failed else "success")
    if log is not None:
        check_log(graph, want, log)


def check_log(graph: Graph, want: Expected, log: Log) -> None:
    """Fail unless each node has run once, after all that it needs, never after a failed one."""
    for number, deed in enumerate(graph.deeds):
        times = 0 if number in want.skipped else 2 if deed == "flaky" else 1
        assert log.begun(number) == times, (number, deed)
    for source, target, _ in graph.edges:
        if log.begun(target) and graph.deeds[source] != "handled":
            assert log.said.index(("end", source)) < log.said.index(("begin", target))


def outside() -> dict[str, Any]:
    """Return what of the process a run must leave as it is."""
    found: dict[str, Any] = {
        "trace": sys.gettrace(),
        "profile": sys.getprofile(),
        "thread trace": threading.gettrace(),
        "thread profile": threading.getprofile(),
        "excepthook": sys.excepthook,
        "thread excepthook": threading.excepthook,
        "unraisable": sys.unraisablehook,
        "recursion": sys.getrecursionlimit(),
        "switch": sys.getswitchinterval(),
        "path": tuple(sys.path),
        "meta path": tuple(sys.meta_path),
        "asyncgen": sys.get_asyncgen_hooks(),
        "origin": sys.get_coroutine_origin_tracking_depth(),
        "gc": (gc.isenabled(), gc.get_threshold(), len(gc.callbacks)),
        "log": (tuple(logging.root.handlers), logging.root.level, logging.root.disabled),
        "signal": tuple(signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)),
    }
    with contextlib.suppress(ImportError):
        import resource  # not on Windows

        found["limits"] = resource.getrlimit(resource.RLIMIT_AS)
    for module in (
        asyncio,
        asyncio.tasks,
        asyncio.events,
        asyncio.base_events,
        builtins,
        threading,
    ):
        own = {name: id(value) for name, value in vars(module).items() if callable(value)}
        found[module.__name__] = own
    return found


@contextlib.contextmanager
def nothing_changed() -> Iterator[None]:
    """Fail if the block leaves a thread behind, or something of Python's replaced."""
    before, threads = outside(), set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - threads:
        thread.join(10)
        assert not thread.is_alive(), thread
    after = outside()
    for what, value in before.items():
        assert after[what] == value, what
