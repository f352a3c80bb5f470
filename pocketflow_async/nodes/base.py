"""What nodes and flows have in common: params, successors and the three phases."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, overload

from pocketflow_async._typing import Executed, Generic, Posted, Prepared, subscript
from pocketflow_async.hooks import Hooks, Kind, Step, active, admit
from pocketflow_async.trail import note

_N = TypeVar("_N", bound="BaseNode[Any, Any, Any]")

fan_out: list[Callable[[Sequence[Any]], BaseNode[Any, Any, Any]]] = []
"""Makes a node of a list of branches; filled by `parallel`, which stands above this module."""


def name_of(node: Any) -> str:
    """Return the name a node or flow was given, or that of its class."""
    try:
        given = node._pf_options
    except AttributeError:  # not one of ours
        given = None
    if given is None or given.name is None:
        return type(node).__name__
    return given.name  # type: ignore[no-any-return]


def kind_of(node: Any) -> Kind:
    """Return the kind of step a visit of *node* is; anything that acts like a node is one."""
    try:
        return node._pf_kind  # type: ignore[no-any-return]
    except AttributeError:
        return "node"


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
    _pf_kind: ClassVar[Kind] = "node"
    # Names of the engine's own begin with `_pf_`, so that those of users' classes stay free.
    _pf_options: Any = None
    _pf_kept: list[Any] | None = None
    _pf_action: Any = None
    _pf_holds: ClassVar[bool] = False  # whether it holds other nodes

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
    def next(
        self, node: _ConditionalTransition, action: str = "default"
    ) -> _ConditionalTransition: ...
    @overload
    def next(self, node: Sequence[Any], action: str = "default") -> BaseNode[Any, Any, Any]: ...
    def next(self, node: Any, action: str = "default") -> Any:
        """Go on at *node* when post returns *action*; return *node*.

        A list or tuple of nodes becomes one node that runs them side by side (see `parallel`). Of
        `other - "action"` the node is connected, and the action kept for the next `>>`.
        """
        if isinstance(node, _ConditionalTransition):
            self.next(node.src, action)  # a - "x" >> b - "y" >> c: `-` binds before `>>`
            return node
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
        with Step("exec", name_of(self), self, prep_res, hooks) as step:
            step.result = result = self.exec(prep_res)
        return result

    def _run(self, shared: Any) -> Any:
        hooks = active()
        phase = "prep"
        try:
            if hooks is None:
                prepared = self.prep(shared)
                phase = "exec"
                executed = self._exec(prepared)
                phase = "post"
                action = self.post(shared, prepared, executed)
            else:
                name = name_of(self)
                with Step("prep", name, self, shared, hooks) as step:
                    step.result = prepared = self.prep(shared)
                phase = "exec"
                executed = self._exec(prepared)
                phase = "post"
                with Step("post", name, self, executed, hooks) as step:
                    step.result = action = self.post(shared, prepared, executed)
        except BaseException as error:
            note(error, self, name_of(self), phase)
            raise
        if self._pf_kept is not None:
            self._pf_kept.append(executed)
        return action

    @overload
    def __rshift__(self, other: _N) -> _N: ...
    @overload
    def __rshift__(self, other: _ConditionalTransition) -> _ConditionalTransition: ...
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
    def __rshift__(self, tgt: _ConditionalTransition) -> _ConditionalTransition: ...
    @overload
    def __rshift__(self, tgt: Sequence[Any]) -> BaseNode[Any, Any, Any]: ...
    def __rshift__(self, tgt: Any) -> Any:
        return self.src.next(tgt, self.action)


def visit(node: BaseNode[Any, Any, Any], shared: Any, hooks: Hooks | None) -> Any:
    """Run a node or flow as one step, in synchronous code."""
    if hooks is None:
        return node._run(shared)
    with Step(node._pf_kind, name_of(node), node, shared, hooks) as step:
        admit(step, hooks)
        step.result = result = node._run(shared)
    return result
