"""What an answer means for the spans that were sent, and how long to wait then."""

from __future__ import annotations

import enum
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tracing.export.model import Answer

_random = random.Random()  # not the one of the module, whose seed belongs to the program
_AGAIN: Final = frozenset({408, 425, 429})
_CONTENT: Final = frozenset({400, 413, 422})


class Kind(enum.Enum):
    """What to do with the spans of a request."""

    DONE = "done"
    """They have arrived; those that the server refused for good are counted in the answer."""
    RETRY = "retry"
    """Send them again, after a while."""
    SPLIT = "split"
    """Something in them is refused: send them in halves, to find out what."""
    POISON = "poison"
    """This one span is what is refused: set it aside, and report it."""
    REFUSED = "refused"
    """The settings are wrong, not the spans: keep them all, say so, and try again rarely."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an answer means.

    Attributes:
        kind: What to do with the spans.
        why: What came back, in one line; empty if all is well.
        rejected: Spans that the server refused for good while it took the rest.
        retry_after: Seconds that the server asks to wait; None: it did not.
    """

    kind: Kind
    why: str = ""
    rejected: int = 0
    retry_after: float | None = None


def judge(answer: Answer, spans: int) -> Verdict:
    """Say what *answer* means for a request of so many *spans*.

    Only a status that blames the content costs a span: whatever else is wrong, nothing is given up.

    Args:
        answer: What came back.
        spans: How many the request had.
    """
    kind = _kind(answer, spans)
    rejected = answer.rejected if kind is Kind.DONE else 0
    return Verdict(kind, answer.said, rejected, answer.retry_after)


def _kind(answer: Answer, spans: int) -> Kind:
    status = answer.status
    if status is None:
        return Kind.RETRY
    if status in _CONTENT:
        return Kind.SPLIT if spans > 1 else Kind.POISON
    if 400 <= status < 500 and status not in _AGAIN:
        return Kind.REFUSED
    return Kind.DONE if 200 <= status < 300 and answer.valid else Kind.RETRY


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait after a request that failed: exponential, with full jitter.

    After failure number n the wait is a random part of `min(cap, first * 2 ** (n - 1))` seconds,
    but never less than the server asked for.

    Attributes:
        first: Upper bound of the first wait, in seconds.
        cap: Upper bound of any wait that the server did not ask for, in seconds.
        longest: Most that the server may ask for, in seconds.
        refused: Wait after an answer that only new settings can change, in seconds.
        random: Gives a number from 0 to 1.
    """

    first: float = 1.0
    cap: float = 60.0
    longest: float = 300.0
    refused: float = 60.0
    random: Callable[[], float] = _random.random

    def wait(self, verdict: Verdict, failures: int) -> float:
        """Say how many seconds to wait.

        Args:
            verdict: What became of the last request.
            failures: How many in a row have failed, the last one included.
        """
        if verdict.kind not in (Kind.RETRY, Kind.REFUSED):
            return 0.0
        asked = min(max(verdict.retry_after or 0.0, 0.0), self.longest)
        if verdict.kind is Kind.REFUSED:
            return max(asked, self.refused)
        doubled = self.first * 2.0 ** min(max(failures - 1, 0), 60)
        return max(asked, self.random() * min(self.cap, doubled))
