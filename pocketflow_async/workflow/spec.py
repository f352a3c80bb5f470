"""A workflow as data: nodes, edges, and what is known about their ports. Frozen once built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Protocol

WHOLE: Final = None
"""The output of an edge that carries all that its node has yielded."""


class Context(Protocol):
    """What a node may ask for while it runs."""

    @property
    def run_id(self) -> str:
        """Id of the run."""

    @property
    def node_id(self) -> str:
        """Id of the node."""

    async def get_resource(self, name: str) -> Any:
        """Return a shared resource.

        Raises:
            LookupError: There is none of that name.
        """


class Work(Protocol):
    """What a node does; it keeps no state of a run, so it may be at work many times at once."""

    @property
    def is_async(self) -> bool:
        """Whether `run` returns an awaitable; otherwise it is called in the pool of threads."""

    def run(self, inputs: Mapping[str, Any], context: Context) -> Any:
        """Do the work with *inputs* by name; return, or await, what the node yields."""


@dataclass(frozen=True, slots=True)
class Port:
    """One input or output of a node, as far as it is known before the run."""

    name: str
    annotation: Any = None
    """Type, or None where nothing is known."""
    required: bool = True
    """For inputs: whether the node cannot do without it."""


@dataclass(frozen=True, slots=True)
class Ports:
    """The inputs or outputs of a node."""

    known: Mapping[str, Port] = field(default_factory=dict)
    open: bool = True
    """Whether there may be others besides."""


@dataclass(frozen=True)
class NodeSpec:
    """One node.

    Attributes:
        id: Its name within the workflow.
        type: What it is: `PythonCodeNode`, `AsyncPythonCodeNode`, `Function`, `Node`, `Flow`,
            `Workflow`, `ParallelMap`, `Scatter`, `Gather`, `Resource`.
        config: What it was made of, such as `{"code": …}`; JSON-able for those that can be saved.
        work: What it does.
        inputs: Its inputs, as far as they are known.
        outputs: Its outputs, as far as they are known.
        wrapped: Whether what it yields is `{"result": value}`.
        timeout: Seconds that one attempt may take; None: no limit.
        max_concurrent_tasks: Most tasks that its own code may have at work at a time.
        retry_policy: When and how often it is tried again; None: once.
        error_handler: What becomes of it when it has failed; None: it fails.
        required_resources: Names of the resources that it uses.
        condition: Decides whether it runs, from those inputs that it has parameters for; one
            parameter that is named as no input gets them all. None: it does.
        description: For people.
    """

    id: str
    type: str
    config: Mapping[str, Any] = field(default_factory=dict)
    work: Work | None = field(default=None, repr=False, compare=False)
    inputs: Ports = field(default_factory=Ports)
    outputs: Ports = field(default_factory=Ports)
    wrapped: bool = False
    timeout: float | None = None
    max_concurrent_tasks: int | None = None
    retry_policy: Any = None
    error_handler: Any = None
    required_resources: tuple[str, ...] = ()
    condition: Any = None
    description: str | None = None


@dataclass(frozen=True, slots=True)
class Edge:
    """What one node yields going into another.

    Attributes:
        source: Id of the node that yields it.
        output: Port or dotted path of it; None: all of it.
        target: Id of the node that gets it.
        input: Name under which that gets it.
    """

    source: str
    output: str | None
    target: str
    input: str


@dataclass(frozen=True)
class Workflow:
    """A built workflow; any number of runs may share it.

    Attributes:
        workflow_id: Unique, unless it was given.
        name: For people, and for traces.
        nodes: By id, in the order in which they were added.
        connections: The edges, in the order in which they were added.
        metadata: Facts about it.
        aliases: Other names of nodes: id by alias.
        description: For people.
        resource_registry: Where its resources come from; None: from the runtime.
    """

    workflow_id: str
    name: str
    nodes: Mapping[str, NodeSpec] = field(default_factory=lambda: MappingProxyType({}))
    connections: tuple[Edge, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    description: str = ""
    resource_registry: Any = field(default=None, repr=False, compare=False)

    def __repr__(self) -> str:
        nodes = "1 node" if len(self.nodes) == 1 else f"{len(self.nodes)} nodes"
        return f"<Workflow {self.name!r} ({self.workflow_id}): {nodes}>"

    def to_dict(self) -> dict[str, Any]:
        """Return the workflow as plain data; see `documents.to_dict`.

        Raises:
            WorkflowValidationError: Something in it cannot be saved.
        """
        from pocketflow_async.workflow.documents import to_dict  # noqa: PLC0415 (a run needs none)

        return to_dict(self)

    def to_json(self, *, indent: int | None = 2) -> str:
        """Return the workflow as JSON.

        Raises:
            WorkflowValidationError: Something in it cannot be saved.
        """
        from pocketflow_async.workflow.documents import to_json  # noqa: PLC0415 (a run needs none)

        return to_json(self, indent=indent)

    def to_yaml(self) -> str:
        """Return the workflow as YAML.

        Raises:
            WorkflowValidationError: Something in it cannot be saved.
            WorkflowError: PyYAML is not installed.
        """
        from pocketflow_async.workflow.documents import to_yaml  # noqa: PLC0415 (a run needs none)

        return to_yaml(self)

    def to_mermaid(self) -> str:
        """Return the workflow as a Mermaid flowchart."""
        from pocketflow_async.workflow.drawing import mermaid  # noqa: PLC0415 (a run needs none)

        return mermaid(self)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Workflow:
        """Return the workflow that *document* describes; it is trusted like code.

        Raises:
            WorkflowValidationError: Something is wrong with it; all of it is named.
        """
        from pocketflow_async.workflow.documents import from_dict  # noqa: PLC0415 (see above)

        return from_dict(document)

    @classmethod
    def from_json(cls, text: str | bytes) -> Workflow:
        """Return the workflow that *text* describes; it is trusted like code.

        Raises:
            WorkflowValidationError: Something is wrong with it; all of it is named.
        """
        from pocketflow_async.workflow.documents import from_json  # noqa: PLC0415 (see above)

        return from_json(text)

    @classmethod
    def from_yaml(cls, text: str | bytes) -> Workflow:
        """Return the workflow that *text* describes; it is trusted like code.

        Raises:
            WorkflowValidationError: Something is wrong with it; all of it is named.
            WorkflowError: PyYAML is not installed.
        """
        from pocketflow_async.workflow.documents import from_yaml  # noqa: PLC0415 (see above)

        return from_yaml(text)
