"""Session, user, tags and metadata for all that starts inside a block.

One immutable value in one ContextVar, as for the position in a trace; the recorder reads it once
for each record.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from tracing.names import METADATA, SESSION, TAGS, USER


@dataclass(frozen=True, slots=True, eq=False)
class Propagated:
    """What holds for the records that start here. Nothing in it changes."""

    session_id: str | None = None
    user_id: str | None = None
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(init=False)
    """The same, as attributes of a record; whoever takes them takes a copy."""

    def __post_init__(self) -> None:
        said = {
            SESSION: self.session_id,
            USER: self.user_id,
            TAGS: list(self.tags),
            METADATA: dict(self.metadata),
        }
        object.__setattr__(self, "attributes", {name: said[name] for name in said if said[name]})

    def inside(self, outer: Propagated | None) -> Propagated:
        """Return what holds in a block of this inside a block of *outer*."""
        if outer is None:
            return self
        return Propagated(
            self.session_id or outer.session_id,
            self.user_id or outer.user_id,
            united(outer.tags, self.tags),
            {**outer.metadata, **self.metadata},
        )


propagated: ContextVar[Propagated | None] = ContextVar("pocketflow_trace_propagated", default=None)


class propagate:
    """Put session, user, tags and metadata on every span that starts inside the block.

    `with propagate(session_id="s-1", tags=["beta"]):`, or `async with`. Tasks started inside have
    them too, `asyncio.to_thread` and `carry` take them along. In a block inside another, the inner
    session and user win, tags are united, metadata merged. A trace that begins inside has them as
    its own, before what its `trace_flow` or the environment says; spans of a trace that began
    outside carry them as attributes.

    Args:
        session_id: Session, a string that is not empty.
        user_id: User, a string that is not empty.
        tags: Tags; not one string, but several in a list, tuple or set.
        metadata: Facts by name; noted as they are at this moment.

    Raises:
        TypeError: A value has a type that cannot be.
        ValueError: A string is empty.
    """

    __slots__ = ("_said", "_tokens")

    def __init__(
        self,
        *,
        session_id: str | None = None,
        user_id: str | None = None,
        tags: Iterable[str] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self._said = Propagated(
            None if session_id is None else _text(session_id, SESSION),
            None if user_id is None else _text(user_id, USER),
            _tags(tags),
            _metadata(metadata),
        )
        self._tokens: list[Token[Propagated | None]] = []

    def __enter__(self) -> None:
        self._tokens.append(propagated.set(self._said.inside(propagated.get())))

    def __exit__(
        self,
        cls: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(ValueError):  # left in another context, which never had it
            propagated.reset(self._tokens.pop())

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(
        self,
        cls: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.__exit__(cls, error, trace)


def united(some: Iterable[str], more: Iterable[str]) -> tuple[str, ...]:
    """Return the tags of both, each once, in order."""
    return tuple(dict.fromkeys((*some, *more)))


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise TypeError(
            f"propagate: {name} must be a string, not {type(value).__name__}: {name}=str(…)"
        )
    if not value.strip():
        raise ValueError(f"propagate: {name} is empty; leave it out where there is none")
    return value


def _tags(tags: object) -> tuple[str, ...]:
    if isinstance(tags, (str, bytes, Mapping)) or not isinstance(tags, Iterable):
        raise TypeError(f"propagate: tags must be several strings, not {tags!r}: tags=[…]")
    return united((), (_text(tag, "each of tags") for tag in tags))


def _metadata(metadata: object) -> dict[str, Any]:
    if metadata is None:
        return {}
    if not isinstance(metadata, Mapping):
        raise TypeError(
            f"propagate: metadata must be a mapping, not {type(metadata).__name__}: metadata={{…}}"
        )
    for name in metadata:
        if not isinstance(name, str):
            raise TypeError(f"propagate: each name in metadata must be a string, not {name!r}")
    from tracing.fields import plain  # noqa: PLC0415 (not for those who propagate no metadata)

    return {name: plain(value) for name, value in metadata.items()}
