"""Events as CloudEvents 1.0 in the JSON format, for whoever reads those."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote

from pocketflow_async.infrastructure.events.errors import CloudEventError
from pocketflow_async.infrastructure.events.stamp import uuid7

NAMESPACE: Final = "pocketflow"


def to_cloudevent(
    event: Mapping[str, Any],
    *,
    namespace: str = NAMESPACE,
    source: str | None = None,
    new_id: Callable[[], str] = uuid7,
) -> dict[str, Any]:
    """Return the CloudEvent whose data are *event*.

    Its id is `event_id`, its source `/workflow/{workflow_id}`, its subject the node or else the
    execution. A time without a zone is left out, since nobody knows which it is.

    Args:
        event: An event with a `type`.
        namespace: What its type is prefixed with.
        source: Where it comes from, as a URI reference.
        new_id: Returns an id for an event that has none.

    Raises:
        CloudEventError: It has no type.
    """
    kind = event.get("type")
    if not isinstance(kind, str) or not kind:
        raise CloudEventError("an event needs a type, a text that is not empty")
    made = {
        "specversion": "1.0",
        "id": _said(event, "event_id") or new_id(),
        "source": source or _source(event),
        "type": f"{namespace}.{kind}" if namespace else kind,
        "subject": _said(event, "node_id") or _said(event, "execution_id"),
        "time": _time(event.get("timestamp")),
        "datacontenttype": "application/json",
        "traceparent": _said(event, "traceparent"),
        "data": dict(event),
    }
    return {name: value for name, value in made.items() if value is not None}


def from_cloudevent(
    cloudevent: Mapping[str, Any] | str | bytes, *, namespace: str = NAMESPACE
) -> dict[str, Any]:
    """Return the event in a CloudEvent; what its data do not say is taken from its envelope.

    Args:
        cloudevent: A CloudEvent, or its JSON.
        namespace: What its type is prefixed with.

    Raises:
        CloudEventError: It is none of version 1.0, or its data are no object.
    """
    found = _parsed(cloudevent) if isinstance(cloudevent, str | bytes) else cloudevent
    if not isinstance(found, Mapping) or found.get("specversion") != "1.0":
        raise CloudEventError("this is no CloudEvent of specversion 1.0")
    for name in ("id", "source", "type"):
        if not _said(found, name):
            raise CloudEventError(f"a CloudEvent needs a {name}, a text that is not empty")
    data = _data(found)
    envelope = {
        "type": found["type"].removeprefix(f"{namespace}."),
        "event_id": found["id"],
        "timestamp": found.get("time"),
        "traceparent": found.get("traceparent"),
    }
    given = {name: value for name, value in envelope.items() if value is not None}
    return {**data, **{name: value for name, value in given.items() if data.get(name) is None}}


def _said(event: Mapping[str, Any], name: str) -> str | None:
    value = event.get(name)
    return value if isinstance(value, str) and value else None


def _source(event: Mapping[str, Any]) -> str:
    workflow, controller = _said(event, "workflow_id"), _said(event, "controller_id")
    if workflow:
        return f"/workflow/{quote(workflow, safe='', errors='replace')}"
    if controller:
        return f"/emergency/{quote(controller, safe='', errors='replace')}"
    return "/pocketflow"


def _time(value: Any) -> str | None:
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    if moment.tzinfo is None:
        return None
    return value if isinstance(value, str) else moment.isoformat()


def _data(found: Mapping[str, Any]) -> Mapping[str, Any]:
    data = found.get("data", {})
    if "data_base64" in found:
        try:
            data = _parsed(base64.b64decode(found["data_base64"], validate=True))
        except (TypeError, binascii.Error):
            raise CloudEventError("data_base64 of this CloudEvent is no base64") from None
    if not isinstance(data, Mapping):
        raise CloudEventError("the data of this CloudEvent are no JSON object")
    return data


def _parsed(text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise CloudEventError("this is not JSON") from None
