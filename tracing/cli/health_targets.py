"""Each target, really asked: one small span is sent to it, and what comes back is judged."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tracing.cli import advice, words
from tracing.cli.findings import Section
from tracing.errors import TracingError
from tracing.export.address import TRACES_PATH, told
from tracing.export.attributes import shared_attributes
from tracing.export.expand import expand
from tracing.export.model import Answer, OutSpan, Route, Target
from tracing.export.transport import connect
from tracing.export.verdict import Kind, judge
from tracing.ids import new_span_id, new_trace_id
from tracing.record import COMPLETED
from tracing.store.model import Span, TraceFacts

NAME: Final = "pocketflow-async doctor"
TIMEOUT: Final = 10.0
_GRPC_PORT, _HTTP_PORT = 4317, 4318


@dataclass(frozen=True, slots=True)
class Asked:
    """A target, what it answered, and how long that took, in seconds; None: it was not asked."""

    target: Target
    answer: Answer | None = None
    took: float = 0.0


def look(
    route: Route | None, *, offline: bool, ask: Callable[[Target, Route], Asked] | None = None
) -> tuple[Section, list[Asked]]:
    """Return what is to be said about the targets, and what they answered.

    Args:
        route: From the settings; None: these cannot be read.
        offline: Whether nothing is sent.
        ask: Sends a span to a target; default: over the network.
    """
    section = Section("targets")
    found: list[Asked] = []
    if route is None:
        section.add("targets", "not known: the settings cannot be read", "note")
    elif not route.targets:
        section.add("targets", "none: traces stay in the local store", "note")
    else:
        found = [_one(section, target, route, offline, ask or send) for target in route.targets]
    return section, found


def _one(
    section: Section,
    target: Target,
    route: Route,
    offline: bool,
    ask: Callable[[Target, Route], Asked],
) -> Asked:
    where = f"{told(target.endpoint)} ({target.protocol})"
    if target.protocol == "processor":
        section.add(target.name, f"{target.endpoint}: lives in your program, not asked", "note")
        return Asked(target)
    if offline:
        section.add(target.name, f"{where}: not asked", "note", _mismatch(target))
        return Asked(target)
    try:
        asked = ask(target, route)
    except TracingError as error:  # a package is missing
        section.add(target.name, str(error), "wrong")
        return Asked(target)
    _judged(section, asked, where)
    return asked


def _judged(section: Section, asked: Asked, where: str) -> None:
    answer = asked.answer
    if answer is None:
        return
    verdict = judge(answer, 1)
    took = words.duration(round(asked.took * 1e9))
    label, said = asked.target.name, words.one_line(answer.said)
    fix = advice.advise(asked.target, answer, os.environ)
    if verdict.kind is Kind.DONE and not answer.rejected:
        section.add(label, f"{where} took a span in {took}{f': {said}' if said else ''}")
    else:
        what = said or f"it answered {answer.status}"
        place = "" if told(asked.target.endpoint) in what else f"{where}: "
        section.add(label, f"{place}{what} (after {took})", "wrong", fix)


def _mismatch(target: Target) -> str:
    """Return what looks wrong with the address alone."""
    if target.protocol == "grpc" and f":{_HTTP_PORT}" in target.endpoint:
        return f"port {_HTTP_PORT} is usually HTTP, and gRPC {_GRPC_PORT}"
    if target.protocol != "grpc" and f":{_GRPC_PORT}" in target.endpoint:
        return f"port {_GRPC_PORT} is usually gRPC, and HTTP {_HTTP_PORT}"
    if target.endpoint.endswith(TRACES_PATH * 2):
        return f"leave out {TRACES_PATH} in OTEL_EXPORTER_OTLP_ENDPOINT: it is added"
    return ""


def send(target: Target, route: Route) -> Asked:
    """Send one span to *target*.

    Raises:
        MissingExtra: A package that it needs is not installed.
    """
    transport = connect(target)
    try:
        body = transport.content(_spans(target, route), route.resource)
        started = time.perf_counter()
        answer = transport.send(body, min(target.timeout, TIMEOUT))
        return Asked(target, answer, time.perf_counter() - started)
    finally:
        transport.close()


def _spans(target: Target, route: Route) -> list[OutSpan]:
    now = time.time_ns()
    trace = f"{new_trace_id():032x}"
    span = Span(
        trace, f"{new_span_id():016x}", None, "span", NAME, None, now, now + 1_000, COMPLETED
    )
    facts = TraceFacts(trace, NAME)
    shared = shared_attributes(facts, route, target.dialect)
    return expand(span, facts, None, route, target.dialect, shared)
