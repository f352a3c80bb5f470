"""The spans of others that are in our store, by trace id and span id.

One register for all processors and providers: a span may have its parent in another one's.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from tracing.record import Record

if TYPE_CHECKING:
    from tracing.recorder import Recorder

Key: TypeAlias = tuple[int, int]

_MOST: Final = 10_000


class Entered(NamedTuple):
    """An open span of another instrumentation."""

    record: Record
    recorder: Recorder
    """What noted it, and notes what is opened inside."""


entered: Final[dict[Key, Entered]] = {}
"""Those that are open, the oldest first."""
_gone: Final[dict[Key, None]] = {}
_lock = threading.Lock()


def depart(key: Key) -> Entered | None:
    """Take a span out that ends; None: it is not there."""
    known = entered.pop(key, None)
    if known is not None:
        with _lock:
            if len(_gone) >= _MOST:
                del _gone[next(iter(_gone))]
            _gone[key] = None
    return known


def is_stored(key: Key) -> bool:
    """Return whether a span is in our store; of those that have ended we know the last 10,000."""
    return key in entered or key in _gone
