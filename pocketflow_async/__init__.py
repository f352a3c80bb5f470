"""Async flows of small nodes that you can see.

A node has `prep`, `exec` and `post`; nodes joined by actions make a flow. Everything that
PocketFlow offers is here under the same names; what is new is keyword-only and off by default.
Put `tracing.trace_flow` on a flow to see its runs.
"""

import asyncio
import copy
import time
import warnings
from typing import TYPE_CHECKING, Any

from pocketflow_async.batch import AsyncBatchNode, AsyncParallelBatchNode, BatchNode
from pocketflow_async.errors import (
    FlowError,
    FlowTimeoutError,
    InvalidFlowError,
    NodeTimeoutError,
    StepLimitError,
    UnknownActionError,
    UseRunAsyncError,
)
from pocketflow_async.flows import (
    AsyncBatchFlow,
    AsyncFlow,
    AsyncParallelBatchFlow,
    BatchFlow,
    Flow,
)
from pocketflow_async.hooks import Step, guarding, observing, suspended
from pocketflow_async.nodes import AsyncNode, BaseNode, Node
from pocketflow_async.nodes.base import _ConditionalTransition as _ConditionalTransition
from pocketflow_async.parallel import Parallel, parallel

if TYPE_CHECKING:
    from pocketflow_async.check import Problem

__version__ = "0.1.0"

# The four modules are there because `from pocketflow import *` gives them too.
__all__ = [
    "AsyncBatchFlow",
    "AsyncBatchNode",
    "AsyncFlow",
    "AsyncNode",
    "AsyncParallelBatchFlow",
    "AsyncParallelBatchNode",
    "BaseNode",
    "BatchFlow",
    "BatchNode",
    "Flow",
    "FlowError",
    "FlowTimeoutError",
    "InvalidFlowError",
    "Node",
    "NodeTimeoutError",
    "Parallel",
    "Problem",
    "Step",
    "StepLimitError",
    "UnknownActionError",
    "UseRunAsyncError",
    "asyncio",
    "copy",
    "guarding",
    "observing",
    "parallel",
    "suspended",
    "time",
    "warnings",
]


def __getattr__(name: str) -> Any:
    if name == "Problem":
        from pocketflow_async.check import Problem  # noqa: PLC0415 (a run needs none of it)

        return Problem
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
