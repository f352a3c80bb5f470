"""References to resources: as JSON and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketflow_async.resources import (
    CacheFactory,
    DatabasePoolFactory,
    HttpClientFactory,
    MessageQueueFactory,
    ResourceReference,
    create_cache_reference,
    create_database_reference,
    create_http_client_reference,
    create_message_queue_reference,
)

TEXTS = st.text(max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


@given(
    st.builds(
        ResourceReference,
        st.text(min_size=1, max_size=20),
        st.dictionaries(TEXTS, VALUES, max_size=4),
        st.none() | TEXTS,
        st.none() | TEXTS,
    )
)
def test_references_come_back_as_they_were(reference):
    """Through a dict and through JSON."""
    assert ResourceReference.from_dict(reference.to_dict()) == reference
    assert ResourceReference.from_json(reference.to_json()) == reference


def test_a_registered_resource_is_named():
    """Nothing else is said about it."""
    reference = ResourceReference.for_registered_resource("main_db")

    assert reference.to_dict() == {"type": "registered", "config": {}, "name": "main_db"}


def test_references_of_each_kind():
    """What is not given is not there."""
    assert create_database_reference("h", "d").to_dict() == {
        "type": "database",
        "config": {"backend": "postgresql", "host": "h", "database": "d"},
    }
    assert create_database_reference("h", "d", "mysql", 3307, "vault/db", min_size=1).to_dict() == {
        "type": "database",
        "config": {
            "backend": "mysql",
            "host": "h",
            "database": "d",
            "min_size": 1,
            "port": 3307,
        },
        "credentials_ref": "vault/db",
    }
    assert create_http_client_reference("https://x", headers={"A": "b"}).to_dict() == {
        "type": "http_client",
        "config": {
            "backend": "httpx",
            "base_url": "https://x",
            "timeout": 30,
            "headers": {"A": "b"},
        },
    }
    assert create_cache_reference(port=6380).config == {
        "backend": "redis",
        "host": "localhost",
        "port": 6380,
    }
    assert create_message_queue_reference("nats").config == {
        "backend": "nats",
        "host": "localhost",
    }


def test_factories_take_what_references_say():
    """The names of the config are those of the factories' arguments."""
    database = create_database_reference("h", "d", port=5433, max_size=30)
    assert DatabasePoolFactory(**database.config).get_config()["port"] == 5433
    client = create_http_client_reference("https://x", headers={"A": "b"})
    assert HttpClientFactory(**client.config).get_config()["base_url"] == "https://x"
    cache = create_cache_reference("memory")
    assert CacheFactory(**cache.config).get_config()["backend"] == "memory"
    queue = create_message_queue_reference("nats", port=4223)
    assert MessageQueueFactory(**queue.config).get_config()["port"] == 4223


def test_what_is_no_reference_is_refused():
    """With what is wrong."""
    for data, error, text in [
        ([], TypeError, "a dict, not list"),
        ({}, ValueError, "has a type"),
        ({"type": 5}, ValueError, "has a type"),
        ({"type": "x", "config": []}, TypeError, "config of a reference is a dict"),
        ({"type": "x", "name": 5}, TypeError, "name of a reference is a text"),
        ({"type": "x", "extra": 5}, ValueError, "has no extra"),
    ]:
        with pytest.raises(error, match=text):
            ResourceReference.from_dict(data)
    with pytest.raises(ValueError, match="Expecting"):
        ResourceReference.from_json("no json")


def test_a_reference_shows_no_secrets():
    """Though they do not belong into it."""
    reference = create_http_client_reference(
        "https://u:p4ss@x/y?token=p4ss", headers={"X-Key": "p4ss"}, api_token="p4ss"
    )

    assert "p4ss" not in repr(reference)
    assert "https://***@x/y?***" in repr(reference)
