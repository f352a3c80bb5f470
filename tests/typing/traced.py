"""What `trace_flow` does to types: nothing. Checked by mypy --strict, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, assert_type

from pocketflow_async import AsyncFlow, Flow, Node
from tracing import trace_flow


@trace_flow
class Bare(Flow[Any, Any]):
    own = 1


@trace_flow(flow_name="daily")
class WithOptions(AsyncFlow[Any, Any]):
    own = "x"


assert_type(Bare(Node()).own, int)
assert_type(WithOptions(Node()).own, str)
Bare(Node(), nothing=1)  # type: ignore[call-arg]


@trace_flow
def add(a: int, b: int = 1, *, c: str) -> str:
    return f"{a}{b}{c}"


@trace_flow(flow_name="fetch")
async def fetch(url: str, *, tries: int = 3) -> bytes:
    return b""


@trace_flow()
def count(limit: int) -> Iterator[int]:
    yield limit


@trace_flow()
async def ticks(limit: int) -> AsyncIterator[int]:
    yield limit


async def main() -> None:
    assert_type(add(1, c="x"), str)
    add("1", c="x")  # type: ignore[arg-type]
    add(1)  # type: ignore[call-arg]
    assert_type(await fetch("x", tries=1), bytes)
    await fetch(1)  # type: ignore[arg-type]
    assert_type(list(count(1)), list[int])
    assert_type([tick async for tick in ticks(2)], list[int])
