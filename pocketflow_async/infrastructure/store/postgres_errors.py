"""What PostgreSQL's errors mean: whether to try again, and what to tell. Pure."""

from __future__ import annotations

from typing import Any, Final

from pocketflow_async.infrastructure.store.errors import (
    StoreError,
    StoreUnavailable,
    UnstorableError,
)
from pocketflow_async.needing import need

_UNDONE: Final = frozenset({"40001", "40P01", "55P03", "57014"})
"""States in which a statement surely was not done, and may be next time."""
_AWAY: Final = frozenset({"57P01", "57P02", "57P03", "57P05", "53300", "25006"})
"""States in which the server ends, begins, is too busy, or is no primary; and all of class 08."""
_ADVICE: Final = {
    "28": ("lets nobody in so", "Look at the user, the password and pg_hba.conf"),
    "3D": ("has no such database", "Make it with `createdb`"),
    "42501": ("does not allow that", "GRANT the user CREATE on the database, or on the schema"),
    "42P01": ("has lost its tables", "Restore them, or start again with another schema"),
    "42P07": ("has tables of something else in this schema", "Give a schema of its own"),
    "53100": ("has no room left: the disk is full", "Make room on the server's disk"),
    "53200": ("needs more memory than there is", ""),
}


def is_lost(error: BaseException) -> bool:
    """Return whether it is not known what became of the statement, or the server is not there."""
    if isinstance(error, StoreError):
        return False
    asyncpg = need("asyncpg", "workflow")
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        return state in _AWAY or state.startswith("08")
    if isinstance(error, asyncpg.InterfaceError):
        # Also raised for mistakes of ours, which are ValueErrors, as are bad addresses.
        return not isinstance(error, ValueError)
    # The last: the server has said that it ends, and asyncpg has not seen the connection end yet.
    return isinstance(error, OSError | asyncpg.InternalClientError)


def is_undone(error: BaseException) -> bool:
    """Return whether the statement was surely not done, and may be done next time."""
    return getattr(error, "sqlstate", None) in _UNDONE


def is_told_already(error: BaseException) -> bool:
    """Return whether the token of a change is there already: it has been kept."""
    return getattr(error, "constraint_name", None) == "outcomes_pkey"


def meaning(error: BaseException, where: str, *, unknown: bool = False) -> BaseException:
    """Return what is to be raised for *error*.

    Args:
        error: What asyncpg has raised.
        where: The server and database.
        unknown: Whether it is not known if a change was kept.
    """
    if isinstance(error, StoreError):
        return error
    asyncpg = need("asyncpg", "workflow")
    doubt = "It is not known whether the last change was kept" if unknown else ""
    if is_lost(error):
        said = getattr(error, "strerror", None) or str(error) or "no answer in time"
        return StoreUnavailable(where, f"cannot be reached: {said}", doubt or "Is it running?")
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        if state.startswith(("22", "54")):  # what was given, or how much
            return UnstorableError("a value", f"is not taken by PostgreSQL ({error})")
        why, advice = _ADVICE.get(state) or _ADVICE.get(state[:2]) or ("refuses", "")
        return StoreUnavailable(where, f"{why}: {error}", doubt or advice)
    if isinstance(error, asyncpg.InterfaceError | OverflowError):
        return UnstorableError("a value", f"is not taken by PostgreSQL ({error})")
    return error


def place(url: str, schema: str) -> str:
    """Return what an address says without user and password."""
    # Not urlsplit: in an address with a password that is not quoted it finds other parts.
    head, _, query = url.partition("?")
    at = head.partition("://")[2]
    if "@" in at:
        at = at.rpartition("@")[2]
    elif "@" in query:
        at = ""
    return f"postgresql://{at}, schema {schema!r},"


def server_settings(schema: str) -> dict[str, Any]:
    """Return what each connection is set to."""
    escaped = '"' + schema.replace('"', '""') + '"'
    return {
        "application_name": f"pocketflow {schema}",
        "search_path": escaped,
        "synchronous_commit": "on",  # what has been acknowledged outlives a loss of power
        "default_transaction_isolation": "read committed",
        "idle_in_transaction_session_timeout": "30000",
        "jit": "off",
    }
