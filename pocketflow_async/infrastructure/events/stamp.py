"""Ids and times of events."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime


def uuid7(
    clock: Callable[[], float] = time.time, chance: Callable[[int], bytes] = os.urandom
) -> str:
    """Return a new id that sorts by the time it was made at, to the millisecond (RFC 9562).

    Args:
        clock: Returns seconds since the epoch.
        chance: Returns as many random bytes as it is asked for.
    """
    value = int.from_bytes(int(clock() * 1000).to_bytes(6, "big") + chance(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    digits = f"{value:032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def timestamp(seconds: float | None = None) -> str:
    """Return a time (seconds since the epoch; None: now) as `2026-01-25T10:15:23.456Z`."""
    moment = datetime.fromtimestamp(time.time() if seconds is None else seconds, UTC)
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
