"""Words of messages."""

from __future__ import annotations


def a(word: str) -> str:
    """Return *word* with its article: "a list", "an object"."""
    return f"an {word}" if word[:1].lower() in tuple("aeio") else f"a {word}"
