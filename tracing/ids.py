"""Random ids for traces and spans, not disturbed by `random.seed` and fresh after a fork."""

from __future__ import annotations

import os
import random

_random = random.Random(os.urandom(32))
_bits = _random.getrandbits

if hasattr(os, "register_at_fork"):  # else two children would draw the same ids
    os.register_at_fork(after_in_child=lambda: _random.seed(os.urandom(32)))


def new_trace_id() -> int:
    """Return 128 random bits; never 0, which W3C Trace Context calls invalid."""
    return _bits(128) or 1


def new_span_id() -> int:
    """Return 64 random bits; never 0, which W3C Trace Context calls invalid."""
    return _bits(64) or 1
