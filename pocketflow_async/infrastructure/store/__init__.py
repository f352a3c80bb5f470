"""One place for state, emergencies, runs and journals: in memory, on disk, or in PostgreSQL."""

import importlib
from typing import TYPE_CHECKING, Any

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
_WHERE = {name: module for module, names in _MODULES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    # Loaded when they are asked for: not everybody stores something.
    module = _WHERE.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
