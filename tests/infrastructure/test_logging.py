"""Logs: one shape for all lines, with the ids of where they were written."""

from __future__ import annotations

import asyncio
import logging
import logging.handlers
import queue
import subprocess
import sys
import threading
from typing import Any

import pytest
import structlog

from pocketflow_async import AsyncFlow, AsyncNode
from pocketflow_async.infrastructure.logging import (
    bind_context,
    bound_context,
    clear_context,
    configure_logging,
    get_correlation_id,
    get_logger,
    reset_logging,
    set_correlation_id,
    unbind_context,
)
from tests.infrastructure.logging_kit import Written, _no_context, bare_root, logs  # noqa: F401

plain = logging.getLogger("tests.plain")
log = get_logger("tests.structured")


# --- lines ----------------------------------------------------------------------------------------


def test_every_line_has_one_shape_whoever_writes_it():
    """A structlog logger, the standard library's and structlog's own say the same in one shape."""
    with logs() as written:
        log.info("bought", amount=3)
        plain.info("bought", extra={"amount": 3})
        structlog.get_logger("tests.theirs").info("bought", amount=3)

    for entry in written.entries:
        assert entry.pop("logger").startswith("tests.")
        assert entry.pop("timestamp").endswith("Z")
        assert entry == {"level": "info", "event": "bought", "amount": 3}


def test_arguments_of_both_kinds_of_loggers_are_filled_in():
    """`%s` works in both."""
    with logs() as written:
        log.warning("%s of %d", "one", 2)
        plain.warning("%s of %d", "one", 2)

    assert [entry["event"] for entry in written.entries] == ["one of 2", "one of 2"]


def test_levels_are_kept_by_both():
    """What is below the level is not written, and costs no more than a look."""
    with logs("warning") as written:
        log.info("no")
        plain.info("no")
        log.error("yes")

    assert [entry["event"] for entry in written.entries] == ["yes"]


def test_values_that_are_called_like_parts_of_a_line_are_kept():
    """A value named `level`, `event` or `msg` neither hides a part of the line nor is lost."""
    with logs() as written:
        log.info("set", level=3, logger="x", name="n", msg="m", args="a", timestamp=1)

    entry = written.last
    assert (entry["event"], entry["level"], entry["logger"]) == ("set", "info", "tests.structured")
    assert (entry["level_"], entry["logger_"], entry["timestamp_"]) == (3, "x", 1)
    assert (entry["name"], entry["msg"], entry["args"]) == ("n", "m", "a")


def test_whatever_is_logged_makes_a_line():
    """Objects that raise, circles, huge numbers, halves of surrogates and bad arguments do."""

    class Bad:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    circle: list[Any] = []
    circle.append(circle)
    with logs() as written:
        log.info("odd", bad=Bad(), circle=circle, big=10**40, half="\ud800", data=b"x", keys={1: 2})
        plain.info("only %d", "text")
        log.info(Bad)

    odd, bad, _ = written.entries
    assert odd["bad"] == "<Bad>"
    assert odd["big"] == 10**40
    assert odd["half"] == "\ud800"
    assert odd["keys"] == {"1": 2}
    assert bad["event"] == "only %d ('text',)"


def test_huge_values_are_cut():
    """A megabyte of output does not become a megabyte of log."""
    with logs() as written:
        log.info("done", output="x" * 1_000_000, rows=list(range(100_000)))

    assert len(written.getvalue()) < 20_000
    assert "(1,000,000 characters)" in written.last["output"]
    assert written.last["rows"][-1] == "… (100,000 items)"


def test_errors_have_their_type_and_traceback():
    """`exception` and `exc_info` of both loggers show the error with its cause."""
    with logs() as written:
        for logger in (log, plain):
            try:
                try:
                    raise KeyError("inner")
                except KeyError as error:
                    raise ValueError("outer") from error
            except ValueError:
                logger.exception("it failed")

    for entry in written.entries:
        assert (entry["event"], entry["level"]) == ("it failed", "error")
        assert entry["error_type"] == "ValueError"
        assert "KeyError: 'inner'" in entry["exception"]
        assert "ValueError: outer" in entry["exception"]


def test_long_tracebacks_keep_their_end():
    """What the error says is last, so that is not what is cut."""
    errors = [ValueError("x" * 100) for _ in range(1000)]
    with logs() as written:
        plain.error("failed", exc_info=KeyError("a" * 50_000 + "the end"))
        plain.error("failed", exc_info=ExceptionGroup("many", errors))

    assert written.entries[0]["exception"].endswith("the end'")
    assert all(len(entry["exception"]) < 10_000 for entry in written.entries)


def test_locals_are_shown_only_if_asked_for_and_without_secrets():
    """`show_locals` is for development; a password is hidden by its name even there."""

    def fail(symbol: str, api_key: str, url: str) -> None:
        raise ValueError("no")

    for shown in (False, True):
        with logs(show_locals=shown) as written:
            try:
                fail("BT" + "C", "hunter" + "2", "redis://:hunter" + "2@h")
            except ValueError:
                log.exception("failed")
        assert ("BTC" in written.last["exception"]) is shown
        assert "hunter2" not in written.last["exception"]


def test_names_of_functions_are_those_of_the_callers():
    """A host's format may say where a line was written: not in structlog's own code."""
    with bare_root() as root:
        written = Written()
        handler = logging.StreamHandler(written)
        handler.setFormatter(logging.Formatter("%(funcName)s %(filename)s %(message)s"))
        root.addHandler(handler)
        log.error("here")

    assert written.lines == [
        "test_names_of_functions_are_those_of_the_callers test_logging.py here"
    ]


def test_console_is_for_people_and_cannot_be_forged():
    """A text of others makes no line of its own, and moves no cursor."""
    with logs(format="console") as written:
        log.info("bought\n2026-01-01 [error] sold all", note="a\x1b[2Jb")
        try:
            raise ValueError("no")
        except ValueError:
            plain.exception("failed")

    first, second, third, *trace = written.lines
    assert "bought" in first
    assert second.startswith("  | 2026-01-01 [error] sold all")
    assert "\x1b" not in written.getvalue()
    assert "failed" in third
    assert trace[0] == "Traceback (most recent call last):"


def test_json_is_one_line_per_line():
    """Line ends in what is logged are escaped."""
    with logs() as written:
        log.info("a\nb", text="c\r\nd")

    assert len(written.lines) == 1
    assert written.last["event"] == "a\nb"


# --- ids ------------------------------------------------------------------------------------------


def test_ids_are_on_all_lines_of_a_block():
    """Both kinds of loggers have them, and nothing of them is left behind it."""
    with logs() as written:
        with bound_context(correlation_id="exec_1", execution_id="exec_1", bot_id=None):
            with bound_context(node_id="price"):
                log.info("in")
                plain.info("in")
            log.info("between")
        log.info("out")

    inner, stdlib, between, out = written.entries
    for entry in (inner, stdlib):
        assert (entry["correlation_id"], entry["node_id"]) == ("exec_1", "price")
    assert between["execution_id"] == "exec_1"
    assert "node_id" not in between
    assert "bot_id" not in between
    assert not {"correlation_id", "execution_id", "node_id"} & set(out)


def test_ids_of_fifty_tasks_stay_apart():
    """Runs at the same time, their child tasks and threads each have their own ids."""

    async def run(number: int) -> None:
        with bound_context(execution_id=f"exec_{number}", number=number):
            await asyncio.sleep(0)
            plain.info("a", extra={"said": number})
            await asyncio.create_task(child(number))
            await asyncio.to_thread(plain.info, "c", extra={"said": number})

    async def child(number: int) -> None:
        with bound_context(node_id=f"n{number}"):
            await asyncio.sleep(0)
            log.info("b", said=number)

    async def all_of_them() -> None:
        await asyncio.gather(*(run(number) for number in range(50)))

    with logs() as written:
        asyncio.run(all_of_them())

    ours = [entry for entry in written.entries if "said" in entry]
    assert len(ours) == 150
    for entry in ours:
        assert entry["execution_id"] == f"exec_{entry['said']}"
        assert entry.get("node_id", f"n{entry['said']}") == f"n{entry['said']}"


def test_correlation_id_is_bound_by_hand_too():
    """`set_correlation_id`, `bind_context` and the ways back do what their names say."""
    assert get_correlation_id() is None
    assert set_correlation_id("a") == "a"
    bind_context(bot_id="b1", x=1)
    assert get_correlation_id() == "a"

    with logs() as written:
        log.info("one")
        unbind_context("x")
        log.info("two")
        clear_context()
        log.info("three")

    one, two, three = written.entries
    assert (one["bot_id"], one["x"], one["correlation_id"]) == ("b1", 1, "a")
    assert "x" not in two
    assert two["bot_id"] == "b1"
    assert "bot_id" not in three
    assert len(set_correlation_id()) == 32


def test_ids_can_be_left_off():
    """`add_correlation_id=False` writes none."""
    with logs(add_correlation_id=False) as written, bound_context(execution_id="e"):
        log.info("x")

    assert "execution_id" not in written.last


def test_structlogs_own_context_counts_too():
    """What a program has bound by structlog's contextvars is on the lines of its loggers."""
    with logs() as written, structlog.contextvars.bound_contextvars(request="r1"):
        log.info("x")

    assert written.last["request"] == "r1"


def test_ids_of_the_trace_are_on_lines_written_in_a_node():
    """Within a traced run each line has the trace's id, and that of the span it was written in."""
    from tracing import trace_flow
    from tracing.testing import capture

    class Say(AsyncNode):
        async def exec_async(self, prep_res: Any) -> None:
            log.info("structured")
            plain.info("plain")

    @trace_flow()
    class Traced(AsyncFlow):
        pass

    with logs() as written, capture() as traces:
        asyncio.run(Traced(start=Say()).run_async({}))
        log.info("outside")
        trace = traces.one()

    ours = [entry for entry in written.entries if entry["logger"].startswith("tests.")]
    one, two, outside = ours
    assert one["trace_id"] == two["trace_id"] == trace.id
    assert one["span_id"] == two["span_id"]
    assert int(one["span_id"], 16)
    assert "trace_id" not in outside


def test_span_of_a_stranger_that_fails_costs_no_line(monkeypatch):
    """Whatever goes wrong with the trace, the line is written without it."""
    from opentelemetry import trace

    monkeypatch.setattr(trace, "get_current_span", lambda: 1 / 0)
    with logs() as written:
        log.info("x")

    assert "trace_id" not in written.last


# --- secrets --------------------------------------------------------------------------------------


def test_secrets_are_in_no_line():
    """Not by the name of a value at any depth, nor in messages, arguments, errors or context."""
    url = "postgresql://bot:hunter2@db/live"
    for format in ("json", "console"):
        with logs(format=format) as written, bound_context(session_token="hunter2"):
            log.info("login", password="hunter2", nested=[{"apiKey": "hunter2"}], url=url)
            log.info("connecting to %s", url)
            plain.info("connecting to %s", url, extra={"api_secret": "hunter2"})
            plain.info("header Authorization: Bearer hunter2hunter2")
            try:
                raise ConnectionError(f"cannot reach {url}: password='hunter2'")
            except ConnectionError:
                plain.exception("failed")
                log.exception("failed")

        assert "hunter2" not in written.getvalue()
        assert "[redacted]" in written.getvalue()


def test_secrets_of_our_loggers_are_in_no_line_of_a_host_either():
    """A logger of ours hides them before a host's format sees them."""
    with bare_root() as root:
        written = Written()
        root.addHandler(logging.StreamHandler(written))
        log.error("login", password="hunter2", user="ann")

    assert written.lines == ["login password=[redacted] user=ann"]


# --- whose configuration it is --------------------------------------------------------------------


def test_nothing_is_configured_by_importing():
    """No handler, level, filter, record factory or structlog setting is changed by an import."""
    code = (
        "import logging\n"
        "root = logging.getLogger()\n"
        "before = (root.handlers[:], root.level, root.filters[:], logging.getLogRecordFactory(),"
        " logging.getLoggerClass())\n"
        "import pocketflow_async.infrastructure as i\n"
        "import pocketflow_async.infrastructure.logging as l\n"
        "import pocketflow_async.infrastructure.factory\n"
        "log = l.get_logger('x'); log.info('unseen')\n"
        "after = (root.handlers[:], root.level, root.filters[:], logging.getLogRecordFactory(),"
        " logging.getLoggerClass())\n"
        "import structlog\n"
        "assert before == after, (before, after)\n"
        "assert not structlog.is_configured()\n"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_importing_logging_loads_neither_structlog_nor_orjson():
    """The package costs nothing until it is used."""
    code = (
        "import sys, pocketflow_async.infrastructure.logging\n"
        "print({'structlog', 'orjson', 'pydantic', 'opentelemetry'} & set(sys.modules))\n"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)

    assert done.stdout.strip() == "set()", done.stderr


def test_hosts_configuration_stays_and_can_name_the_ids():
    """Handlers, formats and levels of a program that has its own are as before; ids are lent."""
    with bare_root() as root:
        written = Written()
        handler = logging.StreamHandler(written)
        handler.setFormatter(logging.Formatter("%(execution_id)s %(trace_id)s %(message)s"))
        root.addHandler(handler)
        root.setLevel("WARNING")

        assert configure_logging("DEBUG", "json") is False
        assert configure_logging("DEBUG", "json") is False
        with bound_context(execution_id="e1"):
            plain.warning("in")
            log.warning("in", amount=3)
        plain.warning("out")

        assert root.handlers == [handler]
        assert root.level == logging.WARNING
        assert len(handler.filters) == 1
        reset_logging()
        assert handler.filters == []

    assert written.lines == ["e1 - in", "e1 - in amount=3", "- - out"]


def test_hosts_structlog_stays():
    """A program that has configured structlog keeps its processors."""
    with bare_root():
        structlog.configure(processors=[structlog.processors.KeyValueRenderer()])
        before = structlog.get_config()
        configure_logging(stream=Written())

        assert structlog.get_config() == before
        reset_logging()
        assert structlog.get_config() == before


def test_force_takes_a_hosts_handlers_off():
    """Who insists gets the root logger."""
    with bare_root() as root:
        root.addHandler(logging.StreamHandler(Written()))
        written = Written()

        assert configure_logging(stream=written, force=True) is True
        plain.warning("x")

        assert len(root.handlers) == 1
    assert written.last["event"] == "x"


def test_configuring_again_replaces_what_was_there():
    """Two calls make no two lines; the second one counts."""
    with logs("ERROR") as first:
        second = Written()
        assert configure_logging("INFO", stream=second)
        log.info("x")

    assert first.lines == []
    assert len(second.lines) == 1


def test_many_threads_may_configure():
    """There is one handler at the end."""
    with bare_root() as root:
        written = Written()
        threads = [
            threading.Thread(target=configure_logging, kwargs={"stream": written}) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(root.handlers) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [({"level": "loud"}, "'loud' is no level"), ({"format": "xml"}, "'xml' is no format")],
)
def test_levels_and_formats_that_are_none_are_refused(options, message):
    """Nothing is changed then."""
    with bare_root() as root:
        with pytest.raises(ValueError, match=message):
            configure_logging(**options)
        assert root.handlers == []


def test_a_queue_between_loses_nothing():
    """A host's QueueHandler carries values and ids to the thread that writes."""
    waiting: queue.Queue[logging.LogRecord] = queue.Queue()
    with bare_root() as root:
        handler = logging.handlers.QueueHandler(waiting)
        root.addHandler(handler)
        root.setLevel("INFO")
        configure_logging()
        with bound_context(execution_id="e1"):
            log.info("bought", amount=3)

    record: Any = waiting.get_nowait()
    assert record.getMessage() == "bought amount=3"
    assert (record.execution_id, record.amount) == ("e1", 3)


def test_loggers_carry_values_and_bind_more():
    """`get_logger(…, k=v)` and `.bind` put values on each line of a logger."""
    with logs() as written:
        own = get_logger(venue="kraken").bind(symbol="BTC")
        own.info("x")

    assert (written.last["venue"], written.last["symbol"]) == ("kraken", "BTC")
    assert written.last["logger"] == __name__


async def test_asynchronous_methods_have_the_ids_too():
    """`await log.ainfo(…)` writes in a thread, with the context of the task."""
    with logs() as written, bound_context(execution_id="e1"):
        await log.ainfo("x")

    assert written.last["execution_id"] == "e1"
