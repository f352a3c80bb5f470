"""OpenTelemetry in this process: our position as its context, its spans in our store, and back.

Use it so: `provider.add_span_processor(RecordingProcessor())`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracing.otel.carriers import child_environment, incoming, outgoing
    from tracing.otel.inbound import RecordingProcessor

# Loaded when first used: it needs OpenTelemetry, and the recorder needs this package without it.
_WHERE = {
    "RecordingProcessor": "inbound",
    "child_environment": "carriers",
    "incoming": "carriers",
    "outgoing": "carriers",
}

__all__ = ["RecordingProcessor", "child_environment", "incoming", "outgoing"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
