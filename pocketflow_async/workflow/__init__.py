"""Workflows: directed graphs of nodes that run as soon as their inputs are there.

Code strings are trusted code of their author: they can do whatever the process can. The lint that
looks through them catches mistakes; it is no sandbox.
"""

from typing import TYPE_CHECKING

from pocketflow_async.lazily import lazily as _lazily

if TYPE_CHECKING:
    from pocketflow_async.workflow.async_builder import AsyncWorkflowBuilder
    from pocketflow_async.workflow.async_patterns import AsyncPatterns
    from pocketflow_async.workflow.builder import WorkflowBuilder
    from pocketflow_async.workflow.enhanced_executor import EnhancedWorkflowExecutor
    from pocketflow_async.workflow.errors import (
        ConnectionError,
        CyclicDependencyError,
        NodeExecutionError,
        PortError,
        SafetyViolationError,
        WorkflowError,
        WorkflowExecutionError,
        WorkflowValidationError,
    )
    from pocketflow_async.workflow.executor import WorkflowExecutor
    from pocketflow_async.workflow.node_handlers import HandlerRegistry
    from pocketflow_async.workflow.parallel_map import ItemsFailedError
    from pocketflow_async.workflow.policies import AsyncRetryPolicy, ErrorHandler, RetryPolicy
    from pocketflow_async.workflow.recovery import recover, resume_execution
    from pocketflow_async.workflow.spec import Context, Edge, NodeSpec, Port, Ports, Work, Workflow
    from pocketflow_async.workflow.workflow_node import WorkflowNode

__all__ = [
    "AsyncPatterns",
    "AsyncRetryPolicy",
    "AsyncWorkflowBuilder",
    "ConnectionError",
    "Context",
    "CyclicDependencyError",
    "Edge",
    "EnhancedWorkflowExecutor",
    "ErrorHandler",
    "HandlerRegistry",
    "ItemsFailedError",
    "NodeExecutionError",
    "NodeSpec",
    "Port",
    "PortError",
    "Ports",
    "RetryPolicy",
    "SafetyViolationError",
    "Work",
    "Workflow",
    "WorkflowBuilder",
    "WorkflowError",
    "WorkflowExecutionError",
    "WorkflowExecutor",
    "WorkflowNode",
    "WorkflowValidationError",
    "recover",
    "resume_execution",
]

_MODULES = {
    "async_builder": "AsyncWorkflowBuilder",
    "async_patterns": "AsyncPatterns",
    "builder": "WorkflowBuilder",
    "errors": (
        "ConnectionError CyclicDependencyError NodeExecutionError PortError SafetyViolationError "
        "WorkflowError WorkflowExecutionError WorkflowValidationError"
    ),
    "enhanced_executor": "EnhancedWorkflowExecutor",
    "executor": "WorkflowExecutor",
    "node_handlers": "HandlerRegistry",
    "parallel_map": "ItemsFailedError",
    "policies": "AsyncRetryPolicy ErrorHandler RetryPolicy",
    "recovery": "recover resume_execution",
    "spec": "Context Edge NodeSpec Port Ports Work Workflow",
    "workflow_node": "WorkflowNode",
}

# Loaded when they are asked for: the runtime needs the data of workflows, but no builder.
__getattr__, __dir__ = _lazily(__name__, _MODULES)
