"""Synchronous nodes of an AsyncFlow whose exec runs in a worker thread (`in_thread=True`)."""

from __future__ import annotations

from typing import Any

from pocketflow_async.hooks import Step, active
from pocketflow_async.nodes import Node, name_of
from pocketflow_async.nodes.base import OWN_RUN
from pocketflow_async.offloading import offload
from pocketflow_async.trail import note


def in_thread(node: Any) -> bool:
    """Return whether *node* was made with `in_thread=True`."""
    chosen = getattr(node, "_pf_options", None)
    return chosen is not None and getattr(chosen, "in_thread", False)


async def run_sync(node: Any, shared: Any) -> Any:
    """Run a synchronous node or flow from an AsyncFlow, in a thread if it asks for one.

    Without `in_thread` it never suspends.
    """
    return await run_in_thread(node, shared) if in_thread(node) else node._run(shared)


async def run_in_thread(node: Node[Any, Any, Any], shared: Any) -> Any:
    """Run prep, exec and post of a synchronous node, exec in a thread.

    A node that overrides `_run` itself goes to the thread as a whole.
    """
    if getattr(node._run, "__func__", None) is not OWN_RUN:
        return await offload(node._run, shared)
    hooks, name = active(), name_of(node)
    phase = "prep"
    try:
        with Step("prep", name, node, shared, hooks) as step:
            step.result = prepared = node.prep(shared)
        phase = "exec"
        executed = await offload(node._exec, prepared)
        phase = "post"
        with Step("post", name, node, executed, hooks) as step:
            step.result = action = node.post(shared, prepared, executed)
    except BaseException as error:
        note(error, node, name, phase)
        raise
    if node._pf_kept is not None:
        node._pf_kept.append(executed)
    return action
