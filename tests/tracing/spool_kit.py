"""Routes, targets and a wire of our own, for the tests of the spool and its senders."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from tests.tracing.store_kit import finish, new_trace, phase, start
from tracing.export.delivery import Wire
from tracing.export.model import Answer, OutSpan, Route, Target
from tracing.export.wires import _Expanding
from tracing.record import COMPLETED, Record
from tracing.store.load import Item


def target(name: str = "one", **fields: object) -> Target:
    return Target(name, f"http://127.0.0.1:1/{name}", **fields)  # type: ignore[arg-type]


def route(*names: str, **fields: object) -> Route:
    resource = {"service.name": "tests"}
    return Route(tuple(target(name) for name in names), resource, **fields)  # type: ignore[arg-type]


def run(
    way: Route | None,
    nodes: int = 3,
    *,
    outcome: str = COMPLETED,
    attempts: int = 1,
    **fields: object,
) -> list[Record]:
    """Return the finished records of a flow that takes *way*: the root last, as they finish."""
    trace = new_trace(route=way, **fields)
    root = start(trace)
    below = [start(trace, root.span_id, f"Node{number}", host=root) for number in range(nodes)]
    for record in below:
        phase(record, "prep")
        for attempt in range(attempts):
            phase(record, "exec", attempt=attempt)
        phase(record, "post")
    return [*(finish(record) for record in below), finish(root, outcome=outcome)]


class FakeWire(_Expanding):
    """Takes spans as it is told to: *answers* says what comes back for a request."""

    def __init__(
        self, where: Target, answers: Callable[[Sequence[OutSpan]], Answer] | None = None
    ) -> None:
        super().__init__(where)
        self.answers = answers or (lambda spans: Answer(200))
        self.requests: list[list[OutSpan]] = []
        self.taken: list[OutSpan] = []
        self.routes: list[Route] = []
        self.closed = False
        self.lock = threading.Lock()

    def send(self, spans: Sequence[OutSpan], way: Route, timeout: float) -> Answer:
        assert timeout > 0
        answer = self.answers(spans)
        with self.lock:
            self.requests.append(list(spans))
            self.routes.append(way)
            if answer.status == 200 and answer.valid:
                self.taken += spans
        return answer

    def send_scores(self, items: Sequence[Item], way: Route, timeout: float) -> Answer:
        return Answer(200)

    def close(self) -> None:
        self.closed = True

    @property
    def names(self) -> list[str]:
        return [span.name for span in self.taken]


def ids(records: Sequence[Record]) -> set[bytes]:
    """Return the ids of the records' own spans, as they go over the wire."""
    return {record.span_id.to_bytes(8, "big") for record in records}


def is_wire(wire: FakeWire) -> Wire:
    """Hold the fake to the protocol, for the type checker."""
    return wire
