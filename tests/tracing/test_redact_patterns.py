"""Secrets inside texts: none of a known shape survives, and ordinary words stay as they are."""

from __future__ import annotations

import base64
import random
import time
from collections.abc import Callable

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracing import redact_patterns
from tracing.redact import Redactor

DIGITS = "0123456789"
LOWER = "abcdefghijklmnopqrstuvwxyz"
LETTERS = LOWER + LOWER.upper() + DIGITS


def tail(least: int, most: int, alphabet: str = LETTERS) -> st.SearchStrategy[str]:
    """Return random letters of a key; their beginning has the mixture that all real ones have."""
    return st.text(alphabet, min_size=least, max_size=most).map(lambda text: "q7Xw3" + text)


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@st.composite
def jwts(draw: st.DrawFn) -> str:
    head = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').decode().rstrip("=")
    return f"{head}.{draw(tail(15, 60))}.{draw(tail(20, 43))}"


@st.composite
def private_keys(draw: st.DrawFn) -> str:
    kind = draw(st.sampled_from(["", "RSA ", "EC ", "OPENSSH ", "ENCRYPTED "]))
    body = "\n".join(draw(st.lists(tail(59, 59), min_size=1, max_size=5)))
    return f"-----BEGIN {kind}PRIVATE KEY-----\n{body}\n-----END {kind}PRIVATE KEY-----"


# The text as it stands somewhere, and the part of it that must go.
KEYS = st.one_of(
    tail(43, 43).map("sk-{}".format),
    tail(60, 120).map("sk-proj-{}".format),
    tail(90, 100, LETTERS + "_-").map("sk-ant-api03-{}".format),
    st.uuids().map("sk-lf-{}".format),
    st.uuids().map("pk-lf-{}".format),
    tail(60, 60).map("sk-or-v1-{}".format),
    st.tuples(st.sampled_from("pousr"), tail(31, 31)).map(lambda two: f"gh{two[0]}_{two[1]}"),
    tail(70, 70).map("github_pat_11AAAAAAA0_{}".format),
    tail(15, 15, LETTERS + "_-").map("glpat-{}".format),
    tail(40, 40).map("xoxb-123456789012-1234567890123-{}".format),
    tail(20, 30).map("sk_live_{}".format),
    tail(20, 30).map("rk_test_{}".format),
    tail(30, 30, LETTERS + "_-").map("AIza{}".format),
    st.text(LOWER.upper() + "234567", min_size=16, max_size=16).map("AKIA{}".format),
    jwts(),
    private_keys(),
).map(lambda key: (key, key))
CREDENTIALS = st.one_of(
    tail(10, 60, LETTERS + "-._~+/").map(lambda key: (f"Bearer {key}", key)),
    tail(10, 60).map(lambda key: (f"authorization: bearer {key}", key)),
    tail(10, 60).map(lambda key: (f"'Authorization': 'Token {key}'", key)),
    tail(5, 20).map(lambda key: (f"Basic {b64('user:' + key)}", b64("user:" + key))),
    tail(5, 20, LETTERS + "!$*@").map(lambda key: (f"postgres://me:{key}@db.local/x", key)),
    tail(5, 20).map(lambda key: (f"redis://:{key}@127.0.0.1:6379", key)),
    tail(5, 20).map(lambda key: (f"https://x.io/a?b=c&api_key={key}&d=1", key)),
    tail(5, 20).map(lambda key: (f"https://x.io/a?token={key}", key)),
    tail(15, 20).map(lambda key: (f"https://x.io/a?key={key}", key)),
    tail(15, 20).map(lambda key: (f"https://x.io/?next=http://y.io?client_secret={key}", key)),
    tail(35, 35, LETTERS + "/+").map(lambda key: (f"aws_secret_access_key = {key}", key)),
)
PLANTED = st.one_of(KEYS, CREDENTIALS)

words = st.text(st.characters(codec="utf-8"), max_size=12)
around = st.tuples(words, st.sampled_from([" ", "\n", '"', "(", "=", ": ", "\t", "/", "…"]))
json_trees = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4),
    max_leaves=12,
)


def put(tree: object, text: str, draw: Callable[[int], int]) -> object:
    """Return *tree* with *text* somewhere in it, as a value or as a key."""
    if isinstance(tree, list):
        place = draw(len(tree))
        if place < len(tree) and draw(1):
            return [*tree[:place], put(tree[place], text, draw), *tree[place + 1 :]]
        return [*tree[:place], text, *tree[place:]]
    if isinstance(tree, dict):
        keys = list(tree)
        if keys and draw(1):
            key = keys[draw(len(keys) - 1)]
            return {**tree, key: put(tree[key], text, draw)}
        return {**tree, text: 1} if draw(1) else {**tree, "planted": text}
    return text if draw(1) else [tree, text]


@given(json_trees, PLANTED, around, words, st.data())
def test_planted_secrets_never_survive(tree, planted, before, after, data):
    """Wherever in a document a secret stands, as a value or in a key, it is gone."""
    text, secret = planted
    whole = "".join(before) + text + " " + after
    document = put(tree, whole, lambda most: data.draw(st.integers(0, most)))

    kept = Redactor().apply(orjson.dumps(document))

    assert secret not in _strings(orjson.loads(kept))
    assert secret not in Redactor().text(whole)


def _strings(tree: object) -> str:
    if isinstance(tree, str):
        return tree
    if isinstance(tree, dict):
        return "\n".join([*tree, *map(_strings, tree.values())])
    return "\n".join(map(_strings, tree)) if isinstance(tree, list) else ""


@given(PLANTED, st.data())
def test_secrets_written_with_escapes(planted, data):
    """A document that spells letters as numbers hides nothing by it."""
    text, secret = planted
    place = data.draw(st.integers(0, len(text) - 1))
    start, end = (orjson.dumps(part)[1:-1] for part in (text[:place], text[place + 1 :]))
    letter = b"\\u%04x" % ord(text[place])

    kept = Redactor().apply(b'{"a":"' + start + letter + end + b'"}')

    assert secret not in _strings(orjson.loads(kept))


CLEAN = st.text("abcdefghij klmnopqrstuvw.,-_/:\n\"'{}äß漢", max_size=40)


@given(
    st.recursive(
        st.none() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | CLEAN,
        lambda inner: st.lists(inner, max_size=5) | st.dictionaries(CLEAN, inner, max_size=5),
    )
)
def test_documents_without_secrets_are_the_same_object(tree):
    """Nothing is written again, let alone changed, where there is nothing to hide."""
    redact = Redactor()
    payload = orjson.dumps(tree)
    if any(map(redact.is_secret, _strings(tree).split("\n"))):
        return  # letters that happen to say `pwd`

    assert redact.apply(payload) is payload


PICTURE = base64.b64encode(random.Random(7).randbytes(300_000)).decode()
INNOCENT = {
    "url": "https://example.com/a/b?id=12&page=3&sort=asc#top",
    "url with port": "http://localhost:8080/x?mail=jo@example.org and http://[::1]:80/@me",
    "url with user": "ssh://git@github.com:22/x.git https://jo@example.org",
    "url with key": "https://x.io/?key=name&keys=a,b&max_tokens=512&keyword=python",
    "time of day": "see http://x.io at 12:30 or ask jo@x.org",
    "mail": "Jo <jo.smith+news@example.co.uk>, ann@example.org",
    "uuid": "9f1b2c3d-4e5f-6789-abcd-ef0123456789 task-9f1b2c3d-4e5f-6789-abcd-ef0123456789",
    "sha": "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "commit": "e17c57d7a1b2c3d4e5f60718293a4b5c6d7e8f90",
    "price": "$1,234.56, 19.99 EUR, =SUM(A1:B2)",
    "hyphens": "risk-averse task-oriented-programming-language-v2-2024 disk-usage-analyser-2",
    "package": "sk-learn-compatible-estimators-v2-final pip install sk-learn==1.2.3",
    "names": "task_live_update_function sk_test book_live_reservation_system k_test_",
    "bearer": "Bearer authentication, Bearer token, the Bearer accessToken of Bad Homburg",
    "basic": "Basic understanding of Basic authentication; BASIC programming1985"
    " Basic Options; Basic Auth",
    "authorization": "Authorization: required. authorization: see below, authorization=no",
    "placeholders": "Authorization: Bearer <token> Authorization: Bearer $TOKEN Bearer {token}"
    " postgres://${USER}:${PASSWORD}@db https://x.io/?token={token}&api_key=…",
    "code": "def get(token: str, *, api_key=None): return self.token == token  # password?",
    "code url": 'f"https://{user}:{host}/" + "?token=" + token; redis://localhost:6379/0',
    "begin": "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE----- -----BEGIN PUBLIC KEY",
    "markdown": "| a | b |\n|-----|-----|\n------------\n> JSON eyJ AKIA AIza gh ghp_ xoxb- sk-",
    "camel": "JavaScriptObjectNotation AIAssistant KAIZEN ASIA AKIAs MALAYSIA",
    "picture": "data:image/png;base64," + PICTURE,
    "json": '{"tokens": 5, "note": "it is 5 o\'clock"}',
    "tokens": "usage: prompt_tokens=12&completion_tokens=7 ?max_tokens=5",
    "chinese": "令牌 https://例え.jp/?q=テスト … +12 chars",
    "cut": "https://example.org:8080… +12 chars",
    "question": "What is the secret key of his success? His password is on the wall.",
}


@pytest.mark.parametrize("name", INNOCENT)
def test_innocent_texts_stay(name):
    """Ordinary texts come back as they were: the very same bytes."""
    payload = orjson.dumps({"text": INNOCENT[name], "list": [INNOCENT[name]]})

    assert Redactor().apply(payload) == payload
    assert Redactor().text(INNOCENT[name]) == INNOCENT[name]


@pytest.mark.parametrize(
    "rows",
    [
        ["token", "count"],
        ["password", "username"],
        ["What is the api key?", "I do not know."],
        [["token", "count"], ["the", "5"]],
        ["x-api-key"],
        ["x-api-key", "x-request-id", "cookie"],
        ["x-api-key", 5],
        ["content-type", "authorization/x"],
    ],
)
def test_innocent_lists_stay(rows):
    """Two words in a list are no header."""
    payload = orjson.dumps(rows)

    assert Redactor().apply(payload) is payload


@pytest.mark.parametrize(
    ("rows", "kept"),
    [
        (["authorization", "anything"], ["authorization", "[redacted]"]),
        ([["x-api-key", "v"], ["accept", "*/*"]], [["x-api-key", "[redacted]"], ["accept", "*/*"]]),
        ({"h": [["Set-Cookie", "a=b"]]}, {"h": [["Set-Cookie", "[redacted]"]]}),
        ([["OPENAI_API_KEY", "v"]], [["OPENAI_API_KEY", "[redacted]"]]),
    ],
)
def test_headers_in_lists(rows, kept):
    """Pairs of a header and its value are read like keys and values."""
    assert orjson.loads(Redactor().apply(orjson.dumps(rows))) == kept


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("postgres://me:hunter2@db/x", "postgres://me:[redacted]@db/x"),
        ("postgres://me:p@ss:w0rd@db", "postgres://me:[redacted]@db"),
        ("GET /a?b=1&access_token=x&c=2", "GET /a?b=1&access_token=[redacted]&c=2"),
        ("http://x/?sig=abc", "http://x/?sig=abc"),
        ("curl -H 'Authorization: Bearer abc'", "curl -H 'Authorization: Bearer abc'"),
        ("curl -H 'Authorization: Bearer abcd' x", "curl -H 'Authorization: Bearer [redacted]' x"),
        ("postgres://me:hunt… +12 chars", "postgres://me:[redacted]… +12 chars"),
        ("-----BEGIN PRIVATE KEY-----\nMIIE… +1600 chars", "[redacted]"),
    ],
)
def test_what_is_left_of_a_text(text, kept):
    """Only the secret itself goes, also where the text was cut within it."""
    assert Redactor().text(text) == kept
    assert orjson.loads(Redactor().apply(orjson.dumps([text]))) == [kept]


def test_shapes_can_be_left_in():
    """Without shapes only keys count."""
    payload = orjson.dumps({"a": "sk-" + "a1B2" * 12, "password": "x"})

    assert b"a1B2" in Redactor(shapes=False).apply(payload)


def test_a_text_hidden_by_a_second_one_goes():
    """Of a key written twice, the text that no reader sees is not left in the bytes."""
    secret = b"sk-" + b"a1B2" * 12

    assert secret not in Redactor().apply(b'{"a":"' + secret + b'","a":"b"}')


SPITEFUL = {
    "dashes": "sk-",
    "dashes with words": "sk-a-",
    "jwt": "eyJ",
    "jwt dots": "eyJa.",
    "github": "ghp_",
    "google": "AIza",
    "slack": "xoxb-",
    "gitlab": "glpat-",
    "url": "://",
    "userinfo": "://a:",
    "ats": "://a:b@",
    "colons": "://a:b",
    "parameters": "?token=",
    "names": "?a.b",
    "equals": "?a=",
    "begin": "-----BEGIN ",
    "keys": "-----BEGIN PRIVATE KEY-----",
    "authorization": "authorization: ",
    "bearer": "Bearer ",
    "basic": "Basic AAAA",
    "spaces": " ",
    "letters": "a",
    "camel": "aB",
    "at": "@",
    "quotes": 'authorization"',
    "aws": "secret_access_key = ",
    "cut": "… +1",
}


@pytest.mark.parametrize("name", SPITEFUL)
def test_time_grows_no_faster_than_the_text(name):
    """A text made to mislead a regular expression costs its length, not the square of it."""
    unit = SPITEFUL[name]

    def seconds(size: int) -> float:
        text = "Bearer ://u:sk-x?a=authorization: " + unit * (size // len(unit))
        best = float("inf")
        for _ in range(3):
            start = time.thread_time()
            for shape in redact_patterns.SHAPES:
                shape.clean(text, "*", lambda name: False)
                shape.marker.search(text.encode())
            best = min(best, time.thread_time() - start)
        return best

    small, large = seconds(31_250), seconds(1_000_000)

    assert large < 32 * 4 * max(small, 0.0005)
    assert large < 20


@given(PLANTED, words, words)
def test_the_quick_look_overlooks_nothing(planted, before, after):
    """Whatever has the marker of a shape is suspected of it, before any expression is tried."""
    data = f"{before} {planted[0]} {after}".encode()
    marked = {shape.name for shape in redact_patterns.SHAPES if shape.marker.search(data)}

    assert {shape.name for shape in redact_patterns.suspects(data, lambda _: True)} == marked


MARKERS = [
    *("-----BEGIN RSA PRIVATE KEY", "sk-", "pk-lf-", "ghp_", "gho_", "ghu_", "ghs_", "ghr_"),
    *("github_pat_", "glpat-", "gldt-", "glrt-", "glft-", "glptt-", "glcbt-", "gloas-", "glsoat-"),
    *("glimt-", "xoxa-", "xoxb-", "xoxe-", "xoxo-", "xoxp-", "xoxr-", "xoxs-"),
    *("sk_live_", "sk_test_", "rk_live_", "rk_test_", "AIza", "AKIA", "ASIA", "eyJ"),
    *("aws_secret_access_key", "a://b:c@d", "authorization", "Authorization", "Bearer "),
    *("BEARER ", "Basic ", "BASIC ", "?token=", "&api_key=", "#access_token="),
]


@pytest.mark.parametrize("marker", MARKERS)
def test_every_marker_is_seen(marker):
    """Each way a secret may begin is noticed, whatever stands beside it."""
    for near in ("", "x", "-", "_", "k", "g", "l", "z", "AI", "漢"):
        data = f"{near}{marker}{near}".encode()
        marked = {shape.name for shape in redact_patterns.SHAPES if shape.marker.search(data)}

        assert marked
        assert marked <= {found.name for found in redact_patterns.suspects(data, lambda _: True)}
