"""What becomes of that which a store is given: the same in every store. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Final

from pocketflow_async.infrastructure.store.errors import (
    LeaseLost,
    NotANumberError,
    OutOfOrderError,
    UnstorableError,
)
from pocketflow_async.infrastructure.store.model import EmergencyRow, Entry, EventRow, RunRow
from pocketflow_async.wording import a

RUN: Final = tuple(field.name for field in fields(RunRow))
ENTRY: Final = tuple(field.name for field in fields(Entry))
EVENT: Final = tuple(field.name for field in fields(EventRow))
EMERGENCY: Final = tuple(field.name for field in fields(EmergencyRow))
"""Names of the columns, in the order of the fields."""

_PROSE: Final = frozenset({"definition", "inputs", "result", "error", "output", "data", "at"})
_NAMES: Final = {
    cls: tuple(field.name for field in fields(cls) if field.name not in _PROSE)
    for cls in (RunRow, Entry, EventRow)
}
_LAST: Final = chr(0x10FFFF)
_WHOLE: Final = re.compile(rb"-?[0-9]+")


def name(what: str, text: str) -> str:
    """Return the *text* of a key or id, if every store can hold it.

    Raises:
        UnstorableError: It has a NUL or half a surrogate pair in it.
    """
    # isprintable is one quick look for nearly all of them.
    if not text.isprintable() and ("\0" in text or not _is_unicode(text)):
        raise UnstorableError(f"{what} {text!r}", "has a NUL or half a surrogate pair in it")
    return text


def prose(text: str | None) -> str | None:
    """Return *text* with U+FFFD for what not every store can hold.

    JSON stays JSON: it never has a bare NUL in it.
    """
    if text is None or (text.isascii() and "\0" not in text):
        return text
    whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return whole.replace("\0", "\ufffd")


def content(what: str, value: Any) -> bytes:
    """Return a copy of *value*, which is bytes or the like.

    Raises:
        UnstorableError: It is something else.
    """
    if type(value) is bytes:
        return value
    try:
        return memoryview(value).tobytes()
    except TypeError:
        raise UnstorableError(what, f"is {a(type(value).__name__)}, and no bytes") from None


def contents(values: Mapping[str, bytes] | None) -> dict[str, bytes]:
    """Return *values* as they are kept, in the order of the keys: no two writers lock crosswise."""
    if not values:
        return {}
    return {
        name("the key", key): content(f"the value of {key!r}", values[key])
        for key in sorted(values)
    }


def whole_number(key: str, value: bytes | None) -> int:
    """Return the number that *value* is; None: 0.

    Raises:
        NotANumberError: It is no whole number in decimal digits.
    """
    if value is None:
        return 0
    try:
        if _WHOLE.fullmatch(value):
            return int(value)
    except ValueError:  # it has more digits than Python reads
        pass
    raise NotANumberError(key)


def behind(prefix: str) -> str | None:
    """Return what is next, in order, to all that begins so; None: nothing is."""
    stem = prefix.rstrip(_LAST)
    if not stem:
        return None
    following = ord(stem[-1]) + 1
    return stem[:-1] + chr(0xE000 if following == 0xD800 else following)


# --- runs -----------------------------------------------------------------------------------------


def new_run(
    run: RunRow, now: float, lease: float, entries: Sequence[Entry], events: Sequence[EventRow]
) -> RunRow:
    """Return a new run as it is kept."""
    _check(run)
    owned = run.owner is not None
    return replace(
        run,
        fence=1 if owned else 0,
        lease_until=now + lease if owned else 0.0,
        created_at=now,
        updated_at=now,
        seq=following(run.run_id, "event", run.seq, [event.seq for event in events]),
        places=following(run.run_id, "entry", run.places, [entry.place for entry in entries]),
        **_mended(run, ("definition", "inputs", "result", "error")),
    )


def new_entries(run_id: str, entries: Iterable[Entry], now: float) -> list[Entry]:
    """Return lines of a journal as they are kept."""
    return [_entry(run_id, entry, now) for entry in entries]


def _entry(run_id: str, entry: Entry, now: float) -> Entry:
    _check(entry)
    output = entry.output
    if output is not None:
        output = content(f"the output of {entry.node_id!r}", output)
    # Not `replace`, which takes several times as long.
    return Entry(
        run_id,
        entry.place,
        entry.node_id,
        entry.phase,
        entry.attempt,
        entry.key,
        output,
        prose(entry.error),
        entry.at or now,
    )


def new_events(run_id: str, events: Iterable[EventRow], now: float) -> list[EventRow]:
    """Return events as they are kept."""
    return [_event(run_id, event, now) for event in events]


def _event(run_id: str, event: EventRow, now: float) -> EventRow:
    _check(event)
    return EventRow(run_id, event.seq, event.type, prose(event.data) or "", event.at or now)


def said(
    status: str | None, result: str | None, error: str | None, release: bool
) -> dict[str, Any]:
    """Return what a run has from now on, besides its new entries and events."""
    columns = {
        "status": None if status is None else name("the status", status),
        "result": prose(result),
        "error": prose(error),
    }
    new: dict[str, Any] = {column: value for column, value in columns.items() if value is not None}
    if error == "":
        new["error"] = None
    return {**new, "owner": None, "lease_until": 0.0} if release else new


def held(run: RunRow | None, run_id: str, owner: str, fence: int) -> RunRow:
    """Return the run.

    Raises:
        LeaseLost: Another has claimed it, it was given back, or there is none.
    """
    if run is None or run.owner != owner or run.fence != fence:
        raise LeaseLost(run_id)
    return run


def following(run_id: str, what: str, last: int, numbers: Sequence[int]) -> int:
    """Return the last of *numbers*, which have to follow *last* one by one.

    Raises:
        OutOfOrderError: They do not.
    """
    for wanted, given in enumerate(numbers, last + 1):
        if given != wanted:
            raise OutOfOrderError(run_id, what, given, wanted)
    return last + len(numbers)


def gapless(entries: Sequence[Entry], events: Sequence[EventRow]) -> bool:
    """Return whether each follows the one before it, whatever the run has already."""
    places = [entry.place for entry in entries]
    numbers = [event.seq for event in events]
    return _rising(places) and _rising(numbers)


def check_order(run: RunRow, entries: Sequence[Entry], events: Sequence[EventRow]) -> None:
    """Look whether *entries* and *events* follow those of the run.

    Raises:
        OutOfOrderError: They do not.
    """
    following(run.run_id, "entry", run.places, [entry.place for entry in entries])
    following(run.run_id, "event", run.seq, [event.seq for event in events])


# --- emergencies ----------------------------------------------------------------------------------


def emergency_columns(row: EmergencyRow) -> tuple[Any, ...]:
    """Return what a row of a table has for *row*."""
    return (
        name("the state", row.state),
        prose(row.reason),
        row.at,
        row.version,
        row.reducing,
        _json("the metadata", row.metadata),
        _json("the limits", row.limits),
    )


def emergency_row(columns: Sequence[Any]) -> EmergencyRow:
    """Return what a table's row says."""
    state, reason, at, version, reducing, metadata, limits = columns
    return EmergencyRow(
        state, reason, at, version, bool(reducing), json.loads(metadata), json.loads(limits)
    )


# --------------------------------------------------------------------------------------------------


def _rising(numbers: list[int]) -> bool:
    return not numbers or numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def _json(what: str, value: Mapping[str, Any]) -> str:
    try:
        return json.dumps(dict(value), separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise UnstorableError(f"{what} of the emergency", f"are no plain JSON: {error}") from error


def _check(row: RunRow | Entry | EventRow) -> None:
    for what in _NAMES[type(row)]:
        value = getattr(row, what)
        if type(value) is str:
            name(what, value)


def _mended(row: Any, names: tuple[str, ...]) -> dict[str, Any]:
    return {what: prose(getattr(row, what)) for what in names}


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
