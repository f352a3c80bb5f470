"""What a log may show: no secrets, by their names or by their looks."""

from __future__ import annotations

import json
import shlex
import time
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketflow_async.infrastructure.logging_redaction import (
    DEEPEST,
    LONGEST,
    REDACTED,
    clean,
    is_secret,
    told,
)

SECRET = shlex.split(
    "api_key apiKey API-KEY x-api-key binance_key OPENAI_KEY private_key signing_key secret_key "
    "secret client_secret token access_token refreshToken id_token TOKEN password db_password "
    "dbpassword passwd pwd passphrase mnemonic authorization Authorization cookie set-cookie jwt "
    "credentials session_token AWS_SECRET_ACCESS_KEY bearer password_hash token_value"
)
PLAIN = shlex.split(
    "key keys idempotency_key primary_key partition_key public_key redis_key order_key monkey "
    "keyboard tokens max_tokens token_count token_id token_symbol price symbol author passed "
    "compass execution_id node_id state name secretary"
)


@pytest.mark.parametrize("name", SECRET)
def test_names_of_secrets(name):
    """What is called so is hidden, in any spelling."""
    assert is_secret(name)


@pytest.mark.parametrize("name", PLAIN)
def test_names_of_what_is_no_secret(name):
    """Ids, counts and coins stay: an idempotency key has to be found in a log."""
    assert not is_secret(name)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("postgresql://bot:hunter2@db:5432/x", "postgresql://bot:[redacted]@db:5432/x"),
        ("redis://:hun@ter2@h/0", "redis://:[redacted]@h/0"),
        ("http://host:80/a@b", "http://host:80/a@b"),
        ("Authorization: Bearer hunter2hunter2", "Authorization: Bearer [redacted]"),
        ("GET /?api_key=hunter2&symbol=BTC", "GET /?api_key=[redacted]&symbol=BTC"),
        ('{"password": "hunter 2", "user": "ann"}', '{"password": "[redacted]", "user": "ann"}'),
        ("Login(user='ann', password='hunter2')", "Login(user='ann', password='[redacted]')"),
        ("at db: password='hunter2' failed", "at db: password='[redacted]' failed"),
        ("token_count=5 token=hunter2", "token_count=5 token=[redacted]"),
        ("secret: None, password=", "secret: None, password="),
        ("sk-proj-abcdefghijklmnop", "[redacted]"),
        ("key AKIAIOSFODNN7EXAMPLE here", "key [redacted] here"),
        ("eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0dXJl", "[redacted]"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----", "[redacted]"),
        ("-----BEGIN PRIVATE KEY-----\nMIIE", "[redacted]"),
        ("idempotency_key=exec_1:buy", "idempotency_key=exec_1:buy"),
        ("price of BTC: 50000", "price of BTC: 50000"),
    ],
)
def test_secrets_in_texts(text, kept):
    """Addresses, headers, pairs and well-known kinds of secrets lose theirs, and no more."""
    assert clean(text) == kept


def test_secret_that_is_cut_off_is_still_hidden():
    """A long text is cut before it is looked through; half a secret is one."""
    text = "x" * (LONGEST - 20) + ' password="' + "hunter2" * 10

    assert "hunter2" not in clean(text)


@pytest.mark.parametrize(
    "text",
    [
        'key="' * 3000,
        "key=" * 3000,
        "://" * 4000,
        "://a:" * 3000,
        "-----BEGIN PRIVATE KEY-----" * 400,
        "token" * 2500,
        "a" * LONGEST + "key",
        "bearer " * 2000,
    ],
)
def test_hostile_texts_take_no_time(text):
    """None of the patterns can be made to try for ever."""
    began = time.perf_counter()

    clean(text)

    assert time.perf_counter() - began < 2.0


def test_values_are_plain_and_hidden_by_the_names_above_them():
    """What is under a secret name goes whole; whether it is set, stays."""
    value = {
        "user": "ann",
        "auth": [{"password": {"deep": "hunter2"}, "token": None, "secret": True}],
        "at": datetime(2026, 1, 2, tzinfo=UTC),
        "price": Decimal("1.50"),
        "id": UUID(int=1),
        "both": ("a", {"b"}),
        3: 4,
    }

    assert told(value) == {
        "user": "ann",
        "auth": [{"password": REDACTED, "token": None, "secret": True}],
        "at": "2026-01-02 00:00:00+00:00",
        "price": "1.50",
        "id": "00000000-0000-0000-0000-000000000001",
        "both": ["a", ["b"]],
        "3": 4,
    }


def test_depth_is_bounded():
    """A circle, or a very deep value, ends."""
    deep: list[object] = []
    for _ in range(10_000):
        deep = [deep]

    assert json.dumps(told(deep)).count("[") <= DEEPEST + 1


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(VALUES, st.sampled_from(SECRET))
def test_no_value_under_a_secret_name_is_told(value, name):
    """Whatever it is, and wherever: only None and booleans are told."""
    found = told({"outer": [{name: value}]})

    kept = found["outer"][0][name]
    assert kept == REDACTED or (kept is value and (value is None or isinstance(value, bool)))


@given(VALUES)
def test_whatever_is_told_is_json(value):
    """It can be written, and telling it again changes nothing."""
    found = told(value)

    assert told(found) == found
    json.dumps(found)


@given(st.text(), st.sampled_from(["password", "api_key", "token"]), st.text("abc123", min_size=8))
def test_pairs_are_hidden_wherever_they_are(around, name, value):
    """No text around a pair keeps its value from being hidden."""
    value = f"S3CR{value}T"

    assert value not in clean(f"{around} {name}={value} {around}")
