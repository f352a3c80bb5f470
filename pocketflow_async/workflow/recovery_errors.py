"""What keeps an execution from going on.

WorkflowError
├── WorkflowDefinitionChanged            it was begun with another definition
├── NeedsReconciliation                  nobody knows whether a node has taken effect
├── TooManyRecoveries                    it went on many times, and its process died each time
├── ExecutionNotFound (LookupError)      there is none
└── NotResumable                         it is over, or at work elsewhere
"""

from __future__ import annotations

from pocketflow_async.workflow.errors import WorkflowError
from pocketflow_async.workflow.execution_past import InDoubt


class WorkflowDefinitionChanged(WorkflowError):
    """Raised when an execution was begun with another definition than there is now."""

    def __init__(self, execution_id: str, workflow_id: str) -> None:
        super().__init__(
            f"execution {execution_id!r} was begun with another definition of workflow "
            f"{workflow_id!r}, or with other handlers: recover it with those, or cancel it"
        )
        self.execution_id = execution_id
        self.workflow_id = workflow_id


class NeedsReconciliation(WorkflowError):
    """Raised when nobody knows whether a node has taken effect; the execution waits."""

    def __init__(self, doubt: InDoubt) -> None:
        super().__init__(
            f"execution {doubt.execution_id!r}: its process ended in attempt {doubt.attempt} of "
            f"block {doubt.node_id!r}, and it is not known whether that took effect. Look for the "
            f"idempotency key {doubt.idempotency_key!r}, then call resume_execution with a "
            "reconcile that says so"
        )
        self.doubt = doubt


class TooManyRecoveries(WorkflowError):
    """Raised when an execution has gone on so often that it is likely to kill its processes."""

    def __init__(self, execution_id: str, times: int) -> None:
        super().__init__(
            f"execution {execution_id!r} has gone on {times} times, and its process ended each "
            "time: look what kills it. resume_execution lets it go on all the same"
        )
        self.execution_id = execution_id


class ExecutionNotFound(WorkflowError, LookupError):
    """Raised when there is no such execution."""

    def __init__(self, execution_id: str, durable: bool) -> None:
        lost = "" if durable else "; a store in memory forgets all of them when the process ends"
        super().__init__(f"there is no execution {execution_id!r} in this store{lost}")
        self.execution_id = execution_id


class NotResumable(WorkflowError):
    """Raised when an execution is over, or at work elsewhere."""

    def __init__(self, execution_id: str, why: str) -> None:
        super().__init__(f"execution {execution_id!r} cannot go on: it {why}")
        self.execution_id = execution_id
