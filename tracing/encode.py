"""Turn any Python value into JSON bytes at once, without ever raising and without running away.

`encode` runs on the event loop, twice per node. Small plain values take the fast path: a walk that
adds up lengths, then one `orjson.dumps`. Everything else takes the careful path, which writes JSON
within a budget of bytes and shows what it left out:

    "a long text… +12345 chars"     [1, 2, "… 9990 more items"]    "<cycle>"    "<generator pages>"

Strangers' objects are looked at from outside (`tracing.views`), and whatever they raise stops here.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import date, datetime
from typing import Any, Final
from uuid import UUID

import orjson

from tracing.views import Fields, Items, name_of, view

LIMIT: Final = 32_768
"""Bytes of JSON kept of one value, unless told otherwise."""
LEAST: Final = 64
"""Smallest limit that `encode` keeps to."""
MAX_DEPTH: Final = 32
"""Containers inside containers that the careful path follows."""

_BOXES: Final = frozenset({dict, list, tuple})
_NUMBERS: Final = frozenset({int, float, bool, type(None)})
_LEAVES: Final = _NUMBERS | {datetime, date, UUID}
_DOTS: Final = (
    '"…"'.encode()
)  # the shortest thing the careful path can say, and all it needs: 5 bytes
_TAIL: Final = 48  # room for a marker such as `"… 12345 more items"`
_BLOCK: Final = 2048
_dumps = orjson.dumps


def encode(value: object, limit: int = LIMIT) -> bytes:
    """Return *value* as JSON of at most *limit* bytes (never less than `LEAST`).

    The bytes are made before this returns, so a later change of *value* does not show. Iterators
    and files are named, never read. Only KeyboardInterrupt comes out; what else an object raises
    while it is looked at becomes a marker in its place.
    """
    try:
        if _plain(value, limit):
            data = _dumped(value)
            size = len(data)
            if size <= limit:
                # orjson leaves a small result in a block of 4 kB; a copy takes what it needs.
                return bytes(memoryview(data)) if size < _BLOCK else data
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - odd keys, huge ints, lone surrogates: said better below
        pass
    return _carefully(value, max(limit, LEAST))


def _plain(value: Any, room: int) -> bool:  # noqa: C901 (in one piece: it is on the hot path)
    """Tell whether *value* is made of plain types only, and may fit in *room* bytes.

    Looks at no more than *room* / 2 items and *room* / 16 containers, whatever it is given, so a
    matrix or a cycle ends it early. Keys are left to orjson, which refuses those it does not know.
    """
    kind = type(value)
    if kind is str:
        return len(value) <= room
    if kind not in _BOXES:
        return kind in _LEAVES
    boxes = [value]
    for box in boxes:
        room -= 2 * len(box) + 16
        if room < 0:
            return False
        for item in box.values() if type(box) is dict else box:
            kind = type(item)
            if kind is str:
                room -= len(item)
            elif kind in _BOXES:
                boxes.append(item)
            elif kind not in _LEAVES:
                return False
    return room >= 0


def _carefully(value: object, limit: int) -> bytes:
    """Write all of *value* if that fits; else share the room out among its parts."""
    try:
        whole = _Writing(fair=False, long=set())
        data = whole.write(value, limit)
        return _Writing(fair=True, long=whole.long).write(value, limit) if whole.cut else data
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - even the markers failed: no stack or no memory left
        return b'"<unreadable>"'


class _Writing:
    """One attempt at writing a value.

    Every method returns at most *room* bytes of valid JSON, given that *room* is at least 5, so
    the whole is exact by induction and nothing has to be measured afterwards.
    """

    __slots__ = ("cut", "fair", "long", "path")

    def __init__(self, *, fair: bool, long: set[int]) -> None:
        self.fair = fair
        """Give each part its share of the room. Otherwise first come, and stop at the first cut."""
        self.cut = False
        """Whether something was left out for want of room."""
        self.long = long
        """Ids of the containers that orjson cannot write in one go within the room."""
        self.path: set[int] = set()
        """Ids of the containers being written; meeting one again means a cycle."""

    def write(self, value: object, room: int) -> bytes:
        """Write *value*, or in its place why that could not be done."""
        if self.cut and not self.fair:
            return _DOTS
        try:
            return self._write(value, room)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - an object may raise anything when looked at
            return self._text(f"<unreadable {name_of(type(value))}>", room)

    def _write(self, value: object, room: int) -> bytes:
        if id(value) in self.path:
            return self._text("<cycle>", room)
        if self.path and type(value) in _BOXES and id(value) not in self.long:
            if data := _short_way(value, room):
                return data
            self.long.add(id(value))
        seen = view(value, room // 2 + 1)
        if type(seen) is str:
            return self._text(seen, room)
        if not isinstance(seen, (Items, Fields)):
            return self._short(_dumps(seen), room)
        if len(self.path) >= MAX_DEPTH:
            return self._text(f"<{name_of(type(value))} too deep to show>", room)
        self.path.add(id(value))
        try:
            return self._items(seen, room) if isinstance(seen, Items) else self._fields(seen, room)
        finally:
            self.path.discard(id(value))

    def _short(self, data: bytes, room: int) -> bytes:
        if len(data) <= room:
            return data
        self.cut = True
        return _DOTS

    def _text(self, text: str, room: int) -> bytes:
        kept = text[:room]  # a character is at least a byte
        data = _quoted(kept)
        if len(kept) == len(text) and len(data) <= room:
            return data
        self.cut = True
        size = room - _TAIL
        while size > 0:
            data = _quoted(f"{text[:size]}… +{len(text) - size} chars")
            if len(data) <= room:
                return data
            size = min(size - 1, size * (room - _TAIL) // len(data))
        return _DOTS

    def _items(self, seen: Items, room: int) -> bytes:
        if seen.items and _NUMBERS.issuperset(map(type, seen.items)):
            with suppress(TypeError):  # an integer over 64 bits
                return self._numbers(seen, room)
        parts: list[bytes] = []
        kept, left = self._plan(seen.items, seen.total, room)
        for place, item in enumerate(kept):
            if left < len(_DOTS) + 1:
                break
            part = self.write(item, self._share(left, len(kept) - place, len(_DOTS)))
            parts.append(part)
            left -= len(part) + 1
        if len(parts) < seen.total:
            self.cut = True
            parts.append(_quoted(f"… {seen.total - len(parts)} more items"))
        return self._short(b"[" + b",".join(parts) + b"]", room)

    def _numbers(self, seen: Items, room: int) -> bytes:
        """Write a row of numbers in one piece, for there may be thousands of them."""
        size = len(seen.items)
        data = _dumps(seen.items)
        if size == seen.total and len(data) <= room:
            return data
        self.cut = True
        while size > 0:
            if len(data) <= room - _TAIL:
                return data[:-1] + b"," + _quoted(f"… {seen.total - size} more items") + b"]"
            size = min(size - 1, size * (room - _TAIL) // len(data))
            data = _dumps(seen.items[: max(size, 0)])
        return _DOTS

    def _fields(self, seen: Fields, room: int) -> bytes:
        parts: list[bytes] = []
        least = 2 * len(_DOTS) + 1
        kept, left = self._plan(seen.pairs, seen.total, room)
        for place, (key, item) in enumerate(kept):
            if left < least + 1:
                break
            share = self._share(left, len(kept) - place, least)
            name = self._text(_key(key), max(len(_DOTS), share // 2))
            part = name + b":" + self.write(item, share - len(name) - 1)
            parts.append(part)
            left -= len(part) + 1
        if len(parts) < seen.total:
            self.cut = True
            parts.append(_DOTS + b":" + _quoted(f"{seen.total - len(parts)} more items"))
        return self._short(b"{" + b",".join(parts) + b"}", room)

    def _plan(self, found: list[Any], total: int, room: int) -> tuple[list[Any], int]:
        """Return the items to try, and the bytes for them."""
        if not self.fair:
            return found, room - 1  # brackets, less the comma that the last item does not need
        plain = all(type(item) in _LEAVES for item in found[:8])
        most = max(8, room // (12 if plain else 256))
        return found[:most], room - 1 - (_TAIL if total else 0)

    def _share(self, left: int, waiting: int, least: int) -> int:
        return max(least, left // waiting - 1) if self.fair else left - 1


def _key(key: object) -> str:
    try:
        seen = view(key, 8)
        if isinstance(seen, (Items, Fields)):
            return str.__str__(repr(key))
        return seen if isinstance(seen, str) else _dumps(seen).decode()
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - as for values, which must not be lost with their key
        return f"<unreadable {name_of(type(key))}>"


def _short_way(value: object, room: int) -> bytes | None:
    """Return *value* as orjson writes it, or None when it is not plain or does not fit."""
    try:
        data = _dumped(value) if _plain(value, room) else None
    except TypeError:
        return None
    return data if data is not None and len(data) <= room else None


def _dumped(value: object) -> bytes:
    try:
        return _dumps(value)
    except TypeError:  # keys that are numbers; the option costs all others half as much again
        return _dumps(value, None, orjson.OPT_NON_STR_KEYS)


def _quoted(text: str) -> bytes:
    try:
        return _dumps(text)
    except TypeError:  # a lone surrogate
        return _dumps(text.encode("utf-8", "backslashreplace").decode())
