"""Addresses and headers of receivers: what may be one, and how to tell it without its secrets."""

from __future__ import annotations

import base64
import re
from typing import Final
from urllib.parse import unquote, urlsplit, urlunsplit

TRACES_PATH: Final = "/v1/traces"

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_SENDABLE: Final = re.compile(
    r"(?:[\x21-\x7e\xa1-\xff](?:[\t\x20-\x7e\xa0-\xff]*[\x21-\x7e\xa1-\xff])?)?"
)


def is_header(name: str, value: str) -> bool:
    """Return whether HTTP can carry a header: no line breaks, no controls, no space around it."""
    return bool(_TOKEN.fullmatch(name) and _SENDABLE.fullmatch(value))


def is_url(text: str) -> bool:
    """Return whether *text* is the URL of an HTTP server."""
    try:
        parts = urlsplit(text)
        return (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and parts.port != 0
            and not re.search(r"\s", text)
        )
    except ValueError:  # brackets, or a port that is no number
        return False


def is_grpc(text: str) -> bool:
    """Return whether *text* is what gRPC can connect to: `host:port`, a URL of one, or a socket."""
    if "://" in text and not text.startswith(("unix:", "dns:")):
        return is_url(text)
    return bool(text) and "@" not in text and not re.search(r"\s", text)


def has_path(url: str) -> bool:
    """Return whether *url* names something on the server, be it `/`."""
    return bool(urlsplit(url).path)


def below(url: str, path: str) -> str:
    """Return *url* with *path* added to its own path, before its query."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=parts.path.removesuffix("/") + path))


def without_user(url: str) -> tuple[str, str | None]:
    """Split off the user and password of *url*; return the value of an Authorization header."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    if not at:
        return url, None
    pair = base64.b64encode(unquote(user).encode()).decode()
    return urlunsplit(parts._replace(netloc=host)), f"Basic {pair}"


def told(address: str) -> str:
    """Return *address* for a message: what may be secret in it is `***`."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return "***"
    if not parts.netloc:  # no URL; all before an @ may be a password
        return f"***@{address.rpartition('@')[2]}" if "@" in address else address
    _, at, host = parts.netloc.rpartition("@")
    query = "***" if parts.query else ""
    return urlunsplit(parts._replace(netloc=f"***@{host}" if at else host, query=query))
