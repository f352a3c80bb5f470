"""The two ways to a target: over the network, or into an OpenTelemetry SpanProcessor in here."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from tracing.export.attributes import shared_attributes
from tracing.export.delivery import Wire
from tracing.export.expand import expand
from tracing.export.model import Answer, OutSpan, Route, Target
from tracing.export.transport import Transport, connect
from tracing.store.load import Item

_PIECE: Final = 200
"""Spans that are made or encoded in one go: about half a millisecond …"""
_PAUSE: Final = 0.0001
"""… and seconds that others have the interpreter then. Without it they get it after 5 ms only."""


def wire_to(target: Target) -> Wire:
    """Return the way to *target*; nothing is sent yet.

    Raises:
        MissingExtra: Its protocol needs a package that is not installed.
    """
    return ProcessorWire(target) if target.protocol == "processor" else NetworkWire(target)


class _Breath:
    """Lets go of the interpreter now and then, so that a flow does not wait for its turn."""

    def __init__(self) -> None:
        self._left = _PIECE

    def __call__(self) -> None:
        self._left -= 4  # a node with its three phases
        if self._left <= 0:
            self._left = _PIECE
            time.sleep(_PAUSE)


class _Expanding:
    """Makes the spans of items, and what the spans of a trace share but once."""

    def __init__(self, target: Target) -> None:
        self.target = target

    @property
    def takes_scores(self) -> bool:
        """Whether scores go elsewhere than spans."""
        return False

    def spans(self, items: Sequence[Item], route: Route) -> list[list[OutSpan]]:
        """Return the spans that each of *items* is made of."""
        dialect = self.target.dialect
        pause = _Breath()
        shared: dict[str, Mapping[str, Any]] = {}
        found = []
        for item in items:
            trace = item.facts.trace_id
            pause()
            if trace not in shared:
                shared[trace] = shared_attributes(item.facts, route, dialect)
            found.append(
                expand(
                    item.span,
                    item.facts,
                    item.within,
                    route,
                    dialect,
                    shared[trace],
                    foreign=item.foreign,
                    state=item.state,
                )
            )
        return found


class NetworkWire(_Expanding):
    """OTLP over HTTP or gRPC; scores of Langfuse go to an address of their own."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._transport = connect(target)
        self._scores: Transport | None = None

    @property
    def takes_scores(self) -> bool:
        """Whether scores go elsewhere than spans."""
        return self.target.dialect == "langfuse"

    def send(self, spans: Sequence[OutSpan], route: Route, timeout: float) -> Answer:
        """Send *spans* in one request; take at most *timeout* seconds."""
        return self._transport.send(self._content(spans, route.resource), timeout)

    def _content(self, spans: Sequence[OutSpan], resource: Mapping[str, Any]) -> bytes:
        """Encode a request, in pieces where that is allowed: messages of protobuf simply add up."""
        if self.target.protocol == "http/json" or len(spans) <= _PIECE:
            return self._transport.content(spans, resource)
        pieces = []
        for at in range(0, len(spans), _PIECE):
            pieces.append(self._transport.content(spans[at : at + _PIECE], resource))
            time.sleep(_PAUSE)
        return b"".join(pieces)

    def send_scores(self, items: Sequence[Item], route: Route, timeout: float) -> Answer:
        """Send scores to Langfuse."""
        from tracing.export.scores import requests_for  # noqa: PLC0415 (for those who judge)

        answer = Answer(200)
        for request in requests_for(self.target, items, singly=len(items) == 1):
            if self._scores is None:
                self._scores = connect(
                    replace(
                        self.target,
                        endpoint=request.url,
                        protocol="http/json",
                        compression="none",
                        headers=dict(request.headers),
                    )
                )
            answer = self._scores.send(request.body, timeout)
            if answer.status is None or not 200 <= answer.status < 300:
                return answer
        return answer

    def close(self) -> None:
        """Let go of connections."""
        self._transport.close()
        if self._scores is not None:
            self._scores.close()


class ProcessorWire(_Expanding):
    """Hands spans to a SpanProcessor of this process."""

    def __init__(self, target: Target) -> None:
        from tracing.otel.outbound import deliver  # noqa: PLC0415 (OpenTelemetry's SDK)

        super().__init__(target)
        self._deliver = deliver

    def send(self, spans: Sequence[OutSpan], route: Route, timeout: float) -> Answer:
        """Hand *spans* over."""
        return self._deliver(self.target, spans, route.resource)

    def send_scores(self, items: Sequence[Item], route: Route, timeout: float) -> Answer:
        """Never called: scores go as spans."""
        return _NOWHERE

    def close(self) -> None:
        """Leave the processor to its owner."""


_NOWHERE: Final = Answer(400, "a processor takes no scores")
