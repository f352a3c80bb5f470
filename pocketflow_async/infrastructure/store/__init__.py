"""One place for state, emergencies, runs and journals: in memory, on disk, or in PostgreSQL."""

from typing import TYPE_CHECKING

from pocketflow_async.lazily import lazily as _lazily

if TYPE_CHECKING:
    from pocketflow_async.infrastructure.store.errors import (
        LeaseLost,
        NotANumberError,
        OutOfOrderError,
        RunExists,
        StoreError,
        StoreUnavailable,
        UnstorableError,
    )
    from pocketflow_async.infrastructure.store.memory import MemoryStore
    from pocketflow_async.infrastructure.store.model import (
        EmergencyRow,
        Entry,
        EventRow,
        RunRow,
        Store,
    )
    from pocketflow_async.infrastructure.store.opening import open_store
    from pocketflow_async.infrastructure.store.postgres import PostgresStore
    from pocketflow_async.infrastructure.store.sqlite import SqliteStore

__all__ = [
    "EmergencyRow",
    "Entry",
    "EventRow",
    "LeaseLost",
    "MemoryStore",
    "NotANumberError",
    "OutOfOrderError",
    "PostgresStore",
    "RunExists",
    "RunRow",
    "SqliteStore",
    "Store",
    "StoreError",
    "StoreUnavailable",
    "UnstorableError",
    "open_store",
]

_MODULES = {
    "errors": (
        "LeaseLost NotANumberError OutOfOrderError RunExists StoreError StoreUnavailable "
        "UnstorableError"
    ),
    "memory": "MemoryStore",
    "model": "EmergencyRow Entry EventRow RunRow Store",
    "opening": "open_store",
    "postgres": "PostgresStore",
    "sqlite": "SqliteStore",
}

# Loaded when they are asked for: not everybody stores something.
__getattr__, __dir__ = _lazily(__name__, _MODULES)
