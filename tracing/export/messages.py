"""Contents of a model's span as the messages that OpenTelemetry describes. Pure.

Jaeger shows a conversation from them. What is no message in a form that most libraries use is left
to `input.value` and `output.value`, which say it all anyway.
"""

from __future__ import annotations

from typing import Any

import orjson

from tracing.store.model import Span


def conversation(span: Span) -> dict[str, str]:
    """Return `gen_ai.input.messages` and `gen_ai.output.messages`, where the contents are such."""
    found: dict[str, str] = {}
    for side, content, speaker in (
        ("input", span.input, "user"),
        ("output", span.output, "assistant"),
    ):
        messages = None if content is None else _messages(content, speaker)
        if messages:
            found[f"gen_ai.{side}.messages"] = orjson.dumps(messages).decode()
    return found


def _messages(content: bytes, speaker: str) -> list[dict[str, Any]] | None:
    try:
        said = orjson.loads(content)
    except ValueError:
        return None
    if isinstance(said, str):
        return [{"role": speaker, "parts": [_text(said)]}]
    if isinstance(said, dict):
        said = said["messages"] if isinstance(said.get("messages"), list) else [said]
    if not isinstance(said, list) or not all(_is_message(message) for message in said):
        return None  # also where the recorder has cut it: then the last item is a remark
    return [_message(message) for message in said]


def _is_message(said: Any) -> bool:
    return isinstance(said, dict) and isinstance(said.get("role"), str)


def _message(said: dict[str, Any]) -> dict[str, Any]:
    content, calls = said.get("content"), said.get("tool_calls")
    if said["role"] == "tool":
        answer = {"type": "tool_call_response", "id": said.get("tool_call_id"), "response": content}
        return {"role": "tool", "parts": [answer]}
    parts = [_text(content)] if isinstance(content, str) else []
    if isinstance(content, list):
        parts = [_part(part) for part in content]
    if isinstance(calls, list):
        parts += [_call(call) for call in calls if isinstance(call, dict)]
    found = {"role": said["role"], "parts": parts}
    if isinstance(reason := said.get("finish_reason"), str):
        found["finish_reason"] = reason
    return found


def _text(content: str) -> dict[str, Any]:
    return {"type": "text", "content": content}


def _part(said: Any) -> dict[str, Any]:
    if isinstance(said, dict):
        text = said.get("text")
        if isinstance(text, str):
            return _text(text)
        return {**said, "type": str(said.get("type", "object"))}
    return _text(said if isinstance(said, str) else orjson.dumps(said).decode())


def _call(said: dict[str, Any]) -> dict[str, Any]:
    inner = said.get("function")
    asked = inner if isinstance(inner, dict) else said
    return {
        "type": "tool_call",
        "id": said.get("id"),
        "name": asked.get("name"),
        "arguments": asked.get("arguments"),
    }
