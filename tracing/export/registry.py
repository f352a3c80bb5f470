"""Who sends for which store: one sender for each store and target of this process."""

from __future__ import annotations

import os
import threading

from tracing.export.model import Route, Target
from tracing.export.sender import Sender
from tracing.export.wires import wire_to
from tracing.store.store import TraceStore

_attaching = threading.Lock()


def attach(store: TraceStore, route: Route) -> list[Sender]:
    """Make sure that what *store* gets for the targets of *route* is sent; return their senders.

    Cheap: threads and connections come with the first record.
    """
    with _attaching:
        return [_sender(store, target) for target in route.targets]


def _sender(store: TraceStore, target: Target) -> Sender:
    for courier in store.couriers:
        if isinstance(courier, Sender) and courier.key == target.key:
            courier.renew(target)
            return courier
    sender = Sender(store, target, connect=wire_to)
    store.couriers.append(sender)
    return sender


if hasattr(os, "register_at_fork"):  # else a child may find it locked by a thread that is not there
    os.register_at_fork(
        before=_attaching.acquire,
        after_in_parent=_attaching.release,
        after_in_child=_attaching.release,
    )
