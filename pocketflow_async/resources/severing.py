"""Connections whose event loop is closed: it cannot close them any more, and they must not stay."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Any


def sever(transport: Any) -> None:
    """Close the socket of an asyncio transport whose event loop is closed; the server sees it.

    A transport asks its loop to close it, which a closed loop refuses. So its socket is shut down,
    which is public, and closed, which is not: else it would be open until it is collected.
    """
    if transport is None:
        return
    with suppress(Exception):
        shared = transport.get_extra_info("socket")
        if shared is not None:
            shared.shutdown(socket.SHUT_RDWR)
    with suppress(Exception):
        own = getattr(transport, "_sock", None)
        if own is not None:
            transport._sock = None
            own.close()
            transport._closing = True  # for the stream around it, which asks when it is collected
