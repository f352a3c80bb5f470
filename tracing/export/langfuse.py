"""Langfuse as a target: where it takes spans, and what only it reads from them. Pure."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

from tracing import names
from tracing.export.attributes import CHAIN, is_number, text
from tracing.export.model import Target
from tracing.store.model import Span

OTEL: Final = "/api/public/otel"
TRACES: Final = f"{OTEL}/v1/traces"
SCORES: Final = "/api/public/scores"
VERSION: Final = "4"
"""Without it a server of version 4 takes a slow way, and spans show after minutes."""
OWN_METADATA: Final = "langfuse.observation.metadata."
_ROOT: Final = {"langfuse.internal.is_app_root": True}
_ROOT_BELOW_FOREIGN: Final = {**_ROOT, "langfuse.internal.as_root": "true"}

_ENDINGS: Final = (TRACES, f"{OTEL}/v1", OTEL, "/api/public", "/api")
_LOCAL: Final = re.compile(r"(localhost|127\.\d+\.\d+\.\d+|\[::1\]|0\.0\.0\.0)(:\d+)?(/|$)", re.I)
_KEY: Final = re.compile(r"[!-~]+")
_TYPES: Final = {"flow": "chain", "workflow": "chain", "chain": "chain", "event": "event"}
_ROLES: Final = {
    "LLM": "generation",
    "EMBEDDING": "embedding",
    "AGENT": "agent",
    "TOOL": "tool",
    "RETRIEVER": "retriever",
    "RERANKER": "span",
    "GUARDRAIL": "guardrail",
    "EVALUATOR": "evaluator",
}
_TOKENS: Final = {"input_tokens": "input", "output_tokens": "output", "total_tokens": "total"}
_INSIDE: Final = re.compile(r"(prompt|input|completion|output)_tokens?_details\.(.+)")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def target(
    host: str, public_key: str, secret_key: str, timeout: float = 10.0, name: str = "langfuse"
) -> Target:
    """Return the target that is the project of these keys on a Langfuse server.

    Args:
        host: Base URL of the server, such as `https://cloud.langfuse.com`. Without a scheme it is
            https, or http on this machine; a path before `/api` is kept.
        public_key: Public key of the project, `pk-lf-…`.
        secret_key: Secret key of the project, `sk-lf-…`.
        timeout: Seconds that one request may take in all.
        name: What the target is called in messages.

    Raises:
        ValueError: The host is no URL, or a key cannot be one. No message shows a key.
    """
    public, secret = _keys(public_key, secret_key)
    account = base64.b64encode(f"{public}:{secret}".encode()).decode()
    headers = {
        "authorization": f"Basic {account}",
        "x-langfuse-ingestion-version": VERSION,
        "x-langfuse-public-key": public,
    }
    return Target(
        name, base_url(host) + TRACES, dialect="langfuse", headers=headers, timeout=timeout
    )


def base_url(host: str) -> str:
    """Return the URL of a Langfuse server, with no slash at its end, from how people write it.

    Raises:
        ValueError: It is no URL of a server.
    """
    said = host.strip()
    if "://" not in said:
        said = f"{'http' if _LOCAL.match(said) else 'https'}://{said}"
    try:
        parts = urlsplit(said)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        valid = False
    if not valid or not said.isprintable() or " " in said:
        raise ValueError(
            f"the Langfuse host is no URL of a server: {host!r}; write https://cloud.langfuse.com"
        )
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError(
            "the Langfuse host has a user, query or fragment; it is a plain URL, and the keys are "
            "given by themselves"
        )
    path = parts.path.rstrip("/")
    for ending in _ENDINGS:
        if path.endswith(ending):
            path = path.removesuffix(ending)
            break
    return f"{parts.scheme}://{parts.netloc}{path.rstrip('/')}"


def _keys(public_key: str, secret_key: str) -> tuple[str, str]:
    public, secret = public_key.strip(), secret_key.strip()
    for key, which, begins in ((public, "public", "pk-lf-"), (secret, "secret", "sk-lf-")):
        other = "sk-lf" if which == "public" else "pk-lf"
        if key.startswith(other):
            raise ValueError(
                f"the Langfuse {which} key begins with {other}-, which is how the other key "
                "begins: are the two exchanged?"
            )
        if not _KEY.fullmatch(key) or (which == "public" and ":" in key):
            raise ValueError(
                f"the Langfuse {which} key is {'not a key' if key else 'empty'}; it is the word "
                f"that begins with {begins} in the project's settings"
            )
    return public, secret


def root(is_first: bool, is_below_foreign: bool) -> Mapping[str, Any]:
    """Return the marks of a root; a foreign parent may never arrive, so below one they are needed.

    Args:
        is_first: Whether there is no parent.
        is_below_foreign: Whether the parent is a span of another system.
    """
    if is_below_foreign:
        return _ROOT_BELOW_FOREIGN
    return _ROOT if is_first else {}


def observation(span: Span, role: str) -> dict[str, Any]:
    """Return what Langfuse alone reads from a span.

    Args:
        span: The record.
        role: What OpenInference calls it (`attributes.role`).
    """
    kind = _TYPES.get(span.kind, "span") if role is CHAIN else _ROLES[role]
    found: dict[str, Any] = {"langfuse.observation.type": kind}
    said = span.attributes
    if said:
        if isinstance(level := said.get(names.LEVEL), str):
            found["langfuse.observation.level"] = level
        if span.outcome == "completed" and (status := said.get(names.STATUS)) is not None:
            found["langfuse.observation.status_message"] = text(status)
        if role is not CHAIN:
            found.update(_of_model(span))
    return found


def _of_model(span: Span) -> dict[str, Any]:
    said = span.attributes
    found: dict[str, Any] = {}
    if span.model is not None:
        found["langfuse.observation.model.name"] = text(span.model)
    asked = {
        name.removeprefix(names.PARAMETER): value
        for name, value in said.items()
        if name.startswith(names.PARAMETER) and name != names.MODEL
    }
    if asked:
        found["langfuse.observation.model.parameters"] = text(asked)
    if used := usage_details(span.usage):
        found["langfuse.observation.usage_details"] = text(used)
    if paid := _cost_details(said):
        found["langfuse.observation.cost_details"] = text(paid)
    if is_number(first := said.get(names.FIRST_TOKEN)):
        found["langfuse.observation.completion_start_time"] = moment(span.start_ns + int(first))
    return found


def usage_details(usage: Mapping[str, Any]) -> dict[str, int]:
    """Return what was used up as Langfuse counts it: whole numbers, of which it adds up the parts.

    What OpenAI tells as a part of the input or output is taken out of it there, or it would be
    counted twice.
    """
    found: dict[str, int] = {}
    inside: dict[str, int] = {}
    for name, value in usage.items():
        if not is_number(value) or value < 0:
            continue
        if "_details." in name and (part := _INSIDE.fullmatch(name)):
            whole = "input" if part[1] in ("prompt", "input") else "output"
            found[f"{whole}_{part[2]}"] = round(value)
            inside[whole] = inside.get(whole, 0) + round(value)
        else:
            found[_TOKENS.get(name, name)] = round(value)
    if "total" not in found and ("input" in found or "output" in found):
        found["total"] = found.get("input", 0) + found.get("output", 0)
    for whole, count in inside.items():
        if whole in found:
            found[whole] = max(0, found[whole] - count)
    return found


def _cost_details(said: Mapping[str, Any]) -> dict[str, float]:
    parts = {
        name[len(names.COST) + 1 :] or "total": value
        for name, value in said.items()
        if (name == names.COST or name.startswith(f"{names.COST}.")) and is_number(value)
    }
    return {name: float(value) for name, value in parts.items()}


def moment(unix_ns: int) -> str:
    """Return a moment as ISO 8601 in UTC, to the microsecond.

    Args:
        unix_ns: Unix time in nanoseconds.
    """
    at = _EPOCH + timedelta(microseconds=unix_ns // 1000)  # exact, which a float would not be
    return f"{at:%Y-%m-%dT%H:%M:%S.%f}Z"
