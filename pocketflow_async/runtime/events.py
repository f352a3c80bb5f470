"""What happens in a run, as `AsyncLocalRuntime.stream` tells it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from pocketflow_async.runtime.results import RunResult
    from pocketflow_async.workflow.spec import Workflow


@dataclass(frozen=True, slots=True)
class RunStarted:
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


@dataclass(frozen=True, slots=True)
class NodeReady:
    """All inputs of a node are there.

    Attributes:
        node_id: Id of the node.
        at: Seconds since the run began.
    """

    node_id: str
    at: float


@dataclass(frozen=True, slots=True)
class NodeStarted:
    """A node has got its slot.

    Attributes:
        node_id: Id of the node.
        waited: Seconds that it has waited for one.
        at: Seconds since the run began.
    """

    node_id: str
    waited: float
    at: float


@dataclass(frozen=True, slots=True)
class NodeRetried:
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


@dataclass(frozen=True, slots=True)
class NodeFinished:
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


@dataclass(frozen=True, slots=True)
class NodeFailed:
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


@dataclass(frozen=True, slots=True)
class NodeSkipped:
    """A node will not run.

    Attributes:
        node_id: Id of the node.
        reason: Why, in words.
        at: Seconds since the run began.
    """

    node_id: str
    reason: str
    at: float


@dataclass(frozen=True, slots=True)
class RunFinished:
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
