"""What the types of the public API promise. Checked by mypy --strict, never run.

`assert_type` states what an expression is. A line that must be an error has a `type: ignore` with
its code: under --warn-unused-ignores it is an error if mypy finds nothing wrong with it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, assert_type

from pocketflow_async import (
    AsyncBatchFlow,
    AsyncBatchNode,
    AsyncFlow,
    AsyncNode,
    AsyncParallelBatchFlow,
    AsyncParallelBatchNode,
    BaseNode,
    BatchNode,
    Flow,
    Node,
    Parallel,
    Problem,
    Step,
    guarding,
    observing,
    parallel,
    suspended,
)

# --- nodes ----------------------------------------------------------------------------------------


class Summarise(AsyncNode[list[str], str]):
    async def prep_async(self, shared: dict[str, Any]) -> list[str]:
        return list(shared["texts"])

    async def exec_async(self, prep_res: list[str]) -> str:
        return " ".join(prep_res)

    async def exec_fallback_async(self, prep_res: list[str], exc: Exception) -> str:
        return str(exc)

    async def post_async(self, shared: dict[str, Any], prep_res: list[str], exec_res: str) -> str:
        shared["summary"] = exec_res
        return "done"


class WrongPrep(AsyncNode[list[str], str]):
    async def prep_async(self, shared: Any) -> int:  # type: ignore[override]
        return 1


class WrongExecArgument(AsyncNode[list[str], str]):
    async def exec_async(self, prep_res: int) -> str:  # type: ignore[override]
        return ""


class WrongExecResult(AsyncNode[list[str], str]):
    async def exec_async(self, prep_res: list[str]) -> int:  # type: ignore[override]
        return 1


class WrongPost(AsyncNode[list[str], str, None]):
    async def post_async(self, shared: Any, prep_res: list[str], exec_res: int) -> None:  # type: ignore[override]
        pass


class WrongAction(AsyncNode[list[str], str, str]):
    async def post_async(self, shared: Any, prep_res: list[str], exec_res: str) -> int:  # type: ignore[override]
        return 1


class Count(Node[str, int]):
    def prep(self, shared: Any) -> str:
        return str(shared)

    def exec(self, prep_res: str) -> int:
        assert_type(self.cur_retry, int)
        return len(prep_res)


class WrongCount(Node[str, int]):
    def exec(self, prep_res: str) -> str:  # type: ignore[override]
        return prep_res


class Untyped(Node):
    """A node that says nothing about its types may do anything."""

    def prep(self, shared: Any) -> int:
        return 1

    def exec(self, prep_res: int) -> str:
        return ""


# --- batches --------------------------------------------------------------------------------------


class Lengths(BatchNode[str, int]):
    def prep(self, shared: Any) -> list[str]:
        return ["a"]

    def exec(self, prep_res: str) -> int:
        return len(prep_res)

    def post(self, shared: Any, prep_res: Any, exec_res: list[int]) -> None:
        assert_type(exec_res[0], int)


class WrongItem(BatchNode[str, int]):
    def exec(self, prep_res: bytes) -> int:  # type: ignore[override]
        return 1


class WrongResults(BatchNode[str, int]):
    def post(self, shared: Any, prep_res: Any, exec_res: int) -> None:  # type: ignore[override]
        pass


class AsyncLengths(AsyncBatchNode[str, int]):
    async def exec_async(self, prep_res: str) -> int:
        return len(prep_res)


class WrongAsyncItem(AsyncBatchNode[str, int]):
    async def exec_async(self, prep_res: bytes) -> int:  # type: ignore[override]
        return 1


class ParallelLengths(AsyncParallelBatchNode[str, int]):
    async def prep_async(self, shared: Any) -> AsyncIterator[str]:
        async def items() -> AsyncIterator[str]:
            yield "a"

        return items()

    async def exec_async(self, prep_res: str) -> int:
        return len(prep_res)

    async def post_async(self, shared: Any, prep_res: Any, exec_res: list[int]) -> None:
        assert_type(exec_res, list[int])


class WrongParallelResult(AsyncParallelBatchNode[str, int]):
    async def exec_async(self, prep_res: str) -> str:  # type: ignore[override]
        return prep_res


# --- options --------------------------------------------------------------------------------------

Count(3, 1.5, timeout=2, retry_on=(ValueError, OSError), backoff=2, max_wait=9, jitter=0.5)
Count(retry_on=lambda error: "503" in str(error), name="count", in_thread=True)
Count(retries=3)  # type: ignore[call-arg]
Count(timeout="2")  # type: ignore[arg-type]
Count(concurrency=2)  # type: ignore[call-arg]
Summarise(timeout=2, name="sum")
Summarise(in_thread=True)  # type: ignore[call-arg]
ParallelLengths(concurrency=4, on_error="collect", timeout=1)
ParallelLengths(on_error="skip")  # type: ignore[arg-type]
AsyncLengths(concurrency=4)  # type: ignore[call-arg]
Flow(Count(), name="f", max_steps=3, timeout=1, ends=("done",), strict=True, merge_params=True)
Flow(Count(), concurrency=2)  # type: ignore[call-arg]
Flow(Count(), max_steps="3")  # type: ignore[arg-type]
AsyncParallelBatchFlow(Count(), concurrency=2, on_error="collect")
AsyncBatchFlow(Count(), concurrency=2)  # type: ignore[call-arg]

# --- chaining -------------------------------------------------------------------------------------

count, summarise = Count(), Summarise()
assert_type(count >> summarise, Summarise)
assert_type(count >> summarise >> count, Count)
assert_type(count - "again" >> summarise, Summarise)
assert_type(count.next(summarise, "x"), Summarise)
assert_type(count >> [summarise, count], BaseNode[Any, Any, Any])
assert_type(count - "both" >> (summarise, count), BaseNode[Any, Any, Any])
assert_type(count >> parallel(summarise, count, concurrency=1, into="found"), Parallel)
count >> 5  # type: ignore[operator]
count - 5  # type: ignore[operator]
parallel(summarise, "news")  # type: ignore[arg-type]

# --- flows ----------------------------------------------------------------------------------------


class Daily(AsyncFlow[dict[str, int], str]):
    async def prep_async(self, shared: Any) -> dict[str, int]:
        return {}

    async def post_async(self, shared: Any, prep_res: dict[str, int], exec_res: Any) -> str:
        return "done"


class WrongDaily(AsyncFlow[dict[str, int], str]):
    async def post_async(self, shared: Any, prep_res: dict[str, int], exec_res: Any) -> int:  # type: ignore[override]
        return 1


class Plain(Flow[list[int], str]):
    def prep(self, shared: Any) -> list[int]:
        return [1]

    def post(self, shared: Any, prep_res: list[int], exec_res: Any) -> str:
        return ""


class WrongPlain(Flow[list[int], str]):
    def prep(self, shared: Any) -> str:  # type: ignore[override]
        return ""


flow = Daily(count)
assert_type(flow.validate(), list[Problem])
assert_type(flow.to_mermaid(), str)
assert_type(count >> flow, Daily)

# --- hooks ----------------------------------------------------------------------------------------


def ignore_step(step: Step) -> None:
    assert_type(step.name, str)
    assert_type(step.attempt, int)
    assert_type(step.index, int | None)
    assert_type(step.wait, float | None)


async def refuse(step: Step) -> None:
    raise PermissionError(step.name)


async def main() -> None:
    with observing(ignore_step), guarding(refuse), guarding(ignore_step):
        await flow.run_async({})
    async with suspended("approval"):
        pass
    observing(5)  # type: ignore[arg-type]
    suspended()  # type: ignore[call-arg]


run: Callable[[Any], Awaitable[Any]] = flow.run_async
