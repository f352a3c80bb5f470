"""Addresses, bodies and headers of requests, and when to come back: the pure parts."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketflow_async.resources.http_address import address, base, form, query
from pocketflow_async.resources.http_body import NOTHING, body, headers
from pocketflow_async.resources.http_errors import retry_after

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
pairs = st.lists(st.tuples(words.filter(bool), words), max_size=6)


@given(pairs)
def test_what_is_asked_can_be_read_again(asked):
    """Any names and values arrive as they are, in order; so do those of a form."""
    url = address("http://h/api", "/x?a=1#part", asked)

    assert parse_qsl(urlsplit(url).query, keep_blank_values=True) == [("a", "1"), *asked]
    assert urlsplit(url).fragment == "part"
    assert parse_qsl(form(dict(asked)).decode(), keep_blank_values=True) == list(
        dict(asked).items()
    )


@pytest.mark.parametrize(
    ("start", "url", "whole"),
    [
        ("http://h/api", "/x", "http://h/api/x"),
        ("http://h/api", "x/y", "http://h/api/x/y"),
        ("http://h", "", "http://h"),
        ("http://h/api", "?a=1", "http://h/api?a=1"),
        ("http://h", "//other/x", "http://h/other/x"),
        ("http://h", "a:b", "http://h/a:b"),
        ("http://h", "https://other/x", "https://other/x"),
        (None, "https://other/x", "https://other/x"),
    ],
)
def test_an_address_is_whole(start, url, whole):
    """What is no whole address comes after the base, and never leaves its server."""
    assert address(start, url) == whole


def test_an_address_that_is_none():
    """Without a base only a whole address will do; the error shows no secret of it."""
    with pytest.raises(ValueError, match="give the client a base_url"):
        address(None, "/x")
    for wrong in ("ftp://h", "h/x", "http://", "http://u:hidden@h/?a=hidden", "http://h/#a"):
        with pytest.raises(ValueError, match="base_url must") as caught:
            base(wrong)
        assert "hidden" not in str(caught.value)


def test_query_of_every_kind():
    """Nothing for None, several for a list, small letters for truth, and a text as it is."""
    assert query({"a": None, "b": [1, None, 2.5], "c": True, "d": False}) == (
        "b=1&b=2.5&c=true&d=false"
    )
    assert query("?a=1") == query("a=1") == query([("a", 1)]) == "a=1"
    assert query(None) == query({}) == ""


def test_bodies():
    """JSON, forms, bytes and texts are written here; anything else is the back end's."""
    other = object()
    assert body(None, None).content == b"null"
    assert body(NOTHING, None) == (None, None, None)
    assert body(NOTHING, bytearray(b"x")).content == b"x"
    assert body(NOTHING, {"a": 1}, with_files=True).rest == {"a": 1}
    assert body(NOTHING, other).rest is other
    with pytest.raises(TypeError, match="two bodies"):
        body({}, b"x")
    with pytest.raises(ValueError, match="Out of range"):
        body(float("nan"), None)


def test_headers_in_any_case():
    """One that is given stands in place of the client's own, however it is written."""
    assert headers({"X-A": "1", "B": "2"}, {"x-a": "3"}, None) == {"B": "2", "x-a": "3"}
    assert headers({"content-type": "own"}, {}, "kind") == {"content-type": "own"}
    assert headers({}, {}, "kind") == {"Content-Type": "kind"}


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({}, None),
        (
            {
                "retry-after": "Fri, 20 Nov 2026 10:00:30 GMT",
                "date": "Fri, 20 Nov 2026 10:00:00 GMT",
            },
            30.0,
        ),
        (
            {
                "retry-after": "Fri, 20 Nov 2026 09:00:00 GMT",
                "date": "Fri, 20 Nov 2026 10:00:00 GMT",
            },
            0.0,
        ),
        ({"retry-after": "Fri, 20 Nov 2026 10:00:30 GMT"}, None),
    ],
)
def test_when_to_come_back(said, seconds):
    """Seconds, or a date by the server's own clock; anything else is nothing."""
    assert retry_after(said) == seconds
