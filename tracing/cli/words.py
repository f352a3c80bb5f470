"""Numbers and foreign text as short words for people."""

from __future__ import annotations

import re
from typing import Final

from rich.cells import cell_len, chop_cells, set_cell_size

_UNSAFE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff\ufeff]"
)
"""Control, invisible and text-turning characters: a trace must not drive the terminal."""

_SECOND: Final = 1_000_000_000


def duration(ns: int, micro: str = "µs") -> str:
    """Return nanoseconds with a unit and about three digits: `820 µs`, `1.24 s`, `2m 05s`."""
    if ns < 1_000:
        return f"{max(ns, 0)} ns"
    if ns < 999_500:
        return f"{_three(ns / 1e3)} {micro}"
    if ns < 999_500_000:
        return f"{_three(ns / 1e6)} ms"
    if ns < 59_950_000_000:
        return f"{_three(ns / 1e9)} s"
    return _clock(round(ns / _SECOND))


def _three(value: float) -> str:
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}"


def _clock(seconds: int) -> str:
    if seconds < 3_600:
        return f"{seconds // 60}m {seconds % 60:02}s"
    if seconds < 86_400:
        return f"{seconds // 3_600}h {seconds % 3_600 // 60:02}m"
    return f"{seconds // 86_400}d {seconds % 86_400 // 3_600:02}h"


def age(ns: int) -> str:
    """Return how long ago something was: `3s`, `12m`, `4h`, `2d`."""
    seconds = max(ns, 0) // _SECOND
    for limit, unit, letter in ((60, 1, "s"), (3_600, 60, "m"), (86_400, 3_600, "h")):
        if seconds < limit:
            return f"{seconds // unit}{letter}"
    return f"{seconds // 86_400}d"


def size(count: int) -> str:
    """Return a number of bytes with a decimal unit: `812 B`, `1.24 MB`."""
    value, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while value >= 999.5 and len(units) > 1:
        value /= 1_000
        del units[0]
    return f"{count} B" if units[0] == "B" else f"{_three(value)} {units[0]}"


def count(number: int, noun: str, plural: str = "") -> str:
    """Return *number* with its noun: `1 span`, `2 spans`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def clean(text: str) -> str:
    r"""Return *text* with everything that a terminal would obey shown as `\x1b`."""
    return _UNSAFE.sub(_escaped, text)


def one_line(text: str) -> str:
    """Return *text* cleaned, and each run of white space in it as one blank."""
    return clean(" ".join(text.split()))


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def cut(text: str, width: int, ellipsis: str = "…") -> str:
    """Return *text* in at most *width* terminal cells, ending in *ellipsis* if it was longer."""
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, max(width - len(ellipsis), 0)).rstrip() + ellipsis


def chop(text: str, width: int) -> list[str]:
    """Return *text* in pieces of at most *width* terminal cells, at least one."""
    return chop_cells(text, max(width, 1)) or [""]
