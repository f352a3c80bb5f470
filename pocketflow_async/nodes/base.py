"""What nodes and flows have in common: params, successors and the three phases."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, overload

from pocketflow_async._typing import Executed, Generic, Posted, Prepared, subscript
from pocketflow_async.hooks import Hooks, Kind, Step, active, admit, watched
from pocketflow_async.trail import note

_N = TypeVar("_N", bound="BaseNode[Any, Any, Any]")

fan_out: list[Callable[[Sequence[Any]], BaseNode[Any, Any, Any]]] = []
"""Makes a node of a list of branches; filled by `parallel`, which stands above this module."""


def name_of(node: object) -> str:
    """Return the name a node or flow was given, or that of its class."""
    given = getattr(node, "_options", None)
    return getattr(given, "name", None) or type(node).__name__


class BaseNode(Generic[Prepared, Executed, Posted]):
    """What nodes and flows have in common: params, successors and the three phases.

    Every visit by a flow runs on a fresh shallow copy, so what a phase binds to `self` is seen by
    the later phases of the same visit only.

    Attributes:
        params: Parameters, usually set by the flow around the node.
        successors: The next node for each action.
    """

    params: dict[str, Any]
    successors: dict[str, BaseNode[Any, Any, Any]]
    _kind: ClassVar[Kind] = "node"
    _options: Any = None

    def __init__(self) -> None:
        self.params = {}
        self.successors = {}

    if not TYPE_CHECKING:
        __class_getitem__ = classmethod(subscript)

    def set_params(self, params: dict[str, Any]) -> None:
        """Replace the node's params."""
        self.params = params

    @overload
    def next(self, node: _N, action: str = "default") -> _N: ...
    @overload
    def next(self, node: Sequence[Any], action: str = "default") -> BaseNode[Any, Any, Any]: ...
    def next(self, node: Any, action: str = "default") -> Any:
        """Go on at *node* when post returns *action*; return *node*.

        A list or tuple of nodes becomes one node that runs them side by side (see `parallel`).
        """
        if isinstance(node, (list, tuple)):
            node = fan_out[0](node)
        if action in self.successors:
            warnings.warn(f"Overwriting successor for action '{action}'")  # noqa: B028 (as PocketFlow)
        self.successors[action] = node
        return node

    def prep(self, shared: Any) -> Prepared:
        """Read from *shared* what exec needs, and return it."""
        return None  # type: ignore[return-value]

    def exec(self, prep_res: Prepared) -> Executed:
        """Do the work on what prep returned; touch nothing shared, since it may run again."""
        return None  # type: ignore[return-value]

    def post(self, shared: Any, prep_res: Prepared, exec_res: Executed) -> Posted:
        """Write results to *shared* and return the next action; None means "default"."""
        return None  # type: ignore[return-value]

    def run(self, shared: Any) -> Any:
        """Run this node alone and return what post returned.

        Raises:
            UseRunAsyncError: The node is asynchronous.
        """
        if self.successors:
            warnings.warn("Node won't run successors. Use Flow.")  # noqa: B028 (as PocketFlow)
        return visit(self, shared, active())

    def _exec(self, prep_res: Any) -> Any:
        hooks = active()
        if hooks is None:
            return self.exec(prep_res)
        step = Step("exec", name_of(self), self, prep_res)
        with watched(step, hooks):
            step.result = self.exec(prep_res)
        return step.result

    def _run(self, shared: Any) -> Any:
        hooks = active()
        if hooks is not None:
            return self._phases(shared, hooks)[0]
        phase = "prep"
        try:
            prepared = self.prep(shared)
            phase = "exec"
            executed = self._exec(prepared)
            phase = "post"
            return self.post(shared, prepared, executed)
        except BaseException as error:
            note(error, self, name_of(self), phase)
            raise

    def _phases(self, shared: Any, hooks: Hooks | None) -> tuple[Any, Any]:
        """Run prep, exec and post; return what post and exec returned."""
        name = name_of(self)
        phase = "prep"
        try:
            step = Step("prep", name, self, shared)
            with watched(step, hooks):
                step.result = prepared = self.prep(shared)
            phase = "exec"
            executed = self._exec(prepared)
            phase = "post"
            step = Step("post", name, self, executed)
            with watched(step, hooks):
                step.result = self.post(shared, prepared, executed)
        except BaseException as error:
            note(error, self, name, phase)
            raise
        return step.result, executed

    @overload
    def __rshift__(self, other: _N) -> _N: ...
    @overload
    def __rshift__(self, other: Sequence[Any]) -> BaseNode[Any, Any, Any]: ...
    def __rshift__(self, other: Any) -> Any:
        return self.next(other)

    def __sub__(self, action: str) -> _ConditionalTransition:
        if isinstance(action, str):
            return _ConditionalTransition(self, action)
        raise TypeError("Action must be a string")


# The engine's own methods: they tell what a class has made its own, even if one is replaced later.
OWN_RUN = BaseNode._run


class _ConditionalTransition:
    """The middle of `node - "action" >> other`."""

    def __init__(self, src: BaseNode[Any, Any, Any], action: str) -> None:
        self.src = src
        self.action = action

    @overload
    def __rshift__(self, tgt: _N) -> _N: ...
    @overload
    def __rshift__(self, tgt: Sequence[Any]) -> BaseNode[Any, Any, Any]: ...
    def __rshift__(self, tgt: Any) -> Any:
        return self.src.next(tgt, self.action)


def visit(node: BaseNode[Any, Any, Any], shared: Any, hooks: Hooks | None) -> Any:
    """Run a node or flow as one step, in synchronous code."""
    if hooks is None:
        return node._run(shared)
    step = Step(node._kind, name_of(node), node, shared)
    with watched(step, hooks):
        admit(step, hooks)
        step.result = node._run(shared)
    return step.result
