"""The lint of code strings: a word of warning to their author, not a sandbox.

Code strings are trusted code: they can do whatever the process can. The lint refuses what is in
them by mistake more often than by intent, and what they can be told to use by naming it in *allow*.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from typing import Final

from pocketflow_async.workflow.errors import SafetyViolationError

_RUNS_TEXT = "runs text as code"
_STARTS = "starts another process"
_ENDS = "ends or copies the whole process"
_NO_STDIN = "waits for somebody to type"
_ENDINGS = ("l", "le", "lp", "lpe", "v", "ve", "vp", "vpe")

MODULES: Final = {
    "subprocess": _STARTS,
    "asyncio.subprocess": _STARTS,
    "pty": _STARTS,
}
"""Modules that are refused, and why."""

CALLS: Final = {
    "eval": _RUNS_TEXT,
    "exec": _RUNS_TEXT,
    "compile": _RUNS_TEXT,
    "__import__": "hides which module it imports",
    "input": _NO_STDIN,
    "raw_input": _NO_STDIN,
}
"""Builtins that are refused, and why; a function of the same name in the code is not meant."""

ATTRIBUTES: Final = {
    "os": {
        **dict.fromkeys(("system", "popen", "posix_spawn", "posix_spawnp", "startfile"), _STARTS),
        **dict.fromkeys(("fork", "forkpty", "_exit", "abort"), _ENDS),
        **{f"exec{ending}": _ENDS for ending in _ENDINGS},
        **{f"spawn{ending}": _STARTS for ending in _ENDINGS},
    },
    "asyncio": dict.fromkeys(("create_subprocess_exec", "create_subprocess_shell"), _STARTS),
    "builtins": CALLS,
    "__builtins__": CALLS,
}
"""Functions of modules that are refused, and why."""

_ALWAYS: Final = frozenset({"eval", "exec", "__import__"})  # also when they are only named


def check(tree: ast.Module, node_id: str, allow: Collection[str], bound: Collection[str]) -> None:
    """Refuse what the lint knows in *tree*, all at once.

    Args:
        tree: The code.
        node_id: Whose it is.
        allow: What is meant, by the names that the messages give, such as `subprocess` or
            `os.system`; a module's name stands for all of it.
        bound: Names that the code itself sets; they are not the builtins of the same name.

    Raises:
        SafetyViolationError: There is something.
    """
    found = [
        (node.lineno, node.col_offset, name, why)
        for node in ast.walk(tree)
        if isinstance(node, ast.expr | ast.stmt)
        for name, why in _refused(node, bound)
        if name not in allow and name.partition(".")[0] not in allow
    ]
    if found:
        raise SafetyViolationError(
            *(
                f"node {node_id!r}, line {line}, column {column + 1}: {name} is refused, since it "
                f"{why}; if you mean it, say allow={{{name!r}}}"
                for line, column, name, why in sorted(found)
            )
        )


def _refused(node: ast.expr | ast.stmt, bound: Collection[str]) -> Iterator[tuple[str, str]]:
    match node:
        case ast.Import() | ast.ImportFrom():
            yield from _imported(node)
        case ast.Call(func=ast.Name(id=name)) if name not in bound and name not in _ALWAYS:
            yield from _attribute("builtins", name)
        case ast.Name(id=name, ctx=ast.Load()) if name in _ALWAYS and name not in bound:
            yield name, CALLS[name]
        case ast.Attribute(value=ast.Name(id=module), attr=name):
            yield from _attribute(module, name)
        case ast.Subscript(value=ast.Name(id="__builtins__"), slice=ast.Constant(value=str(name))):
            yield from _attribute("__builtins__", name)


def _imported(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield from _module(alias.name)
    elif node.module is not None and not node.level:
        yield from _module(node.module)
        for alias in node.names:
            yield from _module(f"{node.module}.{alias.name}")
            yield from _attribute(node.module, alias.name)


def _module(name: str) -> Iterator[tuple[str, str]]:
    why = MODULES.get(name)
    if why is not None:
        yield name, why


def _attribute(module: str, name: str) -> Iterator[tuple[str, str]]:
    why = ATTRIBUTES.get(module, {}).get(name)
    if why is not None:
        yield (name if name in CALLS else f"{module}.{name}"), why
