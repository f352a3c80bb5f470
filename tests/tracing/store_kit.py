"""Records as a recorder would make them, for the tests of the store and their children."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from tracing.record import COMPLETED, Failure, Phase, Record, Trace

_random = random.SystemRandom()
CONTENT = b'{"question":"' + b"x" * 200 + b'"}'


def new_id(bits: int = 64) -> int:
    return _random.getrandbits(bits) or 1


def new_trace(name: str = "flow", **fields: object) -> Trace:
    now = time.perf_counter_ns()
    return Trace(new_id(128), name, time.time_ns(), now, **fields)  # type: ignore[arg-type]


def start(trace: Trace, parent: int | None = None, name: str = "Node", **fields: object) -> Record:
    kind = "flow" if parent is None else "node"
    record = Record(trace, new_id(), parent, kind, name, time.perf_counter_ns())
    for field, value in fields.items():
        setattr(record, field, value)
    return record


def finish(record: Record, outcome: str = COMPLETED, content: bytes | None = CONTENT) -> Record:
    record.end = time.perf_counter_ns()
    record.outcome = outcome
    record.input = record.output = content
    record.size = 2 * len(content or b"")
    return record


def phase(record: Record, kind: str, *, done: bool = True, attempt: int = 0) -> Phase:
    made = Phase(kind, time.perf_counter_ns(), attempt)
    if done:
        made.end = time.perf_counter_ns()
        made.outcome = COMPLETED
    record.phases.append(made)
    return made


def failure(message: str = "boom") -> Failure:
    return Failure("ValueError", message, (("app.py", 12, "exec_async"),))


def flow(nodes: int, name: str = "flow", content: bytes | None = CONTENT) -> list[Record]:
    """Return the finished records of a flow with *nodes* nodes: the root first."""
    trace = new_trace(name)
    root = start(trace, name=name)
    below = [start(trace, root.span_id, f"Node{number % 5}") for number in range(nodes)]
    for record in below:
        for kind in ("prep", "exec", "post"):
            phase(record, kind)
    return [finish(record, content=content) for record in (root, *below)]


def wait_until(fact: Callable[[], object], seconds: float = 10.0) -> None:
    """Return as soon as *fact* holds; fail after *seconds*."""
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)
