"""What can be wrong with a workflow, before and while it runs."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Final

_MOST_IN_CIRCLE: Final = 20
"""So many nodes of a circle a message names; `path` has all of them."""


class WorkflowError(Exception):
    """Root of what this package raises about workflows."""


class WorkflowValidationError(WorkflowError, ValueError):
    """Raised when a workflow cannot be built or run; names everything that is wrong with it.

    Args:
        problems: One line each.
    """

    def __init__(self, *problems: str) -> None:
        self.problems: tuple[str, ...] = problems
        super().__init__("\n".join(problems))


class ConnectionError(WorkflowValidationError, builtins.ConnectionError):
    """Raised for an edge that cannot be: to itself, twice, from or to nowhere."""


class CyclicDependencyError(WorkflowValidationError):
    """Raised when nodes wait for each other in a circle.

    Args:
        path: Ids of the nodes in the circle, the first one again at the end.
    """

    def __init__(self, path: Sequence[str]) -> None:
        self.path = tuple(path)
        shown = self.path
        if len(shown) > _MOST_IN_CIRCLE:
            half = _MOST_IN_CIRCLE // 2
            shown = (*shown[:half], f"({len(shown) - 2 * half} more)", *shown[-half:])
        super().__init__(f"nodes wait for each other in a circle: {' -> '.join(shown)}")


class SafetyViolationError(WorkflowValidationError):
    """Raised for a code string that uses what the lint refuses; not a sandbox."""


class NodeExecutionError(WorkflowError):
    """Raised when a node failed; the cause is what its own code raised."""


class WorkflowExecutionError(WorkflowError):
    """Raised by a run with `on_error="raise"` when a node failed."""


class PortError(WorkflowError, KeyError):
    """Raised when a node's output has no such port; names what is there."""

    def __str__(self) -> str:
        """Show the words, not their repr as KeyError does."""
        return str(self.args[0]) if self.args else ""
