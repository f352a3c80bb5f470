"""Capture in memory what is traced, in place of the store that the environment names."""

from __future__ import annotations

import itertools
import os
from collections.abc import Generator
from contextlib import contextmanager

from tracing.redact import Redactor
from tracing.store import TraceReader, TraceStore
from tracing.store.location import MEMORY, VARIABLE
from tracing.testing.seen import SeenSpan, SeenTrace, the_only

_numbers = itertools.count(1)
_FLUSH = 30.0  # seconds; it takes milliseconds
_ALL = 1_000_000


class Traces:
    """The traces of one capture.

    Each question is a fresh look: whatever has been traced by then is there, running flows too.
    """

    def __init__(self, store: TraceStore) -> None:
        self._store = store
        self._forgotten: frozenset[str] = frozenset()

    def all(self) -> list[SeenTrace]:
        """Return the traces, the one that began first at the head.

        Raises:
            RuntimeError: Some of what was recorded could not be kept.
        """
        counts = self._store.flush(_FLUSH)
        if counts.failed or counts.dropped:
            raise RuntimeError(f"not all that was recorded could be kept: {counts}")
        reader = TraceReader(self._store)
        ids = [found.trace_id for found in reversed(reader.traces(_ALL))]
        return [SeenTrace(reader.trace(key)) for key in ids if key not in self._forgotten]

    def one(self, name: str | None = None) -> SeenTrace:
        """Return the only trace, or the only one of the name.

        Raises:
            AssertionError: There is none, or more than one; the message lists what is there.
        """
        __tracebackhide__ = True
        return the_only(self.all(), "trace", name, str(self) or "nothing was traced")

    def find(self, name: str) -> SeenSpan:
        """Return the only span of the name in all traces.

        Raises:
            AssertionError: There is none, or more than one; the message shows what is there.
        """
        __tracebackhide__ = True
        found = [span for trace in self.all() for span in trace.find_all(name)]
        return the_only(found, "span", name, str(self) or "nothing was traced")

    def clear(self) -> None:
        """Forget what was traced so far, running traces included."""
        self._forgotten |= {trace.id for trace in self.all()}

    def tree(self, *, times: bool = False, phases: bool = False, contents: bool = False) -> str:
        """Return all traces as text; see `SeenTrace.tree`."""
        trees = (trace.tree(times=times, phases=phases, contents=contents) for trace in self.all())
        return "".join(trees)

    def __str__(self) -> str:
        return self.tree()

    def __len__(self) -> int:
        return len(self.all())


@contextmanager
def capture() -> Generator[Traces, None, None]:
    """Capture in memory what is traced while the block lasts, by any thread of the process.

    Everything that goes to the store named by the environment is redirected, whenever its
    `trace_flow` was written; a config with a `store=` of its own keeps it. Captures may be nested:
    the inner one takes all. Afterwards the traces can still be looked at.
    """
    name = f"{MEMORY}:capture {next(_numbers)}"
    store = TraceStore.at(name, redact=Redactor(), open_after=0.0)
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = name
    try:
        yield Traces(store)
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before
        store.close(_FLUSH)
