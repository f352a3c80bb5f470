"""`TraceIds` and `add_trace_ids`: each line of a log says which span it comes from."""

from __future__ import annotations

import asyncio
import logging
import logging.handlers
import queue
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import tracing
from pocketflow_async import AsyncFlow, AsyncNode
from tracing.context import position
from tracing.logs import FIELDS, TraceIds, add_trace_ids

logger = logging.getLogger("test_logs.some.child")
FORMAT = "%(trace_id)s|%(span_id)s|%(flow)s|%(node)s|%(message)s"


class Lines(logging.Handler):
    """Keeps what it would print."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.addFilter(TraceIds())
        self.setFormatter(logging.Formatter(FORMAT))

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))

    def parts(self) -> list[list[str]]:
        return [line.split("|") for line in self.lines]


@pytest.fixture
def lines() -> Generator[Lines, None, None]:
    handler = Lines()
    root = logging.getLogger("test_logs")
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    root.propagate = False
    yield handler
    root.removeHandler(handler)
    root.propagate = True


seen: list[tuple[str, str]] = []


def note(message: str) -> None:
    """Log, and remember which ids the tracing itself names here."""
    here = tracing.current_span()
    seen.append(("", "") if here is None else (here.trace_id, here.span_id))
    logger.info(message)


class Fetch(AsyncNode):
    async def prep_async(self, shared: Any) -> Any:
        note("prep")

    async def exec_async(self, prep_res: Any) -> Any:
        note("exec")
        await asyncio.create_task(self.in_task())
        await asyncio.to_thread(note, "to_thread")
        with ThreadPoolExecutor(1) as pool:
            pool.submit(tracing.carry(note), "carried").result()
        with tracing.span("by hand"):
            note("span")

    async def in_task(self) -> None:
        note("task")

    async def post_async(self, shared: Any, prep_res: Any, exec_res: Any) -> Any:
        note("post")


@tracing.trace_flow()
class Checkout(AsyncFlow):
    pass


async def test_each_line_has_the_ids_of_its_span(lines, traces):
    """In every phase, task and thread they are those of `current_span`, and of the stored trace."""
    seen.clear()
    await Checkout(start=Fetch()).run_async({})

    found = lines.parts()
    assert [(trace, span) for trace, span, *_ in found] == seen
    assert [(flow, node, text) for _, _, flow, node, text in found] == [
        ("Checkout", "Fetch", "prep"),
        ("Checkout", "Fetch", "exec"),
        ("Checkout", "Fetch", "task"),
        ("Checkout", "Fetch", "to_thread"),
        ("Checkout", "Fetch", "carried"),
        ("Checkout", "by hand", "span"),
        ("Checkout", "Fetch", "post"),
    ]
    (tree,) = traces.all()
    assert {trace for trace, *_ in found} == {tree.summary.trace_id}
    assert all(len(trace) == 32 and len(span) == 16 for trace, span, *_ in found)


async def test_runs_at_once_keep_their_lines_apart(lines):
    """A line names the run that it comes from."""
    seen.clear()
    await asyncio.gather(*(Checkout(start=Fetch()).run_async({}) for _ in range(10)))

    assert sorted(map(tuple, (part[:2] for part in lines.parts()))) == sorted(seen)
    assert len({part[0] for part in lines.parts()}) == 10


def test_outside_the_attributes_are_empty(lines):
    """A format that names them works anywhere."""
    note("outside")

    assert lines.lines == ["||||outside"]


def test_what_stands_for_nothing_can_be_chosen(lines):
    """Some parsers want a word in each place."""
    lines.filters.clear()
    lines.addFilter(TraceIds(outside="-"))
    note("outside")

    assert lines.lines == ["-|-|-|-|outside"]


async def test_what_is_there_already_stays(lines):
    """A user's `extra` wins over ours."""
    with tracing.span("work"):
        logger.info("own", extra={"trace_id": "mine", "node": "other"})

    ((trace, span, flow, node, _),) = lines.parts()
    assert (trace, flow, node) == ("mine", "work", "other")
    assert len(span) == 16


def test_a_queue_takes_the_ids_to_its_thread(lines):
    """With the filter on the queue's handler, the listener's thread writes the right ids."""
    waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
    sender = logging.handlers.QueueHandler(waiting)
    sender.addFilter(TraceIds())
    root = logging.getLogger("test_logs")
    root.removeHandler(lines)
    root.addHandler(sender)
    listener = logging.handlers.QueueListener(waiting, lines)
    listener.start()
    try:
        with tracing.span("work"):
            here = tracing.current_span()
            logger.info("queued")
    finally:
        listener.stop()
        root.removeHandler(sender)

    assert here is not None
    assert lines.parts() == [[here.trace_id, here.span_id, "work", "work", "queued"]]


def test_structlog_events_have_the_ids():
    """The processor adds them inside a traced run only, and overwrites nothing."""
    structlog = pytest.importorskip("structlog")
    log = structlog.wrap_logger(
        structlog.ReturnLogger(), processors=[add_trace_ids, lambda *args: dict(args[2])]
    )

    def said(**fields: str) -> Any:
        _, kwargs = log.info("hello", **fields)
        return kwargs

    structlog_outside = said()
    with tracing.span("work"):
        here = tracing.current_span()
        inside = said(node="mine")

    assert here is not None
    assert structlog_outside == {"event": "hello"}
    assert inside == {
        "event": "hello",
        "trace_id": here.trace_id,
        "span_id": here.span_id,
        "flow": "work",
        "node": "mine",
    }


def test_logging_never_fails(lines):
    """Whatever went wrong with the position, the line is written."""
    token = position.set((None, 0, None))  # type: ignore[arg-type]
    try:
        note_without_ids = add_trace_ids(None, "info", {})
        logger.info("still here")
    finally:
        position.reset(token)

    assert note_without_ids == {}
    assert lines.lines == ["||||still here"]
    assert set(FIELDS) == {"trace_id", "span_id", "flow", "node"}
