"""Bodies and headers of requests, the same for every back end."""

from __future__ import annotations

from collections.abc import AsyncIterable, Mapping
from json import dumps
from typing import Any, Final, NamedTuple

from pocketflow_async.resources.http_address import form

NOTHING: Final = object()
"""What stands for a body that is not given, since None is one in JSON."""


class Body(NamedTuple):
    """The body of a request.

    Attributes:
        content: What is sent; None: nothing of ours.
        kind: Its content type, if we know it.
        rest: What the back end makes a body of itself.
    """

    content: Any = None
    kind: str | None = None
    rest: Any = None


def body(json: Any, data: Any, *, with_files: bool = False) -> Body:
    """Return the body that *json* or *data* stand for.

    Raises:
        TypeError: Both are given, or *json* cannot be written.
        ValueError: There is a NaN or an infinity in *json*.
    """
    if json is not NOTHING:
        if data is not None:
            raise TypeError("json= and data= are two bodies: give one of them")
        text = dumps(json, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        return Body(text.encode(), "application/json")
    if isinstance(data, Mapping) and not with_files:
        return Body(form(data), "application/x-www-form-urlencoded")
    if isinstance(data, bytearray | memoryview):
        return Body(bytes(data))
    if data is None or isinstance(data, str | bytes | AsyncIterable):
        return Body(data.encode() if isinstance(data, str) else data)
    return Body(rest=data)


def headers(own: Mapping[str, str], given: Mapping[str, str], kind: str | None) -> dict[str, str]:
    """Return the headers of a request: *given* in place of *own*; *kind* unless they say one."""
    named = {name.lower() for name in given}
    merged = {name: own[name] for name in own if name.lower() not in named} | dict(given)
    if kind is not None and not any(name.lower() == "content-type" for name in merged):
        merged["Content-Type"] = kind
    return merged
