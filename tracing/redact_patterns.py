"""Secrets that are known by their looks, wherever they stand in a text. Pure.

Nearly every document has none, and must cost next to nothing. So there are three looks, each dearer
than the one before: at a *sketch*, the few bytes left when all that say nothing are deleted; for a
marker such as `sk-`, in the bytes themselves; and at each string, with a regular expression.

No expression here can run away: what may be long is the last thing it asks for, or is taken whole
and judged afterwards, so a failing match never goes back over what it has read.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

IsSecret: TypeAlias = Callable[[str], bool]
"""Tells whether a name is one of a secret."""

Judge: TypeAlias = Callable[[re.Match[str], IsSecret], bool]


class Shape(NamedTuple):
    """One way a secret may look."""

    name: str
    marker: re.Pattern[bytes]
    """Is in every document that has such a secret; begins with a literal, which makes it fast."""
    text: re.Pattern[str]
    """Its group `secret` is what must go."""
    judge: Judge
    """Whether what *text* has found is a secret indeed."""

    def clean(self, text: str, replacement: str, is_secret: IsSecret) -> str:
        """Return *text* with all secrets of this shape replaced."""

        def put(match: re.Match[str]) -> str:
            if not self.judge(match, is_secret):
                return match[0]
            start, end = (place - match.start() for place in match.span("secret"))
            return match[0][:start] + replacement + match[0][end:]

        return self.text.sub(put, text)


# Words as people write them, joined like theseWords and perhaps numbered: no secret is made so.
_WORD: Final = re.compile(r"(?:[A-Z]?[a-z]+(?:[A-Z][a-z]+)*|[A-Z]*)\d{0,4}|\d{0,8}")
_PIECES: Final = re.compile(r"[A-Za-z0-9]+")
_LONG_WORD: Final = 32
_SHORT_SECRET: Final = 16  # characters of a value whose name says little, such as `key`
_ISSUERS: Final = ("lf-", "ant-", "proj-", "or-", "svcacct-", "admin-")
_PLACEHOLDER: Final = re.compile(r"\$?\{[\w.]*\}|\.\.\.|…")
_VAGUE: Final = frozenset({"key", "sig", "signature", "x-amz-signature", "x-goog-signature"})


def is_random(text: str) -> bool:
    """Tell whether *text* is no row of words and numbers, such as `sk-learn-pipelines-v2`."""
    return any(
        len(piece) >= _LONG_WORD or not _WORD.fullmatch(piece) for piece in _PIECES.findall(text)
    )


def _always(match: re.Match[str], is_secret: IsSecret) -> bool:
    return True


def _looks_random(match: re.Match[str], is_secret: IsSecret) -> bool:
    return is_random(match["secret"])


def _is_key(match: re.Match[str], is_secret: IsSecret) -> bool:
    tail = match["tail"]
    return len(tail) >= 20 and (tail.startswith(_ISSUERS) or is_random(tail))


def _is_jwt(match: re.Match[str], is_secret: IsSecret) -> bool:
    parts = match["secret"].split(".")
    return len(parts) > 1 and len(parts[0]) > 10 and len(parts[1]) > 5


def _is_userinfo(match: re.Match[str], is_secret: IsSecret) -> bool:
    if _PLACEHOLDER.fullmatch(match["secret"]):
        return False
    return match["end"] == "@" or not match["secret"].isdigit()


def _is_basic(match: re.Match[str], is_secret: IsSecret) -> bool:
    """Tell whether it is base64 of `user:password`; the end may have been cut off."""
    data = match["secret"].rstrip("=")
    if len(data) % 4 == 1:
        data = data[:-1]
    try:
        plain = base64.b64decode(data + "=" * (-len(data) % 4))
        said = plain[: len(plain) - 3].decode() + plain[-3:].decode("utf-8", "ignore")
    except ValueError:
        return False
    return ":" in said and said.isprintable()


def _is_parameter(match: re.Match[str], is_secret: IsSecret) -> bool:
    name, value = match["name"], match["secret"]
    if name.lower() in _VAGUE:
        return len(value) >= _SHORT_SECRET and is_random(value)
    return is_secret(name) and not _PLACEHOLDER.fullmatch(value)


def _shape(name: str, marker: str, text: str, judge: Judge = _always) -> Shape:
    return Shape(name, re.compile(marker.encode()), re.compile(text), judge)


_CUT: Final = r"… \+\d{1,12} chars\Z"
"""What `encode` writes where it has cut a long text."""

PRIVATE: Final = _shape(
    "private key",
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY",
    r"(?P<secret>-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
    r"[\s\S]*?(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|\Z))",
)
DASHED: Final = _shape(  # OpenAI, Anthropic, OpenRouter, DeepSeek, Langfuse and those who copy them
    "sk-",
    r"k-(?:(?<=sk-)|(?<=pk-)(?=lf-))",
    r"(?<![A-Za-z0-9])(?P<secret>(?:sk-|pk-(?=lf-))(?P<tail>[\w-]*))",
    _is_key,
)
GITHUB: Final = _shape(
    "GitHub",
    r"g(?:h[pousr]|ithub_pat)_",
    r"(?P<secret>(?:gh[pousr]_|github_pat_)[A-Za-z0-9_]{20,})",
)
GITLAB: Final = _shape(
    "GitLab",
    r"gl(?:pat|dt|rt|ft|ptt|cbt|oas|soat|imt)-",
    r"(?<![A-Za-z0-9])(?P<secret>gl(?:pat|dt|rt|ft|ptt|cbt|oas|soat|imt)-"
    r"(?P<tail>[\w.-]{16,}))",
    _looks_random,
)
SLACK: Final = _shape(
    "Slack", r"xox[abeoprs]-", r"(?P<secret>xox[abeoprs]-[A-Za-z0-9-]{10,})", _looks_random
)
STRIPE: Final = _shape(
    "Stripe", r"k_(?:live|test)_", r"(?P<secret>(?:sk|rk)_(?:live|test)_[A-Za-z0-9]{10,})"
)
GOOGLE: Final = _shape("Google", r"AIza", r"(?<![A-Za-z0-9])(?P<secret>AIza[\w-]{30,})")
AWS: Final = _shape(
    "AWS",
    r"IA(?:(?<=AKIA)|(?<=ASIA))",
    r"(?<![A-Za-z0-9])(?P<secret>A[KS]IA[A-Z0-9]{16})(?![A-Za-z0-9])",
)
AWS_SECRET: Final = _shape(
    "AWS secret",
    r"aws_secret_access_key",
    r"""aws_secret_access_key["'\\]{0,3}[ \t]{0,8}[=:][ \t]{0,8}["'\\]{0,3}"""
    r"(?P<secret>[A-Za-z0-9/+=]{16,})",
)
JWT: Final = _shape("JWT", r"eyJ", r"(?P<secret>eyJ[\w-]*(?:\.[\w-]*)*)", _is_jwt)
USERINFO: Final = _shape(
    "password in URL",
    r"""://[^\s/@"]*(?:@|…)""",
    r"""://[^\s/:@?#"'<>]*:(?P<secret>[^\s/?#"'<>…]+)(?P<end>@|""" + _CUT + ")",
    _is_userinfo,
)
PARAMETER: Final = _shape(
    "parameter of URL",
    r"[?&#][\w.-]{1,64}=",
    r"""(?:[?&]|#(?=access_token))(?P<name>[\w.-]{1,64})=(?P<secret>[^?&#\s"'<>\\]+)""",
    _is_parameter,
)
AUTHORIZATION: Final = _shape(
    "authorization",
    r"uthorization",
    r"""[Aa]uthorization["'\\]{0,3}[ \t]{0,8}[:=,][ \t]{0,8}[bBuU]?["'\\]{0,3}"""
    r"""(?i:bearer|basic|token|api-?key|key|digest|negotiate|bot|aws4-hmac-sha256)[ \t]{1,8}"""
    r"""(?P<secret>(?![${%])[^\s"'\\,;<>]{4,})""",  # a placeholder is none
)
BEARER: Final = _shape(
    "Bearer",
    r"B(?:earer|EARER)[ \t]",
    r"(?:Bearer|BEARER)[ \t]{1,8}(?P<secret>[\w.~+/=:-]{8,})",
    _looks_random,
)
BASIC: Final = _shape(
    "Basic",
    r"B(?:asic|ASIC)[ \t]",
    r"(?:Basic|BASIC)[ \t]{1,8}(?P<secret>[A-Za-z0-9+/]{4,}={0,2})",
    _is_basic,
)

SHAPES: Final = (
    PRIVATE,
    DASHED,
    GITHUB,
    GITLAB,
    SLACK,
    STRIPE,
    GOOGLE,
    AWS,
    AWS_SECRET,
    JWT,
    USERINFO,
    PARAMETER,
    AUTHORIZATION,
    BEARER,
    BASIC,
)
"""All of them."""

# A sketch keeps these bytes in their order and no other; what markers become in it is rare.
_DELETED: Final = bytes(byte for byte in range(256) if byte not in b"-_gklxzAI")


def suspects(document: bytes, is_secret: IsSecret) -> list[Shape]:
    """Return the shapes of secrets that the UTF-8 text *document* may have.

    Args:
        document: JSON or any other text.
        is_secret: Says which parameters of URLs are secret.
    """
    text = document.decode("latin-1")  # byte by byte: searched thrice as fast as bytes are
    found: list[Shape] = []
    if "-" in text or "_" in text or "I" in text:
        _look_at_sketch(document.translate(None, _DELETED).decode("latin-1"), found)
    if "J" in text:
        found.append(JWT)
    if "B" in text and _SCHEME.search(document):
        found += (BEARER, BASIC)
    if "z" in text:
        found.append(AUTHORIZATION)
    if "@" in text or "\xa6" in text:  # or the last byte of the mark of a cut
        found.append(USERINFO)
    found = [shape for shape in found if shape.marker.search(document)]
    if "=" in text and _has_parameter(text, document, is_secret):
        found.append(PARAMETER)
    return found


def _look_at_sketch(sketch: str, found: list[Shape]) -> None:  # noqa: C901 (a loop costs thrice)
    if "-----I" in sketch:
        found.append(PRIVATE)
    if "k-" in sketch:
        found.append(DASHED)
    if "gl-" in sketch:
        found.append(GITLAB)
    if "g_" in sketch:
        found.append(GITHUB)
    if "k__" in sketch or "k_l_" in sketch:
        found.append(STRIPE)
    if "___k" in sketch:
        found.append(AWS_SECRET)
    if "xx-" in sketch:
        found.append(SLACK)
    if "AIz" in sketch:
        found.append(GOOGLE)
    if "AIA" in sketch:
        found.append(AWS)


_SCHEME: Final = re.compile(rb"B(?:earer|EARER|asic|ASIC)[ \t]")
# Three searches that begin with a literal are faster than one that does not.
_ASKED: Final = re.compile(rb"\?([\w.-]{1,64})=")
_AND: Final = re.compile(rb"&([\w.-]{1,64})=")


def _has_parameter(text: str, document: bytes, is_secret: IsSecret) -> bool:
    names: set[bytes] = set()
    if "?" in text:
        names.update(_ASKED.findall(document))
    if "&" in text:
        names.update(_AND.findall(document))
    if "#" in text and "#access_token=" in text:
        return True
    return any(is_secret(name) or name.lower() in _VAGUE for name in map(bytes.decode, names))
