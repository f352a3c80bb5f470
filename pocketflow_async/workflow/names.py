"""What the text of a code string tells: names that it reads and sets, and keys that it yields."""

from __future__ import annotations

import ast
import builtins
import symtable
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

RESULT: Final = "result"
"""The variable that a code string leaves its value in."""

_BUILTINS: Final = frozenset(dir(builtins)) | {"__builtins__"}
_SCOPES = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef
_BINDINGS = (
    ast.alias | ast.arg | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.ExceptHandler
)
_DYNAMIC: Final = frozenset({"globals", "locals", "vars", "exec", "eval", "setattr"})


@dataclass(frozen=True, slots=True)
class Names:
    """Names of a piece of code.

    Attributes:
        free: Those that it reads and nothing in it sets; builtins are not among them.
        assigned: Global names that get a value by assignment (`=`, `for`, `with`, `:=` …).
        bound: All global names that get a value: imports, functions and classes too.
    """

    free: frozenset[str]
    assigned: frozenset[str]
    bound: frozenset[str]


def names_of(text: str) -> Names:
    """Return the names of the module that *text* is.

    Raises:
        SyntaxError: It is none.
    """
    read: set[str] = set()
    assigned: set[str] = set()
    bound: set[str] = set()
    for table in _tables(symtable.symtable(text, "<code>", "exec")):
        top = table.get_type() == "module"
        for symbol in table.get_symbols():
            if not top and not symbol.is_global():
                continue
            name = symbol.get_name()
            if symbol.is_referenced():
                read.add(name)
            if symbol.is_imported() or symbol.is_namespace():
                bound.add(name)
            elif symbol.is_assigned():
                assigned.add(name)
    bound |= assigned
    return Names(frozenset(read - bound - _BUILTINS), frozenset(assigned), frozenset(bound))


def _tables(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    waiting = [table]
    while waiting:
        table = waiting.pop()
        yield table
        waiting += table.get_children()


def within(tree: ast.AST) -> Iterator[ast.AST]:
    """Walk over what belongs to the scope of *tree* itself, not to functions or classes in it."""
    waiting = [*ast.iter_child_nodes(tree)]
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, _SCOPES):
            waiting += ast.iter_child_nodes(node)


def result_keys(tree: ast.Module) -> frozenset[str] | None:
    """Return all keys that the value of *tree* can have; None when its text does not make sure.

    It does when the value is set by dict literals alone, one of which is always reached, and
    nothing but the setting touches it. With several literals the keys are those of all of them.
    """
    values: list[ast.expr | None] = []
    ours: set[int] = set()
    for node in within(tree):
        if isinstance(node, ast.Return):
            values.append(node.value)
        elif (found := _setting(node)) is not None:
            ours.add(id(found[0]))
            values.append(found[1])
    if not _always_set(tree.body) or any(_touches(node, ours) for node in ast.walk(tree)):
        return None
    keys: set[str] = set()
    for value in values:
        literal = _literal_keys(value)
        if literal is None:
            return None
        keys.update(literal)
    return frozenset(keys)


def _setting(node: ast.AST) -> tuple[ast.Name, ast.expr] | None:
    """Return target and value of `result = value`, if *node* is that."""
    targets: Iterable[ast.expr]
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AnnAssign):
        targets = (node.target,)
    else:
        return None
    match [*targets]:
        case [ast.Name(id="result") as target] if node.value is not None:
            return target, node.value
    return None


def _always_set(body: list[ast.stmt]) -> bool:
    return any(
        isinstance(node, ast.Return)
        or _setting(node) is not None
        or (isinstance(node, ast.If) and _always_set(node.body) and _always_set(node.orelse))
        for node in body
    )


def _touches(node: ast.AST, ours: set[int]) -> bool:
    """Return whether *node* may change the value, or which value it is, behind our back."""
    if isinstance(node, ast.Name):  # most nodes are expressions: ask about them first
        return node.id in _DYNAMIC or (node.id == RESULT and id(node) not in ours)
    if isinstance(node, ast.expr | ast.expr_context):
        return False
    match node:
        case ast.Global(names=names):
            return RESULT in names
        case ast.MatchAs(name=name) | ast.MatchStar(name=name) | ast.MatchMapping(rest=name):
            return name == RESULT
        case ast.alias(name="*"):
            return True
    return isinstance(node, _BINDINGS) and RESULT in _bound_by(node)


def _bound_by(node: ast.AST) -> set[object]:
    if isinstance(node, ast.alias):
        return {node.asname or node.name.partition(".")[0]}
    return {getattr(node, "arg", None), getattr(node, "name", None)}


def _literal_keys(value: ast.expr | None) -> set[str] | None:
    if not isinstance(value, ast.Dict):
        return None
    keys = {key.value for key in value.keys if isinstance(key, ast.Constant)}
    texts = {key for key in keys if isinstance(key, str)}
    plain = all(isinstance(key, ast.Constant) for key in value.keys)
    return texts if plain and texts == keys else None
