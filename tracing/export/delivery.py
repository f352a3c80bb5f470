"""One load on its way to one target: made into spans, sent, and split where something is refused.

Order is kept: what comes back is how many items, from the first on, need not be sent again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby
from typing import Final, Protocol

from tracing.export.model import Answer, OutSpan, Route, Target
from tracing.export.verdict import Kind, Verdict, judge
from tracing.names import SCORE
from tracing.store.load import Item

_TOO_LARGE: Final = 413


class Wire(Protocol):
    """Carries spans to one target. Never raises."""

    def send(self, spans: Sequence[OutSpan], route: Route, timeout: float) -> Answer:
        """Send *spans* in one request; take at most *timeout* seconds."""

    def send_scores(self, items: Sequence[Item], route: Route, timeout: float) -> Answer:
        """Send scores, where the target has a place of its own for them."""

    @property
    def takes_scores(self) -> bool:
        """Whether it has."""

    def spans(self, items: Sequence[Item], route: Route) -> list[list[OutSpan]]:
        """Return the spans that each of *items* is made of."""

    def close(self) -> None:
        """Let go of connections."""


@dataclass
class Outcome:
    """What became of a load.

    Attributes:
        done: Items, from the first on, that need not be sent again.
        verdict: Why the next one could not be sent; None: all were.
        aside: Row numbers of records that the target will never take, with the reason.
        rejected: Spans that the target refused while it took the rest of a request.
        said: What it said about these.
        too_large: Whether the last request was too large for the target.
    """

    done: int = 0
    verdict: Verdict | None = None
    aside: list[tuple[int, str]] = field(default_factory=list)
    rejected: int = 0
    said: str = ""
    too_large: bool = False


class Delivery:
    """Sends loads to one target.

    Args:
        target: Where to.
        wire: How.
    """

    def __init__(self, target: Target, wire: Wire) -> None:
        self._target = target
        self._wire = wire
        self._fits: int | None = None
        """Items that have fitted into a request, after one that was too large."""
        self._works = False
        """Whether the target has ever taken something, so that a refusal is about the content."""

    def deliver(self, items: Sequence[Item], timeout: Callable[[], float]) -> Outcome:
        """Send *items*, in as many requests as it takes.

        Args:
            items: What to send.
            timeout: Says how many seconds the next request may take; 0 or less ends it.
        """
        outcome = Outcome()
        for part in _alike(items, self._wire.takes_scores):
            waiting = [part]
            while waiting:
                some = waiting.pop()
                if self._fits is not None and len(some) > self._fits:
                    waiting += _cut(some, self._fits)
                    continue
                seconds = timeout()
                if seconds <= 0:
                    outcome.verdict = Verdict(Kind.RETRY, "there was no time left")
                    return outcome
                verdict = self._send(some, seconds, outcome)
                if verdict.kind is Kind.SPLIT:
                    if outcome.too_large:
                        self._fits = max(1, len(some) // 2)
                    middle = len(some) // 2
                    waiting += [some[middle:], some[:middle]]
                elif verdict.kind is Kind.DONE:
                    outcome.done += len(some)
                else:
                    outcome.verdict = verdict
                    return outcome
        return outcome

    def _send(self, items: Sequence[Item], timeout: float, outcome: Outcome) -> Verdict:
        """Send *items* in one request; one alone is dealt with here, whatever comes back."""
        route = _route(items[0].shape)
        if self._wire.takes_scores and items[0].span.kind == SCORE:
            verdict = judge(self._wire.send_scores(items, route, timeout), len(items))
        else:
            groups = self._wire.spans(items, route)
            spans = [span for group in groups for span in group]
            verdict = self._try(spans, route, timeout, outcome)
            if verdict.kind is Kind.SPLIT and len(items) == 1:
                return self._one_by_one(items[0], spans, route, timeout, outcome)
        if verdict.kind is Kind.POISON:
            outcome.aside.append((items[0].row, _reason(items[0].span.name, verdict)))
            return Verdict(Kind.DONE)
        return verdict

    def _one_by_one(
        self, item: Item, spans: list[OutSpan], route: Route, timeout: float, outcome: Outcome
    ) -> Verdict:
        """Send the spans of one record alone, so that only the bad ones among them are lost."""
        for span in spans:
            verdict = self._try([span], route, timeout, outcome)
            if verdict.kind is Kind.POISON:
                outcome.aside.append((item.row, _reason(span.name, verdict)))
            elif verdict.kind is not Kind.DONE:
                return verdict
        return Verdict(Kind.DONE)

    def _try(
        self, spans: Sequence[OutSpan], route: Route, timeout: float, outcome: Outcome
    ) -> Verdict:
        answer = self._wire.send(spans, route, timeout)
        verdict = judge(answer, len(spans))
        outcome.too_large = answer.status == _TOO_LARGE
        if verdict.kind is Kind.DONE:
            self._works = True
            if verdict.rejected:
                outcome.rejected += verdict.rejected
                outcome.said = verdict.why
        elif verdict.kind in (Kind.SPLIT, Kind.POISON) and not self._is_about_content(
            answer, route, timeout
        ):
            return Verdict(Kind.REFUSED, verdict.why, retry_after=verdict.retry_after)
        return verdict

    def _is_about_content(self, answer: Answer, route: Route, timeout: float) -> bool:
        """Tell whether a refusal is about these spans: a request that has none is taken.

        An address that is no OTLP receiver refuses everything; then nothing is to be set aside.
        """
        if not self._works and answer.status != _TOO_LARGE:
            empty = judge(self._wire.send([], route, timeout), 1)
            self._works = empty.kind is Kind.DONE
        return self._works or answer.status == _TOO_LARGE


@lru_cache(maxsize=64)
def _route(shape: str) -> Route:
    return Route.of_shape(shape)


def _alike(items: Sequence[Item], scores_apart: bool) -> Iterator[list[Item]]:
    """Yield runs of items that can be in one request."""

    def sort(item: Item) -> tuple[str, bool]:
        return item.shape, scores_apart and item.span.kind == SCORE

    for _, run in groupby(items, sort):
        yield list(run)


def _cut(items: list[Item], size: int) -> list[list[Item]]:
    """Return *items* in pieces of *size*, the first one last: they are taken from the end."""
    return [items[at : at + size] for at in range(0, len(items), size)][::-1]


def _reason(name: str, verdict: Verdict) -> str:
    return f"{name}: {verdict.why}"
