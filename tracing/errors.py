"""What tracing raises, when it is asked something it cannot answer. A run never sees these.

TracingError
└── StoreError
    ├── StoreMissing      there is no file
    ├── StoreUnreadable   there is one, but it cannot be read as a trace store
    ├── TraceNotFound     no trace has this id
    └── AmbiguousTrace    several traces have ids that start like this
"""

from __future__ import annotations

from collections.abc import Sequence


class TracingError(Exception):
    """Base class of all errors of `tracing`."""


class StoreError(TracingError):
    """Something about a trace store."""


class StoreMissing(StoreError):
    """There is no trace store at this path."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"there is no trace store at {path}. Run a traced flow first, or set "
            "POCKETFLOW_TRACE_STORE to the file that your flows write."
        )
        self.path = path


class StoreUnreadable(StoreError):
    """The file exists but does not give its traces."""

    def __init__(self, path: str, cause: str) -> None:
        super().__init__(
            f"cannot read the trace store {path}: {cause}. Check the file and its permissions, or "
            "set POCKETFLOW_TRACE_STORE to another file."
        )
        self.path = path
        self.cause = cause


class TraceNotFound(StoreError):
    """No trace in the store has this id."""

    def __init__(self, trace_id: str) -> None:
        super().__init__(
            f"no trace has an id that starts with {trace_id!r}. List the traces to see their ids; "
            "old ones are deleted by the store's limits of age and size."
        )
        self.trace_id = trace_id


class AmbiguousTrace(StoreError):
    """Several traces have ids with this beginning."""

    def __init__(self, prefix: str, candidates: Sequence[str]) -> None:
        super().__init__(
            f"several traces have ids that start with {prefix!r}: {', '.join(candidates)}, …. "
            "Give more digits."
        )
        self.prefix = prefix
        self.candidates = tuple(candidates)
