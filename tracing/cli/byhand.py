"""What was noted by hand, in words: model, usage, cost, events and scores."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, TypeGuard

from tracing import names
from tracing.cli import words
from tracing.store.model import Event, Score, Span

_TOKENS: Final = ("input_tokens", "output_tokens", "total_tokens")
_TOLD: Final = frozenset({names.MODEL, names.ANSWERED, names.COST, names.FIRST_TOKEN})
_PREFIXES: Final = (names.USAGE, names.COST + ".", names.PARAMETER)


def is_told(attribute: str) -> bool:
    """Tell whether `of_model` shows this attribute."""
    return attribute in _TOLD or attribute.startswith(_PREFIXES)


def of_model(span: Span, micro: str) -> str:
    """Return one line about the model's answer: `gpt-4o, 812 in + 96 out tokens, $0.0031`.

    Empty where nothing is known of a model.
    """
    usage, said = span.usage, span.attributes
    parts = [str(span.model) if span.model else "", _tokens(usage)]
    if span.cost is not None:
        parts.append(_dollars(span.cost))
    if isinstance(span.first_token_ns, int):
        parts.append(f"first token {words.duration(span.first_token_ns, micro)}")
    parts += [
        f"{name}={value!r}" for name, value in _under(names.PARAMETER, said) if name != "model"
    ]
    parts += [
        f"{name}={value!r}"
        for name, value in usage.items()
        if name not in _TOKENS or not _counts(value)
    ]
    parts += [f"{name} {_dollars(value)}" for name, value in _under(names.COST + ".", said)]
    return words.one_line(", ".join(filter(None, parts)))


def _under(prefix: str, attributes: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the attributes that begin with *prefix*, without it."""
    for name, value in attributes.items():
        if name.startswith(prefix):
            yield name.removeprefix(prefix), value


def _tokens(usage: dict[str, Any]) -> str:
    """Return `812 in + 96 out tokens`, and the total where it is not their sum."""
    into, out, total = (usage.get(name) for name in _TOKENS)
    parts = [
        f"{number:,} {word}" for number, word in ((into, "in"), (out, "out")) if _counts(number)
    ]
    both = sum(number for number in (into, out) if _counts(number))
    if _counts(total) and total != both:
        return f"{' + '.join(parts)} = {total:,} tokens" if parts else f"{total:,} tokens"
    return f"{' + '.join(parts)} tokens" if parts else ""


def _counts(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _dollars(value: Any) -> str:
    return f"${value:.6g}" if _counts(value) else repr(value)


def of_event(event: Event, span: Span, micro: str) -> tuple[str, str]:
    """Return an event as a line, and how long after the start of *span* it was."""
    said = "".join(f"  {name}={value!r}" for name, value in event.attributes.items())
    after = words.duration(event.at_ns - span.start_ns, micro)
    return words.one_line(event.name + said), f"+{after}"


def of_score(score: Score) -> str:
    """Return a score as a line: `correct = 0.9  (the date is wrong)`."""
    value = f"{score.value:.6g}" if type(score.value) is float else str(score.value)
    comment = f"  ({score.comment})" if score.comment else ""
    return words.one_line(f"{score.name} = {value}{comment}")
