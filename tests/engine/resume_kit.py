"""Durable flows for tests: nodes that count their effects, and stores that are cut off."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from pocketflow_async import AsyncFlow, AsyncNode
from pocketflow_async.infrastructure.store import MemoryStore


class Crash(BaseException):
    """Ends a run as a killed process does: nothing more is stored."""


class CutOff(MemoryStore):
    """A store that a run can no longer reach after so many writes; `mend` brings it back."""

    def __init__(self, writes: int | None = None, **given: Any) -> None:
        super().__init__(**given)
        self.left = writes

    def mend(self, writes: int | None = None) -> None:
        """Bring it back, every lease over."""
        self.left = writes
        for run_id, row in self._runs.items():
            self._runs[run_id] = type(row)(**{**_fields(row), "lease_until": 0.0})

    async def append(self, *args: Any, **given: Any) -> None:
        if self.left is not None:
            if self.left <= 0:
                raise Crash
            self.left -= 1
        await super().append(*args, **given)


def _fields(row: Any) -> dict[str, Any]:
    return {name: getattr(row, name) for name in row.__dataclass_fields__}


class Effects:
    """Counts what nodes have done."""

    def __init__(self) -> None:
        self.done: list[str] = []

    @property
    def counts(self) -> Counter[str]:
        return Counter(self.done)

    def node(self, name: str, then: Callable[[Any], Any] | None = None, **options: Any) -> Any:
        """Return a node that counts itself, appends its name to the trail, and returns *then*."""
        effects = self

        class Counting(AsyncNode):
            async def exec_async(self, prep_res):
                effects.done.append(name)

            async def post_async(self, shared, prep_res, exec_res):
                shared.setdefault("trail", []).append(name)
                return None if then is None else then(shared)

        return Counting(name=name, **options)


def chain(*nodes: Any, cls: type = AsyncFlow, **options: Any) -> Any:
    """Return a flow of *nodes*, one after the other."""
    for before, after in pairwise(nodes):
        before >> after
    return cls(nodes[0], **options)
