"""What a test expects of a span; a failure says what was there and shows the tree around it.

::

    expect(trace.find("Pay")).outcome("failed").attempts(3).raised(PaymentError, match="declined")
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from tracing.encode import encode
from tracing.record import Failure
from tracing.testing.seen import SeenSpan, SeenTrace

_MOST = 1 << 24  # bytes of an expected value
_ERROR = type[BaseException] | tuple[type[BaseException], ...]


def expect(seen: SeenSpan | SeenTrace) -> Expectation:
    """Begin a chain of expectations about a span, or about the root of a trace."""
    return Expectation(seen.root if isinstance(seen, SeenTrace) else seen)


class Expectation:
    """Each method returns the expectation again, or raises AssertionError."""

    def __init__(self, span: SeenSpan) -> None:
        self._span = span

    def outcome(self, expected: str) -> Expectation:
        """Expect one of `record.OUTCOMES`, such as completed or failed, running or interrupted."""
        __tracebackhide__ = True
        error = self._span.error
        said = "" if error is None else f" ({_shown(error)})"
        return self._same("outcome", expected, self._span.outcome, said)

    def kind(self, expected: str) -> Expectation:
        """Expect a flow, node, item, function, workflow or span."""
        __tracebackhide__ = True
        return self._same("kind", expected, self._span.kind)

    def attempts(self, expected: int) -> Expectation:
        """Expect that exec was tried so many times."""
        __tracebackhide__ = True
        return self._same("attempts", expected, self._span.attempts)

    def phases(self, expected: Sequence[str]) -> Expectation:
        """Expect these phases in this order, each attempt being an `exec`."""
        __tracebackhide__ = True
        return self._same("phases", list(expected), [phase.kind for phase in self._span.phases])

    def fell_back(self, expected: bool = True) -> Expectation:
        """Expect that the fallback was asked, or was not."""
        __tracebackhide__ = True
        return self._same("fell_back", expected, self._span.fell_back)

    def parent(self, expected: str | None) -> Expectation:
        """Expect the name of the span around it; None for a root."""
        __tracebackhide__ = True
        parent = self._span.parent
        return self._same("parent", expected, None if parent is None else parent.name)

    def children(self, expected: Sequence[str]) -> Expectation:
        """Expect children of these names, in order of their beginning."""
        __tracebackhide__ = True
        return self._same("children", list(expected), [child.name for child in self._span.children])

    def action(self, expected: Any) -> Expectation:
        """Expect the action that a node's post returned."""
        __tracebackhide__ = True
        return self._same("action", expected, self._span.attributes.get("action"))

    def attribute(self, name: str, expected: Any) -> Expectation:
        """Expect the attribute *name* to have, or to satisfy, a value; see `input`."""
        __tracebackhide__ = True
        return self._content(f"attribute {name!r}", expected, self._span.attributes.get(name))

    def score(self, name: str, expected: Any) -> Expectation:
        """Expect the score *name* of the span to have, or to satisfy, a value; see `input`."""
        __tracebackhide__ = True
        return self._content(f"score {name!r}", expected, self._span.scores.get(name))

    def input(self, expected: Any) -> Expectation:
        """Expect what went in.

        Args:
            expected: A value, compared in the form in which it is recorded: tuples as lists,
                objects by their fields; or a function that is asked whether a value will do.
        """
        __tracebackhide__ = True
        return self._content("input", expected, self._span.input)

    def output(self, expected: Any) -> Expectation:
        """Expect what came out; see `input`."""
        __tracebackhide__ = True
        return self._content("output", expected, self._span.output)

    def raised(self, error: _ERROR, match: str | None = None) -> Expectation:
        """Expect that the span ended with an error.

        Args:
            error: Its class, a base of it, or several of which one must do.
            match: A regular expression to be found in the message.
        """
        __tracebackhide__ = True
        self._failure("error", self._span.error, error, match)
        return self

    def retried_after(self, *errors: _ERROR) -> Expectation:
        """Expect attempts that failed with these errors, and were followed by another one."""
        __tracebackhide__ = True
        failed = [phase for phase in self._span.phases if phase.wait is not None]
        self._same("retries", len(errors), len(failed))
        for number, (phase, error) in enumerate(zip(failed, errors, strict=True), 1):
            self._failure(f"error of attempt {number}", phase.error, error, None)
        return self

    def waited(self, *seconds: float) -> Expectation:
        """Expect these waits between the attempts, in seconds."""
        __tracebackhide__ = True
        waits = [phase.wait for phase in self._span.phases if phase.wait is not None]
        return self._same("waits", list(seconds), waits)

    def _same(self, what: str, expected: object, found: object, more: str = "") -> Expectation:
        __tracebackhide__ = True
        if expected != found:
            self._fail(what, repr(expected), f"{found!r}{more}")
        return self

    def _content(self, what: str, expected: Any, found: Any) -> Expectation:
        __tracebackhide__ = True
        if callable(expected) and not isinstance(expected, type):
            self._satisfies(what, expected, found)
        elif expected != found and _recorded(expected) != found:
            self._fail(what, repr(expected), repr(found))
        return self

    def _satisfies(self, what: str, test: Callable[[Any], object], found: Any) -> None:
        __tracebackhide__ = True
        if not test(found):
            name = getattr(test, "__name__", repr(test))
            self._fail(what, f"a value that {name} accepts", repr(found))

    def _failure(self, what: str, found: Failure | None, error: _ERROR, match: str | None) -> None:
        __tracebackhide__ = True
        classes = error if isinstance(error, tuple) else (error,)
        wanted = " or ".join(cls.__name__ for cls in classes)
        if match is not None:
            wanted += f" matching {match!r}"
        if found is None:
            self._fail(what, wanted, "none")
        elif found.type not in _names(classes) or not re.search(match or "", found.message):
            self._fail(what, wanted, _shown(found))

    def _fail(self, what: str, expected: str, found: str) -> None:
        __tracebackhide__ = True
        span = self._span
        top = span
        while top.parent is not None:
            top = top.parent
        raise AssertionError(
            f"{span.kind} {span.name!r}: expected {what} {expected}, found {found}. "
            f"The whole trace:\n{top.tree(phases=True)}"
        )


def _shown(error: Failure) -> str:
    return f"{error.type}: {error.message}"


def _recorded(value: Any) -> Any:
    return json.loads(encode(value, _MOST))


def _names(classes: tuple[type[BaseException], ...]) -> set[str]:
    """Return what errors of these classes, and of classes made from them, are recorded as."""
    waiting, seen = list(classes), set[type]()
    while waiting:
        cls = waiting.pop()
        if cls not in seen:
            seen.add(cls)
            waiting.extend(type.__subclasses__(cls))
    return {
        cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
        for cls in seen
    }
