"""Typed events, CloudEvents, JSON, ids and times."""

from __future__ import annotations

import base64
import json
import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pocketflow_async.infrastructure.events import (
    CloudEventError,
    Event,
    from_cloudevent,
    parse_event,
    timestamp,
    to_cloudevent,
    uuid7,
)
from pocketflow_async.infrastructure.events.models import ExecutionStarted, NodeCompleted
from pocketflow_async.infrastructure.events.wire import to_json

IDS = {
    "execution_id": "exec_w_1",
    "workflow_id": "w",
    "bot_id": "b",
    "strategy_id": "s",
    "timestamp": "2026-01-25T10:15:23.456Z",
    "event_id": "0194-x",
    "seq": 1,
    "schema_version": 1,
}
NODE = {"node_id": "n", "node_name": "N", "node_category": "actions"}
ERROR = {"error": "no", "error_type": "ValueError"}
EVENTS = [
    {"type": "execution_started", **IDS, "node_count": 3},
    {"type": "execution_resumed", **IDS},
    {"type": "execution_completed", **IDS, "status": "completed", "duration_ms": 1.5},
    {"type": "execution_failed", **IDS, **ERROR},
    {"type": "execution_halted", **IDS, "reason": "because"},
    {"type": "execution_cancelled", **IDS, "reason": None},
    {"type": "node_started", **IDS, **NODE},
    {
        **{"type": "node_completed", **IDS, **NODE, "duration_ms": 1.0},
        **{"outputs": {"price": 1}, "status": "success"},
    },
    {"type": "node_failed", **IDS, **NODE, **ERROR},
    {"type": "node_retrying", **IDS, **NODE, "attempt": 1, **ERROR},
    {"type": "node_skipped", **IDS, **NODE, "reason": "its input failed"},
    {
        **{"type": "emergency_state_changed", **IDS, "controller_id": "default"},
        **{"previous_state": "normal", "new_state": "halt", "reason": "x"},
    },
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event["type"])
def test_every_event_of_the_contract_has_a_model(event):
    """Each is read into a model of its own and written as the same dict, with all ids."""
    model = parse_event(event)

    assert type(model) is not Event
    assert model.to_dict() == event
    assert model.timestamp == datetime(2026, 1, 25, 10, 15, 23, 456000, UTC)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event["type"])
def test_terminal_and_all_other_events_need_a_time_with_a_zone(event):
    """A naive time is refused, since nobody knows when that is (defect 22)."""
    with pytest.raises(ValidationError, match="timezone"):
        parse_event({**event, "timestamp": "2026-01-25T10:15:23.456"})


def test_event_of_a_later_version_can_be_read():
    """An unknown type is a plain event, and unknown fields are kept."""
    model = parse_event({"type": "node_dreamt", **IDS, "about": {"sheep": 2}})

    assert type(model) is Event
    assert model.to_dict()["about"] == {"sheep": 2}
    assert parse_event({**EVENTS[0], "more": 1}).to_dict()["more"] == 1


def test_wrong_event_names_its_field():
    """A missing or wrong field is named."""
    with pytest.raises(ValidationError, match="node_count"):
        parse_event({"type": "execution_started", **IDS})
    with pytest.raises(ValidationError, match="seq"):
        parse_event({**EVENTS[0], "seq": 0})


def test_models_fill_in_time_and_id_and_do_not_change():
    """A model made by hand has an id and a time of its own, and is frozen."""
    one, two = ExecutionStarted(node_count=1), ExecutionStarted(node_count=1)

    assert one.event_id != two.event_id
    assert one.to_dict()["timestamp"].endswith("Z")
    with pytest.raises(ValidationError, match="frozen"):
        one.node_count = 2
    assert NodeCompleted(node_id="n", duration_ms=1.0).status == "success"


# --- ids and times --------------------------------------------------------------------------------


@given(st.floats(0, 2**38), st.binary(min_size=10, max_size=10))
def test_ids_are_of_version_7_and_hold_their_time(seconds, chance):
    """For any time and chance the id is a UUID of version 7 whose first bits are the time."""
    made = UUID(uuid7(lambda: seconds, lambda _: chance))

    assert made.version == 7
    assert made.variant == "specified in RFC 4122"
    assert made.int >> 80 == int(seconds * 1000)


def test_times_are_utc_to_the_millisecond():
    """A time is written as the documents show it."""
    assert timestamp(0) == "1970-01-01T00:00:00.000Z"
    assert timestamp(1769336123.456) == "2026-01-25T10:15:23.456Z"
    assert datetime.fromisoformat(timestamp()).tzinfo == UTC


# --- CloudEvents ----------------------------------------------------------------------------------


def test_cloudevent_has_the_attributes_of_the_contract():
    """Id, source, type, subject, time and data are mapped; traceparent is an extension."""
    event = {**EVENTS[7], "traceparent": "00-1-2-01"}

    assert to_cloudevent(event) == {
        "specversion": "1.0",
        "id": "0194-x",
        "source": "/workflow/w",
        "type": "pocketflow.node_completed",
        "subject": "n",
        "time": "2026-01-25T10:15:23.456Z",
        "datacontenttype": "application/json",
        "traceparent": "00-1-2-01",
        "data": event,
    }
    assert to_cloudevent(EVENTS[0])["subject"] == "exec_w_1"


def test_cloudevent_of_hostile_names_is_still_one():
    """A workflow's name becomes part of a URI; a naive time is left out; an id is made."""
    made = to_cloudevent(
        {"type": "x", "workflow_id": "a b/../ü\n\ud800", "timestamp": "2026-01-25T10:15:23"},
        new_id=lambda: "own",
        namespace="",
    )

    assert made["source"] == "/workflow/a%20b%2F..%2F%C3%BC%0A%3F"
    assert (made["id"], made["type"]) == ("own", "x")
    assert "time" not in made
    assert to_cloudevent({"type": "x", "controller_id": "c"})["source"] == "/emergency/c"
    assert to_cloudevent({"type": "x"})["source"] == "/pocketflow"


_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.fixed_dictionaries(
        {"type": st.text(min_size=1), "event_id": st.text(min_size=1), "timestamp": st.just("x")},
        optional={"workflow_id": st.text(), "outputs": _json, "node_id": st.text()},
    )
)
def test_event_comes_back_from_a_cloudevent(event):
    """For any event with an id, the CloudEvent's JSON gives the same event."""
    made = to_cloudevent(event)

    assert from_cloudevent(made) == event
    assert from_cloudevent(json.dumps(made)) == event
    assert all(made[name] for name in ("specversion", "id", "source", "type"))
    made["source"].encode("ascii")


def test_cloudevents_of_others_are_read():
    """What the data do not say comes from the envelope, in base64 too."""
    envelope = {"specversion": "1.0", "id": "1", "source": "/s", "type": "pocketflow.tick"}
    data = base64.b64encode(b'{"n": 1}').decode()

    assert from_cloudevent({**envelope, "data_base64": data, "time": "2026-01-01T00:00:00Z"}) == {
        "n": 1,
        "type": "tick",
        "event_id": "1",
        "timestamp": "2026-01-01T00:00:00Z",
    }
    assert from_cloudevent(envelope) == {"type": "tick", "event_id": "1"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("{", "not JSON"),
        (b"\xff", "not JSON"),
        ("[]", "specversion"),
        ({"specversion": "0.3"}, "specversion"),
        ({"specversion": "1.0", "id": "1", "source": "/"}, "needs a type"),
        ({"specversion": "1.0", "id": 1, "source": "/", "type": "t"}, "needs a id"),
        ({"specversion": "1.0", "id": "1", "source": "/", "type": "t", "data": [1]}, "object"),
        (
            {"specversion": "1.0", "id": "1", "source": "/", "type": "t", "data_base64": "#"},
            "base64",
        ),
    ],
)
def test_what_is_no_cloudevent_is_refused(given, said):
    """Each fault is named."""
    with pytest.raises(CloudEventError, match=said):
        from_cloudevent(given)
    with pytest.raises(CloudEventError, match="needs a type"):
        to_cloudevent({"type": ""})


# --- JSON -----------------------------------------------------------------------------------------


class Side(Enum):
    BUY = "buy"


class Level(IntEnum):
    HIGH = 3


class Client:
    def __repr__(self):
        return "Client(token='secret')"


@dataclass
class Order:
    password: str


def test_everything_can_be_told_and_no_secret_is():
    """Values of every kind become JSON; of objects only their class is told."""
    value = {
        "nan": math.nan,
        "inf": [math.inf, 1.5],
        "decimal": Decimal("1.10"),
        "id": UUID(int=1),
        "at": datetime(2026, 1, 1, tzinfo=UTC),
        "day": date(2026, 1, 1),
        "span": timedelta(seconds=1),
        "side": Side.BUY,
        "level": Level.HIGH,
        "set": {1},
        "client": Client(),
        "order": Order("hunter2"),
        "bytes": b"secret",
        "half": "\ud800",
        3: "three",
        None: "none",
    }

    assert json.loads(to_json(value)) == {
        "nan": None,
        "inf": [None, 1.5],
        "decimal": "1.10",
        "id": "00000000-0000-0000-0000-000000000001",
        "at": "2026-01-01T00:00:00+00:00",
        "day": "2026-01-01",
        "span": "0:00:01",
        "side": "buy",
        "level": 3,
        "set": [1],
        "client": "<Client>",
        "order": "<Order>",
        "bytes": "<bytes>",
        "half": "?",
        "3": "three",
        "None": "none",
    }


def test_json_is_on_one_line():
    """No text can break out of a line, which SSE relies on."""
    assert "\n" not in to_json({"text": "a\nb\rc"})


def test_what_contains_itself_is_refused():
    """Endless data are a ValueError, not a crash."""
    endless: list = []
    endless.append(endless)
    with pytest.raises(ValueError, match="contains itself"):
        to_json(endless)
