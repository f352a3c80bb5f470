r"""A test kit: see what ran in your tests, and let waits and timeouts take no time.

In pytest, two fixtures are there as soon as the package is installed::

    def test_checkout(traces, fake_clock):
        fake_clock.run(checkout().run_async({"cart": [1, 2]}))  # retries wait no real second

        trace = traces.one("Checkout")
        assert str(trace) == (
            "flow Checkout: completed\n"
            "  node Fetch: completed, 3 attempts\n"
            "  node Pay: completed\n"
        )
        expect(trace.find("Fetch")).attempts(3).parent("Checkout").output({"total": 3})

Without pytest::

    with capture() as traces:
        run(flow.run_async({}))
    expect(traces.one()).outcome("completed")

Traces go into memory. What is recorded anyway, by flows decorated before the test too, is captured,
unless its config names a store of its own.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracing.testing.capturing import Traces, capture
    from tracing.testing.clock import FakeClock, fake_clock, run
    from tracing.testing.expecting import Expectation, expect
    from tracing.testing.loop import FakeLoop
    from tracing.testing.seen import SeenSpan, SeenTrace

# Loaded when first used: pytest imports the plugin, and so this, in every project.
_WHERE = {
    "Expectation": "expecting",
    "FakeClock": "clock",
    "FakeLoop": "loop",
    "SeenSpan": "seen",
    "SeenTrace": "seen",
    "Traces": "capturing",
    "capture": "capturing",
    "expect": "expecting",
    "fake_clock": "clock",
    "run": "clock",
}

__all__ = [
    "Expectation",
    "FakeClock",
    "FakeLoop",
    "SeenSpan",
    "SeenTrace",
    "Traces",
    "capture",
    "expect",
    "fake_clock",
    "run",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
