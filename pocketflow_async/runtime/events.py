"""What happens in a run, as `AsyncLocalRuntime.stream` tells it."""

from __future__ import annotations

import reprlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from pocketflow_async.runtime.results import RunResult
    from pocketflow_async.workflow.spec import Workflow


class _Short:
    """Something that is shown in one short line, however much it holds."""

    __slots__: tuple[str, ...] = ()

    def __repr__(self) -> str:
        shown = (f"{name}={_shown(getattr(self, name))}" for name in self.__slots__)
        return f"{type(self).__name__}({', '.join(shown)})"


def _shown(value: Any) -> str:
    """Return *value* in at most 120 letters."""
    try:
        text = _short.repr(value)
    except Exception:  # noqa: BLE001 (what cannot be shown must not hide the event)
        text = f"<{type(value).__name__}>"
    return text if len(text) <= _LONG else f"{text[:_LONG]}…"


_LONG = 120
_short = reprlib.Repr()
_short.maxlevel, _short.maxdict, _short.maxlist, _short.maxother = 2, 3, 3, _LONG


@dataclass(frozen=True, slots=True, repr=False)
class RunStarted(_Short):
    """The run begins.

    Attributes:
        run_id: Id of the run.
        workflow: What is run.
        analysis: What will run in parallel, the critical path and why; None without
            `enable_analysis`.
        at: 0.0.
    """

    run_id: str
    workflow: Workflow
    analysis: Any = None
    at: float = 0.0


@dataclass(frozen=True, slots=True, repr=False)
class NodeReady(_Short):
    """All inputs of a node are there.

    Attributes:
        node_id: Id of the node.
        at: Seconds since the run began.
    """

    node_id: str
    at: float


@dataclass(frozen=True, slots=True, repr=False)
class NodeStarted(_Short):
    """A node has got its slot.

    Attributes:
        node_id: Id of the node.
        waited: Seconds that it has waited for one.
        at: Seconds since the run began.
    """

    node_id: str
    waited: float
    at: float


@dataclass(frozen=True, slots=True, repr=False)
class NodeRetried(_Short):
    """An attempt of a node has failed and another one follows.

    Attributes:
        node_id: Id of the node.
        attempt: Number of the attempt that failed, from 1.
        error: What it raised.
        wait: Seconds until the next one.
        at: Seconds since the run began.
    """

    node_id: str
    attempt: int
    error: BaseException
    wait: float
    at: float


@dataclass(frozen=True, slots=True, repr=False)
class NodeFinished(_Short):
    """A node has yielded.

    Attributes:
        node_id: Id of the node.
        value: What it has yielded.
        duration: Seconds it took, waiting not counted.
        at: Seconds since the run began.
    """

    node_id: str
    value: Any
    duration: float
    at: float


@dataclass(frozen=True, slots=True, repr=False)
class NodeFailed(_Short):
    """A node has failed for good.

    Attributes:
        node_id: Id of the node.
        error: What it raised.
        duration: Seconds it took, waiting not counted.
        at: Seconds since the run began.
    """

    node_id: str
    error: BaseException
    duration: float
    at: float


@dataclass(frozen=True, slots=True, repr=False)
class NodeSkipped(_Short):
    """A node will not run.

    Attributes:
        node_id: Id of the node.
        reason: Why, in words.
        at: Seconds since the run began.
    """

    node_id: str
    reason: str
    at: float


@dataclass(frozen=True, slots=True, repr=False)
class RunFinished(_Short):
    """The run has come to its end; nothing follows.

    Attributes:
        result: What `execute_workflow_async` returns.
        at: Seconds since the run began.
    """

    result: RunResult
    at: float


Event: TypeAlias = (
    RunStarted
    | NodeReady
    | NodeStarted
    | NodeRetried
    | NodeFinished
    | NodeFailed
    | NodeSkipped
    | RunFinished
)
