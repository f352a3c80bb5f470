"""One error for several callers: a copy for each, since an error changes on its way up.

Its traceback grows, notes are added to it, and handlers set its context; callers that share one
object would write all that into each other's.
"""

from __future__ import annotations

import copy
import copyreg
from types import TracebackType
from typing import Any, Final

_HEAP_TYPE: Final = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a class statement


def copy_of(error: BaseException, trace: TracebackType | None = None) -> BaseException:
    """Return an error like *error*, or *error* itself where no copy can be trusted.

    The constructor of its class is not called: it may make another message of the message.

    Args:
        error: Raised by a call that several share.
        trace: Where it was raised; None: as far as it has come by now.
    """
    trace = error.__traceback__ if trace is None else trace
    try:
        twin = _twin(error)
        if type(twin) is not type(error) or twin.args != error.args or str(twin) != str(error):
            return error
    except Exception:  # noqa: BLE001 (an exotic class must not cost the caller the error itself)
        return error
    twin.__cause__ = error.__cause__
    twin.__context__ = error.__context__
    twin.__suppress_context__ = error.__suppress_context__
    if notes := getattr(error, "__notes__", None):
        twin.__notes__ = list(notes)
    return twin.with_traceback(trace)


def _twin(error: BaseException) -> BaseException:
    kind: Any = type(error)
    if copyreg._slotnames(kind):  # type: ignore[attr-defined]
        return error  # not all of it is in its __dict__
    built_in = next(cls for cls in kind.__mro__ if not cls.__flags__ & _HEAP_TYPE)
    if kind.__reduce__ is not built_in.__reduce__:  # it says itself how it is copied
        return copy.copy(error)
    parts: Any = error.__reduce__()
    _, args, *state = parts
    twin: Any = kind.__new__(kind, *args)
    built_in.__init__(twin, *args)
    for part in state:
        twin.__setstate__(part)
    return twin  # type: ignore[no-any-return]
