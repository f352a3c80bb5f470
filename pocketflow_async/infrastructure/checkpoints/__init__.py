"""Durable runs of plain flows: what is stored after each node, and how a run goes on.

`await flow.run_async(shared, run_id="order-7", store="sqlite:///runs.db")` stores after each node
what the nodes share and which comes next; after a crash `await flow.resume("order-7", store=…)`
goes on there. What is stored as done is never done again; the node that was at work runs again (at
least once), unless it says `on_restart = "reconcile"` (see `reconciling`).

In an AsyncFlow inside the flow the run goes on inside. Any other node is one step and runs again as
a whole: a batch, a batch flow, a fan-out, a synchronous flow. Between steps only `shared` and the
params live on: what flows bind to themselves does not. `timeout` and `max_steps` of a flow begin
anew when it is resumed.

`run_async` raises RunExists, where there is a run of that id; `resume` raises RunNotFound, RunBusy,
where another process has the run, or FlowChanged, where a flow with other nodes or actions began
it. Both raise CheckpointError, where something cannot be stored (the message says which and after
which node; the run can be resumed), RunSuspended, NeedsReconciliation, and LeaseLost, where this
process stood still for so long that another has the run. A run that fails, is cancelled or halted
can be resumed at that node.
"""

from pocketflow_async.infrastructure.checkpoints.codec import decode, encode
from pocketflow_async.infrastructure.checkpoints.current import CurrentRun, current_run
from pocketflow_async.infrastructure.checkpoints.errors import (
    AnswerError,
    CheckpointError,
    FlowChanged,
    NeedsReconciliation,
    RunBusy,
    RunNotFound,
    RunSuspended,
)
from pocketflow_async.infrastructure.checkpoints.questions import (
    Question,
    answer,
    ask,
    questions,
)
from pocketflow_async.infrastructure.checkpoints.reconciling import RUN_AGAIN, UNKNOWN, Verdict
from pocketflow_async.infrastructure.checkpoints.types import register_type

__all__ = [
    "AnswerError",
    "CheckpointError",
    "CurrentRun",
    "FlowChanged",
    "NeedsReconciliation",
    "Question",
    "RUN_AGAIN",
    "RunBusy",
    "RunNotFound",
    "RunSuspended",
    "UNKNOWN",
    "Verdict",
    "answer",
    "ask",
    "current_run",
    "decode",
    "encode",
    "questions",
    "register_type",
]
