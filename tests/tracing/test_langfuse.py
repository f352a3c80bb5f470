"""Langfuse as a target: its address and credentials, and what only it reads."""

import base64
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tracing.langfuse_kit import PUBLIC, SECRET, Langfuse
from tracing.export.attributes import environment
from tracing.export.langfuse import base_url, moment, target, usage_details
from tracing.export.model import OutSpan
from tracing.export.transport import connect


def test_a_target_has_all_that_the_server_asks_for():
    """Path, Basic auth, version and project; no SDK is pretended, no key is shown."""
    found = target("https://cloud.langfuse.com", PUBLIC, SECRET, 5)

    assert found.endpoint == "https://cloud.langfuse.com/api/public/otel/v1/traces"
    account = base64.b64encode(f"{PUBLIC}:{SECRET}".encode()).decode()
    assert found.headers == {
        "authorization": f"Basic {account}",
        "x-langfuse-ingestion-version": "4",
        "x-langfuse-public-key": PUBLIC,
    }
    assert (found.protocol, found.compression) == ("http/protobuf", "gzip")
    assert (found.dialect, found.name, found.timeout) == ("langfuse", "langfuse", 5)
    assert SECRET not in repr(found)
    assert account not in repr(found)


def test_spans_reach_the_server():
    """The target's own transport is taken by a server that looks at everything."""
    with Langfuse() as server:
        transport = connect(target(server.url, PUBLIC, SECRET))
        span = OutSpan(b"t" * 16, b"s" * 8, None, "name", 1, 2, {}, {})
        answer = transport.send(transport.content([span], {}), 5)
        transport.close()

        assert (answer.status, answer.valid) == (200, True)
        assert not server.one("name").is_delayed


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("https://cloud.langfuse.com", "https://cloud.langfuse.com"),
        ("https://cloud.langfuse.com/", "https://cloud.langfuse.com"),
        (" cloud.langfuse.com ", "https://cloud.langfuse.com"),
        ("localhost:3000", "http://localhost:3000"),
        ("127.0.0.1", "http://127.0.0.1"),
        ("[::1]:3000", "http://[::1]:3000"),
        ("langfuse.internal:8443", "https://langfuse.internal:8443"),
        ("localhost.example.com", "https://localhost.example.com"),
        ("http://host/base/path/", "http://host/base/path"),
        ("https://host/api/public/otel", "https://host"),
        ("https://host/base/api/public/otel/v1/traces", "https://host/base"),
        ("https://host/api/public/", "https://host"),
        ("HTTPS://Host", "https://Host"),
    ],
)
def test_a_host_is_taken_as_people_write_it(host, url):
    """With or without scheme, slash, path, or the path of the endpoint."""
    assert base_url(host) == url


@pytest.mark.parametrize(
    "host",
    [
        *("", "   ", "ftp://host", "https://", "http://host:port", "http://host:0", "http://a b"),
        *("https://user:secret@host", "https://host?key=secret", "https://host#part"),
        "https://[::1",
    ],
)
def test_what_is_no_server_is_refused(host):
    """With a message that says what a host is, and nothing that may be secret."""
    with pytest.raises(ValueError, match="Langfuse host") as caught:
        base_url(host)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("public", "secret", "words"),
    [
        ("sk-lf-abc", "pk-lf-abc", "exchanged"),
        ("pk-lf-abc", "pk-lf-abc", "secret key begins with pk-lf"),
        ("", "sk-lf-abc", "public key is empty"),
        ("pk-lf-abc", "  ", "secret key is empty"),
        ("pk-lf:abc", "sk-lf-abc", "public key is not a key"),
        ("pk-lf-abc", "sk-lf\nx: y", "secret key is not a key"),
        ("pk-lf-äbc", "sk-lf-abc", "public key is not a key"),
    ],
)
def test_what_is_no_key_is_refused(public, secret, words):
    """The message says which of the two it is, and never shows it."""
    with pytest.raises(ValueError, match=words) as caught:
        target("https://host", public, secret)
    assert "abc" not in str(caught.value)


def test_keys_may_have_space_around_them_and_any_beginning():
    """As pasted; self-hosted servers may be set up with keys of their own."""
    found = target("https://host", " my-public ", "my:secret\n")

    said = base64.b64decode(found.headers["authorization"].removeprefix("Basic ")).decode()
    assert said == "my-public:my:secret"


@pytest.mark.parametrize(
    ("said", "word"),
    [
        ("prod", "prod"),
        ("Prod EU", "prod-eu"),
        ("langfuse-prod", "prod"),
        ("LANGFUSE", ""),
        ("x" * 50, "x" * 40),
        ("", ""),
    ],
)
def test_an_environment_keeps_to_the_rules(said, word):
    """Rather than becoming `default`, as the server would have it."""
    assert environment({"deployment.environment.name": said}) == word
    assert environment({"deployment.environment": said}) == word


@pytest.mark.parametrize(
    ("usage", "details"),
    [
        ({"input_tokens": 3, "output_tokens": 1}, {"input": 3, "output": 1, "total": 4}),
        ({"total_tokens": 9}, {"total": 9}),
        ({"input_tokens": 3.0, "total_tokens": 3}, {"input": 3, "total": 3}),
        (
            {
                "input_tokens": 10,
                "output_tokens": 5,
                "total_tokens": 15,
                "prompt_tokens_details.cached_tokens": 4,
                "output_tokens_details.reasoning_tokens": 2,
            },
            {
                "input": 6,
                "output": 3,
                "total": 15,
                "input_cached_tokens": 4,
                "output_reasoning_tokens": 2,
            },
        ),
        (
            {"input_tokens": 10, "cache_read_input_tokens": 90},  # Anthropic's are not inside
            {"input": 10, "cache_read_input_tokens": 90, "total": 10},
        ),
        ({"input_tokens": "many", "output_tokens": None, "x": math.nan, "y": True}, {}),
        ({"input_tokens": -1}, {}),
    ],
)
def test_usage_is_of_whole_numbers(usage, details):
    """Parts are taken out of their whole; what is no count is left out."""
    assert usage_details(usage) == details


@given(st.dictionaries(st.text(max_size=6), st.floats() | st.integers() | st.text(max_size=3)))
def test_no_usage_is_refused(usage):
    """Whatever a library says, the result is a mapping of whole numbers."""
    assert all(type(count) is int and count >= 0 for count in usage_details(usage).values())


def test_a_moment_is_exact_to_the_microsecond():
    """A float would have lost it."""
    assert moment(1_750_000_000_123_456_789) == "2025-06-15T15:06:40.123456Z"
    assert moment(0) == "1970-01-01T00:00:00.000000Z"
