"""`Redactor`: no value under a secret-looking key survives, and little else is touched."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracing.redact import DEFAULT_KEYS, Redactor

SECRET = "sk-do-not-show"
SPELLINGS = {
    "snake": "_".join,
    "kebab": "-".join,
    "spaces": " ".join,
    "joined": "".join,
    "dots": ".".join,
    "constant": lambda words: "_".join(words).upper(),
    "camel": lambda words: words[0] + "".join(word.capitalize() for word in words[1:]),
    "pascal": lambda words: "".join(word.capitalize() for word in words),
    "header": lambda words: "-".join(word.capitalize() for word in words),
}
separated = st.sampled_from(["snake", "kebab", "spaces", "dots", "constant", "header"])
others = st.sampled_from(["my", "open", "langfuse", "db", "github", "prod", "v2"])


def boxed(key: str, depth: int) -> bytes:
    value: object = {key: SECRET}
    for level in range(depth):
        value = [1, value] if level % 2 else {"inner": value, "other": None}
    return orjson.dumps(value)


@given(st.sampled_from(DEFAULT_KEYS), st.sampled_from(sorted(SPELLINGS)), st.integers(0, 12))
def test_every_spelling_at_every_depth(key, spelling, depth):
    """However a secret key is written and however deep it lies, its value is gone."""
    data = Redactor().apply(boxed(SPELLINGS[spelling](key.split()), depth))

    assert SECRET.encode() not in data
    assert b"[redacted]" in data


@given(st.sampled_from(DEFAULT_KEYS), separated, st.lists(others), st.lists(others))
def test_prefixes_and_suffixes(key, spelling, before, after):
    """A secret key stays one with other words around it."""
    name = SPELLINGS[spelling]([*before, *key.split(), *after])

    assert SECRET.encode() not in Redactor().apply(orjson.dumps({name: SECRET}))


@given(st.sampled_from(DEFAULT_KEYS), st.data())
def test_any_mixture_of_cases(key, data):
    """Upper and lower case do not matter, not even mixed without sense."""
    name = "".join(
        letter.upper() if data.draw(st.booleans()) else letter for letter in key.replace(" ", "_")
    )

    assert SECRET.encode() not in Redactor().apply(orjson.dumps({name: SECRET}))


@pytest.mark.parametrize(
    "key",
    [
        "OPENAI_API_KEY",
        "dbPassword",
        "langfuse_secret_key",
        "x-api-key",
        "Set-Cookie",
        "apikey",
        "api_keys",
        "token2",
        "githubToken",
        "awsSecretAccessKey",
        "Proxy-Authorization",
        "bearer_token",
        "userTokenValue",
        "dbpassword",
    ],
)
def test_keys_seen_in_the_wild(key):
    """Keys of well-known services are secret."""
    assert Redactor().is_secret(key)


@pytest.mark.parametrize(
    "key",
    [
        "max_tokens",
        "tokens",
        "token_count",
        "input_tokens",
        "prompt_tokens",
        "tokenizer",
        "secretary",
        "keyboard",
        "monkey",
        "author",
        "maxTokens",
        "tokenCount",
        "token_usage",
        "primary_key",
        "key",
        "keys",
        "authority",
        "tokens_per_second",
    ],
)
def test_innocent_keys_stay(key):
    """Keys that only look like secrets keep their values, in the very same bytes."""
    payload = orjson.dumps({key: SECRET, "list": [{key: 5}]})

    assert Redactor().apply(payload) is payload


def test_containers_go_whole():
    """A list or object under a secret key is replaced, not searched."""
    payload = orjson.dumps({"credentials": {"user": SECRET, "more": [SECRET]}, "cookies": [SECRET]})

    assert orjson.loads(Redactor().apply(payload)) == {
        "credentials": "[redacted]",
        "cookies": "[redacted]",
    }


def test_unset_secrets_show_that_they_are_unset():
    """None and booleans stay."""
    payload = orjson.dumps({"token": None, "password": False})

    assert Redactor().apply(payload) == payload


def test_users_keys_are_added():
    """Keys of the user count besides the usual ones, in any spelling, but not inside words."""
    redact = Redactor(keys=("iban", "pin", "tax number", "contraseña"), replacement="***")
    payload = orjson.dumps(
        {"IBAN": 1, "spin": 2, "taxNumber": 3, "password": 4, "my-pin": 5, "Contraseña": 6}
    )

    assert orjson.loads(redact.apply(payload)) == {
        "IBAN": "***",
        "spin": 2,
        "taxNumber": "***",
        "password": "***",
        "my-pin": "***",
        "Contraseña": "***",
    }


def test_escaped_keys_are_read_as_json_reads_them():
    """A key written with escapes is the same key."""
    assert SECRET.encode() not in Redactor().apply(b'{"p\\u0061ssword": "%s"}' % SECRET.encode())


def test_a_key_written_twice_hides_both_values():
    """The value that a JSON reader would ignore is not left in the bytes."""
    payload = b'{"token": "%s", "token": null}' % SECRET.encode()

    assert SECRET.encode() not in Redactor().apply(payload)


def test_what_is_no_json_is_replaced_whole():
    """Nobody knows what is in broken JSON, so none of it is kept."""
    assert Redactor().apply(b'{"token": "' + SECRET.encode()) == b'"[redacted]"'


def test_many_different_keys_do_not_fill_memory():
    """Keys made of data are not remembered for ever."""
    redact = Redactor()
    for number in range(30_000):
        redact.apply(orjson.dumps({f"user {number}": 1}))

    assert len(redact._innocent) <= 10_000


@pytest.mark.parametrize(
    ("key", "secret"),
    [("OPENAI_KEY", True), ("LANGFUSE_2_KEY", True), ("jwt", True), ("primary_key", False)],
)
def test_variables_that_end_in_key_are_secret(key: str, secret: bool) -> None:
    """An environment variable named so holds one; a field of that ending mostly does not."""
    assert Redactor().is_secret(key) is secret
