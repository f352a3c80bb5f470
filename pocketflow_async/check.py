"""What looks wrong with a flow before it runs: dead ends, unreachable nodes, unknown successors.

Nothing is run. What a node may return is read from the source of its post, where there is some;
a return value that is not a literal makes no claim either way.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pocketflow_async.graph import parts, reachable
from pocketflow_async.nodes import AsyncNode, BaseNode, Node, name_of


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that looks wrong with a flow.

    Attributes:
        kind: no-start, dead-end, unknown-action, unknown-successor, unreachable, async-in-sync,
            never-runs, ignored-method or joined-twice.
        node: Name of the node it is about.
        message: What is wrong and what to do.
    """

    kind: str
    node: str
    message: str

    def __str__(self) -> str:
        """Return kind and message as one line."""
        return f"{self.kind}: {self.message}"


def problems(flow: Any) -> list[Problem]:
    """List the problems of *flow* and of the flows inside it, each once, in order."""
    found: dict[Problem, None] = {}
    seen: set[int] = set()
    waiting = [flow]
    while waiting:
        holder = waiting.pop(0)
        if id(holder) in seen:
            continue
        seen.add(id(holder))
        found.update(dict.fromkeys(_holder(holder)))
        waiting.extend(node for node in reachable(parts(holder)) if _holds(node))
    return list(found)


def _holds(node: Any) -> bool:
    return getattr(node, "_pf_holds", False) is True


def _holder(holder: Any) -> Iterator[Problem]:
    name = name_of(holder)
    starts = parts(holder)
    if not starts:
        yield Problem("no-start", name, f"flow {name} has no start node: give it start=")
        return
    nodes = reachable(starts)
    ends = getattr(getattr(holder, "_pf_options", None), "ends", ())
    possible: list[tuple[Any, Any]] = []
    for node in nodes:
        yield from _node(node, holder)
        returns = actions(node)
        yield from _routes(node, returns, ends)
        possible += [(node, to) for action, to in node.successors.items() if returns.may(action)]
    yield from _unreachable(holder, starts, nodes, possible)
    yield from _joined_twice(holder, starts)


def _node(node: Any, holder: Any) -> Iterator[Problem]:
    name = name_of(node)
    if isinstance(node, AsyncNode) and not isinstance(holder, AsyncNode):
        text = f"{name} is asynchronous, but {name_of(holder)} is a plain flow: use AsyncFlow"
        yield Problem("async-in-sync", name, text)
    retries = getattr(node, "max_retries", 1)
    if isinstance(node, Node) and isinstance(retries, int) and retries < 1:
        text = f"{name} has max_retries={retries}, so its exec never runs; 1 means one attempt"
        yield Problem("never-runs", name, text)
    yield from _ignored(node, name)
    for action, target in node.successors.items():
        if not isinstance(target, BaseNode):
            text = f"{name} - {action!r} leads to {target!r}, which is not a node"
            yield Problem("unknown-successor", name, text)


def _ignored(node: Any, name: str) -> Iterator[Problem]:
    """Find phases that are written in the other colour, where nothing calls or awaits them."""
    for phase in ("prep", "exec", "post"):
        own = getattr(type(node), phase, None)
        if _holds(node) or getattr(own, "__module__", "").startswith("pocketflow_async."):
            continue
        if isinstance(node, AsyncNode):
            if getattr(AsyncNode, f"{phase}_async") is getattr(type(node), f"{phase}_async"):
                text = (
                    f"{name} is an AsyncNode, so its {phase} is never called: name it {phase}_async"
                )
                yield Problem("ignored-method", name, text)
        elif inspect.iscoroutinefunction(own):
            text = f"{name}.{phase} is a coroutine function, but {name} is no AsyncNode"
            yield Problem("ignored-method", name, text)


def _routes(node: Any, returns: Returns, ends: Any) -> Iterator[Problem]:
    """Compare what *node* may return with the successors it has."""
    name, known = name_of(node), list(node.successors)
    if not known:
        return  # the last node of a path may return what it likes
    for action in sorted(returns.literals - set(known) - set(ends) - {"default"}):
        text = (
            f"{name} may return {action!r}, but its successors are {known}: "
            f"connect it, or name it in the flow's ends="
        )
        yield Problem("unknown-action", name, text)
    default = returns.nothing or "default" in returns.literals
    if default and "default" not in known and "default" not in ends:
        text = (
            f'{name} may return None or "default", but its successors are {known}: '
            f"the flow would end there"
        )
        yield Problem("dead-end", name, text)


def _unreachable(
    holder: Any, starts: list[Any], nodes: list[Any], possible: list[tuple[Any, Any]]
) -> Iterator[Problem]:
    following: dict[int, list[Any]] = {}
    for node, target in possible:
        following.setdefault(id(node), []).append(target)
    reached: set[int] = set()
    waiting = list(starts)
    while waiting:
        node = waiting.pop()
        if id(node) not in reached:
            reached.add(id(node))
            waiting.extend(following.get(id(node), ()))
    for node in nodes:
        if id(node) not in reached:
            text = f"{name_of(node)} is connected by actions that no node returns"
            yield Problem("unreachable", name_of(node), text)
    known = {id(node) for node in _everything(nodes)}
    for attribute, value in vars(holder).items():
        stray = isinstance(value, BaseNode) and id(value) not in known and value is not holder
        if stray and not _holds(value):  # a flow may well be run by hand
            text = f"{name_of(value)} (self.{attribute}) is not connected to the start node"
            yield Problem("unreachable", name_of(value), text)


def _everything(nodes: list[Any]) -> list[Any]:
    """Return *nodes* and all that they hold, at any depth."""
    found: dict[int, Any] = {}
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if id(node) not in found:
            found[id(node)] = node
            waiting.extend(reachable(parts(node)))
    return list(found.values())


def _joined_twice(holder: Any, starts: list[Any]) -> Iterator[Problem]:
    if len(starts) < 2:
        return
    counts: dict[int, int] = {}
    nodes: dict[int, Any] = {}
    for start in starts:
        for node in reachable([start]):
            nodes[id(node)] = node
            counts[id(node)] = counts.get(id(node), 0) + 1
    for key, count in counts.items():
        if count > 1:
            name = name_of(nodes[key])
            text = (
                f"{name} follows in {count} branches of {name_of(holder)} and would run {count} "
                f"times: put it behind them, parallel(...) >> {name}"
            )
            yield Problem("joined-twice", name, text)


@dataclass(frozen=True, slots=True)
class Returns:
    """What a post may return."""

    literals: frozenset[str] = frozenset()
    nothing: bool = False
    """Whether it may return None (or another falsy value), which means "default"."""
    unknown: bool = False
    """Whether it may return something that only a run can tell."""

    def may(self, action: str) -> bool:
        """Return whether *action* may be returned."""
        return self.unknown or action in self.literals or (action == "default" and self.nothing)


def actions(node: Any) -> Returns:
    """Return what the post of *node* may return."""
    post = node.post_async if isinstance(node, AsyncNode) else node.post
    function = getattr(post, "__func__", post)
    if function in (BaseNode.post, AsyncNode.post_async):
        return Returns(nothing=True)
    if _holds(node) and function.__module__.startswith("pocketflow_async."):
        if hasattr(node, "branches"):
            return Returns(nothing=True)
        return Returns(unknown=True)  # a flow returns the last action of whatever ran last
    return _read(function)


def _read(function: Callable[..., Any]) -> Returns:
    if hasattr(function, "__wrapped__"):
        return Returns(unknown=True)  # the wrapper may return anything
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    except (OSError, TypeError, SyntaxError, ValueError, IndexError):
        return Returns(unknown=True)
    if not isinstance(tree, (ast.FunctionDef, ast.AsyncFunctionDef)) or tree.decorator_list:
        return Returns(unknown=True)  # a lambda, or a wrapper that may return anything
    literals: set[str] = set()
    end = _falls_off(tree.body)
    nothing, unknown = end is True, end is None
    for value in _returned(tree.body):
        for leaf in _leaves(value):
            if not isinstance(leaf, ast.Constant):
                unknown = True
            elif isinstance(leaf.value, str) and leaf.value:
                literals.add(leaf.value)
            else:
                nothing = nothing or not leaf.value
    return Returns(frozenset(literals), nothing, unknown)


def _returned(body: list[ast.stmt]) -> Iterator[ast.expr]:
    """Yield the values of the return statements of one function, not of those inside it."""
    waiting: list[ast.AST] = list(body)
    while waiting:
        item = waiting.pop()
        if isinstance(item, ast.Return):
            yield item.value or ast.Constant(None)
        elif not isinstance(
            item, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
        ):
            waiting.extend(ast.iter_child_nodes(item))


def _leaves(value: ast.expr) -> Iterator[ast.expr]:
    """Yield what an expression may come to: both sides of `a if c else b` and of `a or b`."""
    if isinstance(value, ast.IfExp):
        yield from _leaves(value.body)
        yield from _leaves(value.orelse)
    elif isinstance(value, ast.BoolOp) and isinstance(value.op, ast.Or):
        for side in value.values[:-1]:
            # A falsy side gives way to the next one.
            yield from (leaf for leaf in _leaves(side) if not _falsy(leaf))
        yield from _leaves(value.values[-1])
    else:
        yield value


def _falsy(leaf: ast.expr) -> bool:
    return isinstance(leaf, ast.Constant) and not leaf.value


def _falls_off(body: list[ast.stmt]) -> bool | None:
    """Return whether the end of *body* can be reached; None where only a run can tell."""
    last = body[-1]
    match last:
        case ast.Return() | ast.Raise():
            return False
        case ast.If():
            return _any(_falls_off(last.body), _falls_off(last.orelse) if last.orelse else True)
        case ast.With() | ast.AsyncWith():
            return _falls_off(last.body)
        case ast.For() | ast.AsyncFor() | ast.While() | ast.Match() | ast.Try() | ast.TryStar():
            return None
    return True


def _any(one: bool | None, other: bool | None) -> bool | None:
    return True if one or other else (None if one is None or other is None else False)
