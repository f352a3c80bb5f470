"""Scores on their way out: what Langfuse is asked to keep, and spans for everybody else. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import orjson

from tracing.export import attributes, langfuse
from tracing.export.expand import parent_of, scope
from tracing.export.model import OK, Dialect, OutSpan, Route, Target
from tracing.store.model import Span, TraceFacts, score

_MOST: Final = 15
"""Scores in one request, as the Langfuse SDK sends them."""
_LARGEST: Final = 900_000
"""Bytes of one request; the server takes 1 MiB."""
_OTLPS: Final = frozenset({"content-type", "content-encoding", "x-langfuse-ingestion-version"})
"""Headers that are about spans; others, such as those of a proxy, are needed here as well."""


class Scored(Protocol):
    """A score record as the spool hands it over."""

    @property
    def span(self) -> Span:
        """The record, of kind `score`."""

    @property
    def facts(self) -> TraceFacts:
        """Its trace."""

    @property
    def within(self) -> tuple[int, str] | None:
        """Number and kind of the phase that it is about; None: a record or the whole trace."""

    @property
    def shape(self) -> str:
        """The route of the trace, as `Route.of_shape` reads it."""


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """One request that asks Langfuse to keep scores.

    Attributes:
        url: Where it is sent to, by POST.
        headers: What it is sent with.
        body: JSON.
        items: What it carries, in order: those that were given.
    """

    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes
    items: tuple[Scored, ...]


def requests_for(
    target: Target, items: Sequence[Scored], *, singly: bool = False
) -> list[ScoreRequest]:
    """Return the requests that send score records to Langfuse.

    Each score has the record's id and time, so that sending it again changes nothing. The answer
    to a list is 202, or 207 with `accepted`, `rejected` and `errors`; what a 207 rejects is not to
    be sent again.

    Args:
        target: What `langfuse.target` has made.
        items: Records of kind `score`.
        singly: One request a score, the score itself and no list: what older servers take.
    """
    url = target.endpoint.partition(langfuse.OTEL)[0] + langfuse.SCORES
    headers = {name: value for name, value in target.headers.items() if name.lower() not in _OTLPS}
    headers["content-type"] = "application/json"
    bodies = [(item, orjson.dumps(payload(item))) for item in items]
    if singly:
        return [ScoreRequest(url, headers, body, (item,)) for item, body in bodies]
    return [
        ScoreRequest(
            url,
            headers,
            b"[" + b",".join(body for _, body in batch) + b"]",
            tuple(item for item, _ in batch),
        )
        for batch in _batches(bodies)
    ]


def payload(item: Scored) -> dict[str, Any]:
    """Return what Langfuse is told of one score."""
    route = Route.of_shape(item.shape)
    found = score(item.span)
    about = parent_of(item.span, item.within, route.shown)
    kind, value = _typed(found.value)
    said = {
        "id": found.score_id,
        "traceId": item.span.trace_id,
        "observationId": about.hex() if about else None,
        "name": attributes.text(found.name),
        "value": value,
        "dataType": kind,
        "comment": None if found.comment is None else attributes.text(found.comment),
        "environment": attributes.environment(route.resource),
        "timestamp": langfuse.moment(found.at_ns),
    }
    return {name: value for name, value in said.items() if value not in (None, "")}


def _typed(value: Any) -> tuple[str, float | str]:
    """Return Langfuse's word for the type of a score, and the score as it takes it."""
    if isinstance(value, bool):
        return "BOOLEAN", 1 if value else 0
    if attributes.is_number(value):
        return "NUMERIC", value
    return "CATEGORICAL", attributes.text(value)


def _batches(
    bodies: Sequence[tuple[Scored, bytes]],
) -> Iterator[list[tuple[Scored, bytes]]]:
    batch: list[tuple[Scored, bytes]] = []
    size = 2
    for item, body in bodies:
        if batch and (len(batch) == _MOST or size + len(body) + 1 > _LARGEST):
            yield batch
            batch, size = [], 2
        batch.append((item, body))
        size += len(body) + 1
    if batch:
        yield batch


def score_span(
    span: Span,
    facts: TraceFacts,
    route: Route,
    dialect: Dialect,
    shared: Mapping[str, Any],
    *,
    within: tuple[int, str] | None = None,
    state: str = "",
) -> OutSpan:
    """Return a score as a span that takes no time, below the span that it is about.

    One about the whole trace has no parent: its root is not known here.

    Args:
        span: The record, of kind `score`.
        facts: Its trace.
        route: Says which phases are shown.
        dialect: Whose attributes are added to those that everybody gets.
        shared: `shared_attributes` of the trace for this dialect.
        within: Number and kind of the phase that it is about, if it is about one.
        state: W3C tracestate that came with the trace.
    """
    found = score(span)
    own: dict[str, Any] = {
        "openinference.span.kind": "EVALUATOR",
        "flow.kind": span.kind,
        "gen_ai.evaluation.name": attributes.text(found.name),
    }
    if isinstance(found.value, bool):
        own["gen_ai.evaluation.score.label"] = "true" if found.value else "false"
    if isinstance(found.value, bool) or attributes.is_number(found.value):
        own["gen_ai.evaluation.score.value"] = float(found.value)
    else:
        own["gen_ai.evaluation.score.label"] = attributes.text(found.value)
    if found.comment:
        own["gen_ai.evaluation.explanation"] = attributes.text(found.comment)
    return OutSpan(
        bytes.fromhex(span.trace_id),
        bytes.fromhex(span.span_id),
        parent_of(span, within, route.shown),
        attributes.text(found.name or span.kind),
        span.start_ns,
        span.start_ns,
        own,
        attributes.narrowed(span.attributes, shared, dialect),
        OK,
        scope=scope(),
        state=state,
    )
