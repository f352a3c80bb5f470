"""Builds workflows of asynchronous code, maps and resources."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pocketflow_async.workflow.addition import Addition
from pocketflow_async.workflow.builder import new_hex
from pocketflow_async.workflow.errors import WorkflowValidationError
from pocketflow_async.workflow.node_options import check_id
from pocketflow_async.workflow.node_specs import CODE_TASKS, CODE_TIMEOUT, parted
from pocketflow_async.workflow.resource_builder import ResourceBuilder
from pocketflow_async.workflow.scatter_gather import SCATTERED
from pocketflow_async.workflow.spec import NodeSpec

_VERSION = "1.0"


class AsyncWorkflowBuilder(ResourceBuilder):
    """Builds a workflow of asynchronous code, maps and resources, and of any other nodes.

    Methods that add a node return its id; those that declare a resource or connect return the
    builder. Code strings may be indented as a whole; where code is taken, a function is too. They
    are trusted code of yours: the lint that looks through them is no sandbox.

    Args:
        name: Name of the workflow, for people and traces; made up when left out.
        resource_registry: Where resources come from; one of its own when left out.
        description: What it is for.
        new_id: Makes ids of workflows.
    """

    _prefix = "async_workflow"

    def __init__(
        self,
        name: str | None = None,
        resource_registry: Any = None,
        description: str | None = None,
        *,
        new_id: Callable[[], str] = new_hex,
    ) -> None:
        super().__init__(name, resource_registry, description, new_id=new_id)

    def add_async_code(
        self,
        node_id: str,
        code: str | Callable[..., Any],
        *,
        timeout: float | None = CODE_TIMEOUT,
        max_concurrent_tasks: int | None = CODE_TASKS,
        retry_policy: Any = None,
        error_handler: Any = None,
        required_resources: Sequence[str] | None = None,
        description: str | None = None,
        **options: Any,
    ) -> str:
        """Add a node that runs asynchronous code; return its id.

        Args:
            node_id: Its id.
            code: Its names are the node's inputs, resources, `get_resource`, and modules such as
                `asyncio` and `json` without an import; it leaves its value in `result`. Or a
                function, which is called with those inputs that it has parameters for.
            timeout: Seconds that one attempt may take; None: no limit. Code that never awaits is
                not interrupted.
            max_concurrent_tasks: Most tasks of its own that the code string may have at work at a
                time; None: no limit. The tasks of a function are not limited.
            retry_policy: When and how often it is tried again.
            error_handler: What becomes of it when it has failed.
            required_resources: Names of the resources that it uses.
            description: For people.
            **options: `condition`, a function of the inputs that decides whether it runs; `allow`,
                names that the lint is to let pass.

        Raises:
            TypeError: Something is of a wrong type, or unknown.
            WorkflowValidationError: The id is taken or cannot be one, or the code is no code; says
                in which line and column.
            SafetyViolationError: The lint refuses something in the code.
        """
        given = {
            "code": code,
            "timeout": timeout,
            "max_concurrent_tasks": max_concurrent_tasks,
            "retry_policy": retry_policy,
            "error_handler": error_handler,
            "required_resources": required_resources,
            "description": description,
            **options,
        }
        config, said = parted("AsyncPythonCodeNode", given)
        return self._add(node_id, Addition("AsyncPythonCodeNode", config, said))

    def add_parallel_map(
        self,
        node_id: str,
        map_function: str | Callable[..., Any],
        *,
        input_field: str = "items",
        output_field: str = "results",
        max_workers: int = 10,
        batch_size: int | None = None,
        timeout_per_item: float | None = 5,
        continue_on_error: bool = False,
        description: str | None = None,
        **options: Any,
    ) -> str:
        """Add a node that calls a function with every item of an input; return its id.

        It yields the results in the order of the items, `statistics` (total, successful, failed,
        total_duration, average_duration in seconds) and `errors`, an entry for each failed item.

        Args:
            node_id: Its id.
            map_function: Code that defines `process_item(item)`, or a function that takes the item
                first and inputs of the node by name.
            input_field: Name of the input with the items: any iterable or async iterable, read
                only as far as there are workers.
            output_field: Key of the results.
            max_workers: How many items may be at work at once.
            batch_size: Take the items in batches of so many, one after the other.
            timeout_per_item: Seconds that an item may take; None: no limit. There is no limit for
                all of them together; `timeout` among the options sets one.
            continue_on_error: Go on when an item has failed; otherwise the rest is cancelled, and
                the node fails.
            description: For people.
            **options: `fail_fast=False` lets all items come to an end before the node fails;
                `keep_results=False` keeps no results, so memory does not grow with the length;
                `allow`; what can be said about any node (see `add_node`).

        Raises:
            TypeError: Something is of a wrong type, or unknown.
            ValueError: Something is out of range, or the code has no `process_item`.
        """
        given = {
            "map_function": map_function,
            "input_field": input_field,
            "output_field": output_field,
            "max_workers": max_workers,
            "batch_size": batch_size,
            "timeout_per_item": timeout_per_item,
            "continue_on_error": continue_on_error,
            "description": description,
            **options,
        }
        return self._add(node_id, Addition("ParallelMap", *parted("ParallelMap", given)))

    def add_scatter_gather(
        self,
        scatter_id: str,
        process_id_prefix: str,
        gather_id: str,
        process_function: str | Callable[..., Any],
        *,
        worker_count: int = 4,
        scatter_field: str = "items",
        gather_field: str = "results",
        description: str | None = None,
        **options: Any,
    ) -> str:
        """Share items out among workers and gather what they make; return the scatter's id.

        The items go into *scatter_field* of the scatter. Scatter and gather both yield what
        `add_parallel_map` does, and the workers' name is another name of the scatter.

        Args:
            scatter_id: Id of the node that takes the items.
            process_id_prefix: Name of the workers; their steps in traces are called so.
            gather_id: Id of the node that hands on all results.
            process_function: Code that defines `process_item(item)`, or a function.
            worker_count: How many workers there are; each takes the next item when it is free.
            scatter_field: Name of the input with the items.
            gather_field: Key of the results.
            description: For people.
            **options: As for `add_parallel_map`; `timeout_per_item` and `continue_on_error` too.

        Raises:
            TypeError: Something is of a wrong type, or unknown.
            ValueError: Something is out of range, or the code has no `process_item`.
            WorkflowValidationError: One of the ids is taken or cannot be one.
        """
        ids = [check_id(name) for name in (scatter_id, process_id_prefix, gather_id)]
        for place, name in enumerate(ids):
            if self._is_node(name) or name in ids[:place]:
                raise WorkflowValidationError(f"Node ID {name!r} already exists in workflow")
        given = {
            "map_function": process_function,
            "max_workers": worker_count,
            "input_field": scatter_field,
            "output_field": gather_field,
            "workers": process_id_prefix,
            "description": description,
            **options,
        }
        self._add(scatter_id, Addition("Scatter", *parted("Scatter", given)))
        self._add(gather_id, Addition("Gather", {"output_field": gather_field}, {}))
        self._aliases[process_id_prefix] = scatter_id
        self.add_connection(scatter_id, None, gather_id, SCATTERED)
        return scatter_id

    def add_resource_node(
        self,
        node_id: str,
        resource_name: str,
        operation: str,
        params: Mapping[str, Any] | Sequence[Any] | None = None,
        *,
        output_field: str = "result",
        description: str | None = None,
        **options: Any,
    ) -> str:
        """Add a node that calls a method of a resource; return its id.

        It yields `{output_field: value, "resource": name, "operation": operation}`.

        Args:
            node_id: Its id.
            resource_name: Name of the resource.
            operation: Name of the method.
            params: Its arguments by name, or in order. `"${name}"` stands for the input *name*.
            output_field: Key of what the method returns.
            description: For people.
            **options: What can be said about any node (see `add_node`).

        Raises:
            TypeError: Something is of a wrong type, or unknown.
            ValueError: The operation is no public name.
        """
        given = {
            "resource_name": resource_name,
            "operation": operation,
            "params": params,
            "output_field": output_field,
            "description": description,
            **options,
        }
        return self._add(node_id, Addition("Resource", *parted("Resource", given)))

    def get_node_metadata(self, node_id: str) -> dict[str, Any]:
        """Return what was said about a node; nothing for an unknown one.

        The keys are description, required_resources, retry_policy and error_handler, those of
        them that were given.
        """
        spec = self._nodes.get(self._aliases.get(node_id, node_id))
        return {} if spec is None else _said(spec)

    def _facts(self) -> dict[str, Any]:
        return {
            "async_workflow": True,
            "builder_version": _VERSION,
            **super()._facts(),
            "resources": {name: needed.facts() for name, needed in self._resources.items()},
            "required_resources": self.list_required_resources(),
            "node_metadata": {
                node_id: said for node_id, spec in self._nodes.items() if (said := _said(spec))
            },
        }


def _said(spec: NodeSpec) -> dict[str, Any]:
    handler = spec.error_handler
    facts = {
        "description": spec.description,
        "required_resources": list(spec.required_resources) or None,
        "retry_policy": None if spec.retry_policy is None else spec.retry_policy.to_dict(),
        "error_handler": None
        if handler is None
        else {"type": handler.handler_type, "fallback_value": handler.fallback_value},
    }
    return {name: fact for name, fact in facts.items() if fact is not None}
