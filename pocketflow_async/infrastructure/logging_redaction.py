"""Values as a log may show them: plain, of bounded size, and without secrets. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from itertools import islice
from pathlib import PurePath
from typing import Any, Final
from uuid import UUID

REDACTED: Final = "[redacted]"
LONGEST: Final = 10_000
"""Characters of a text that are shown."""
MOST: Final = 200
"""Items of a container that are shown."""
DEEPEST: Final = 8
_MEMORABLE: Final = 100  # characters of a name that is worth remembering


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_WORDS: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_]+")
_ALWAYS: Final = _words(
    "authorization bearer cookie cookies credential credentials jwt mnemonic passphrase passwd "
    "password passwords pwd secret secrets"
)
_ENDINGS: Final = ("apikey", "passphrase", "passwd", "password", "secret", "authtoken")
_NO_KEY: Final = _words(
    "by cache dedup dictionary event foreign group hot idempotency index lock lookup order "
    "partition primary public redis routing row shard sort state store"
)
"""Words before `key` that make it a name of something, and no secret."""
_NO_TOKEN: Final = _words(
    "address amount budget cost count decimals id index length limit name number out pair per "
    "price probability rate size symbol type usage window"
)
"""Words after `token` that make it a piece of text or a coin, and no secret."""

_SIGNS: Final = (
    *("key", "secret", "token", "pass", "pwd", "credential", "cookie", "jwt", "mnemonic"),
    *("authori", "bearer", "basic ", "://", "-----begin", "sk-", "sk_", "pk-", "pk_", "rk-", "rk_"),
    *("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "xox", "akia", "eyj"),
)
"""A text with none of these has no secret that would be found; so it is with most."""
_SHAPES: Final = (
    (re.compile(r"(://[^\s/:@]{0,200}:)[^\s/]{1,1000}@"), rf"\1{REDACTED}@"),
    (re.compile(r"\b(bearer|basic)\s+[\w.~+/=-]{6,}", re.I), rf"\1 {REDACTED}"),
    (
        re.compile(r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z ]+-----|\Z)", re.S),
        REDACTED,
    ),
    (
        re.compile(
            r"\b(?:[spr]k[-_][\w-]{12,}|gh[pousr]_\w{20,}|xox[a-z]-[\w-]{10,}|AKIA[0-9A-Z]{16}"
            r"|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*)"
        ),
        REDACTED,
    ),
)
_PAIR: Final = re.compile(
    r"""(?<![\w-])([\w-]{0,40}?(?:key|secret|token|pass|pwd|credential|cookie|jwt|mnemonic|authori)"""
    r"""[\w-]{0,40})(['"]?\s{0,3}[:=]\s{0,3})"""
    r"""("[^"\n]{0,2000}(?:"|\Z)|'[^'\n]{0,2000}(?:'|\Z)|[^\s,;&<>)}\]'"]+)""",
    re.I,
)
"""A name that may be secret, and its value."""


def is_secret(name: str) -> bool:
    """Return whether what is called *name* is nobody's business.

    An `api_key` is, and an `idempotency_key` is not; an `access_token` is, `tokens` are not.
    """
    return _judged(name) if len(name) <= _MEMORABLE else _judged.__wrapped__(name)


@lru_cache(10_000)
def _judged(name: str) -> bool:
    words = [word.lower() for word in _WORDS.findall(name)]
    if not _ALWAYS.isdisjoint(words) or "".join(words).endswith(_ENDINGS):
        return True
    for place, word in enumerate(words):
        if word == "key" and place and words[place - 1] not in _NO_KEY:
            return True
        if word == "token" and _NO_TOKEN.isdisjoint(words[place + 1 : place + 2]):
            return True
    return False


def clean(text: str) -> str:
    """Return *text*, such as a message, without its secrets, cut if it is long."""
    if len(text) > LONGEST:
        text = f"{text[:LONGEST]}… ({len(text):,} characters)"
    low = text.lower()
    for sign in _SIGNS:
        if sign in low:
            break
    else:
        return text
    for shape, instead in _SHAPES:
        text = shape.sub(instead, text)
    return _without_values(text)


def told(value: Any, depth: int = 0) -> Any:
    """Return *value* as plain JSON without its secrets; what is something else as its repr."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, int | float):
        return value
    if depth >= DEEPEST:
        return "…"
    if isinstance(value, Mapping):
        return told_items(value, depth)
    if isinstance(value, list | tuple | set | frozenset):
        found = [told(item, depth + 1) for item in islice(value, MOST)]
        return found if len(value) <= MOST else [*found, f"… ({len(value):,} items)"]
    return clean(shown(value))


def told_items(values: Mapping[Any, Any], depth: int = 0) -> dict[str, Any]:
    """Return a mapping as plain JSON; None and booleans stay, which only say whether it is set."""
    found = {}
    for key, value in islice(values.items(), MOST):
        name = key if isinstance(key, str) else shown(key)
        hidden = is_secret(name) and value is not None and not isinstance(value, bool)
        found[clean(name)] = REDACTED if hidden else told(value, depth + 1)
    if len(values) > MOST:
        found["…"] = f"{len(values):,} items"
    return found


def shown(value: object) -> str:
    """Return what an object says of itself; its class, if it cannot."""
    try:
        return str(value) if isinstance(value, _READABLE) else repr(value)
    except Exception:  # noqa: BLE001 (a line of a log must not fail)
        return f"<{type(value).__name__}>"


def _without_values(text: str) -> str:
    place = 0
    while match := _PAIR.search(text, place):
        name, _, value = match.groups()
        place = match.start(3)  # what is no value of a secret may be the name of one
        if is_secret(name) and value.lower() not in _WHETHER:
            quote = value[0] if value[0] in "'\"" else ""
            text = f"{text[:place]}{quote}{REDACTED}{quote}{text[match.end() :]}"
            place += len(REDACTED)
    return text


_READABLE: Final = (BaseException, date, time, timedelta, Decimal, Enum, PurePath, UUID)
_WHETHER: Final = frozenset({"none", "null", "true", "false", "[redacted", "bearer", "basic"})
