"""From the text of a code string to its syntax tree, with its author's line numbers."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, TypeVar

from pocketflow_async.workflow.errors import WorkflowValidationError
from pocketflow_async.workflow.names import within

_ROOF: Final = "if True:\n"
_UNFIT = re.compile("[\0\ud800-\udfff]")
_MARGIN = re.compile(r"[ \t]*")
_T = TypeVar("_T", bound=ast.stmt)
_HINTS: Final = {
    "'await' outside function": "only asynchronous code may await: use AsyncPythonCodeNode",
    "'async with' outside async function": "use AsyncPythonCodeNode",
    "'async for' outside async function": "use AsyncPythonCodeNode",
    "asynchronous comprehension outside of an asynchronous function": "use AsyncPythonCodeNode",
}


@dataclass(frozen=True, slots=True)
class Source:
    """A code string without its common indentation.

    Attributes:
        text: The code; line n of it is line n of what its author wrote.
        roof: `if True:` and a newline where the lines have no indentation in common, as with a
            string of several lines in indented code; empty otherwise.
        margin: Characters that were taken off each line.
        node_id: Whose it is.
    """

    text: str
    roof: str
    margin: int
    node_id: str

    @property
    def roofed(self) -> str:
        """The text as Python can read it: its lines are lower by as many as the roof has."""
        return self.roof + self.text

    def problem(self, error: SyntaxError) -> str:
        """Return *error* in words, where its author will find it."""
        line = max((error.lineno or 1) - self.roof.count("\n"), 1)
        column = max(error.offset or 1, 1) + self.margin
        lines = self.text.split("\n")
        text = lines[line - 1].strip() if line <= len(lines) else ""
        hint = _HINTS.get(error.msg)
        said = f"{error.msg} ({hint})" if hint else error.msg
        if "'await' outside" in error.msg and hint is None:
            said += " (a function that awaits is an `async def`)"
        shown = "".join(char if char.isprintable() else "?" for char in text[:200])
        tail = f": {shown}" if shown else ""
        return f"node {self.node_id!r}, line {line}, column {column}: {said}{tail}"


def read(code: object, node_id: str) -> Source:
    """Take the indentation off *code* that its lines have in common.

    Raises:
        TypeError: It is no string.
        WorkflowValidationError: It has characters that no Python code can have.
    """
    if not isinstance(code, str):
        raise TypeError(
            f"node {node_id!r}: code must be a string, not {type(code).__name__}; "
            "a function is a node too: add_function"
        )
    text = code.replace("\r\n", "\n").replace("\r", "\n")
    unfit = _UNFIT.search(text)
    if unfit is not None:
        line = text.count("\n", 0, unfit.start()) + 1
        column = unfit.start() - text.rfind("\n", 0, unfit.start())
        raise WorkflowValidationError(
            f"node {node_id!r}, line {line}, column {column}: "
            f"code cannot have the character {unfit[0]!r}"
        )
    plain = textwrap.dedent(text)
    first = next((line for line in text.split("\n") if _counts(line)), "")
    margin = _indent(first)
    if not margin:
        return Source(text, "", 0, node_id)
    left = _indent(next(line for line in plain.split("\n") if _counts(line)))
    if left:
        return Source(text, _ROOF, 0, node_id)
    return Source(plain, "", margin, node_id)


def _counts(line: str) -> bool:
    stripped = line.strip()
    return bool(stripped) and not stripped.startswith("#")


def _indent(line: str) -> int:
    found = _MARGIN.match(line)
    return found.end() if found else 0


def parse(source: Source) -> ast.Module:
    """Return the syntax tree of *source*, numbered by its author's lines.

    Raises:
        WorkflowValidationError: It is no Python, or has no statement.
    """
    with named(source):
        tree = ast.parse(source.roofed)
        if source.roof:
            tree.body = _under_roof(tree)
            ast.increment_lineno(tree, -1)
    if not tree.body:
        raise WorkflowValidationError(f"node {source.node_id!r}: its code is empty")
    return tree


def _under_roof(tree: ast.Module) -> list[ast.stmt]:
    """Return the statements of the code; refuse those that lie outside of our `if True:`."""
    roof, *outside = tree.body
    assert isinstance(roof, ast.If)  # we have put it there
    for node in [*roof.orelse, *outside][:1]:
        where = ("<code>", node.lineno, node.col_offset + 1, None)
        raise SyntaxError("indented less than the first line", where)
    return roof.body


@contextmanager
def named(source: Source) -> Iterator[None]:
    """Tell of what the compiler finds wrong with *source* in words of our own.

    Raises:
        WorkflowValidationError: It found something.
    """
    try:
        yield
    except SyntaxError as error:
        raise WorkflowValidationError(source.problem(error)) from error
    except (RecursionError, MemoryError) as error:
        raise WorkflowValidationError(
            f"node {source.node_id!r}: its code is nested too deeply to compile"
        ) from error
    except (ValueError, OverflowError) as error:  # such as a number of too many digits
        raise WorkflowValidationError(
            f"node {source.node_id!r}: its code cannot be compiled: {error}"
        ) from error


def returns(tree: ast.Module) -> bool:
    """Return whether the code itself, and no function in it, says `return`."""
    return any(isinstance(node, ast.Return) for node in within(tree))


def as_function(tree: ast.Module, names: frozenset[str], *, is_async: bool) -> ast.Module:
    """Make code that returns a function, so that it may.

    Its names stay global, as in a module: *names* are declared so. `return x` gives `(x,)`, so
    that None means: it has not returned anything.

    Raises:
        SyntaxError: It yields; no function may be made of that, since it would be a generator.
    """
    for node in within(tree):
        if isinstance(node, ast.Yield | ast.YieldFrom):
            where = ("<code>", node.lineno, node.col_offset + 1, None)
            raise SyntaxError("'yield' outside function", where)
    future = [node for node in tree.body if _is_future(node)]
    body = [node for node in tree.body if not _is_future(node)]
    kind = ast.AsyncFunctionDef if is_async else ast.FunctionDef
    function = kind(
        name="code",
        args=ast.arguments(posonlyargs=[], args=[], kwonlyargs=[], kw_defaults=[], defaults=[]),
        body=[_Rewritten().visit(node) for node in body],
        decorator_list=[],
        lineno=1,
        col_offset=0,
    )
    if names:
        function.body.insert(0, ast.Global(names=sorted(names), lineno=1, col_offset=0))
    return ast.fix_missing_locations(ast.Module(body=[*future, function], type_ignores=[]))


def _is_future(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "__future__" and not node.level


class _Rewritten(ast.NodeTransformer):
    """Pack what is returned into a tuple; take annotations off, which globals cannot have."""

    def visit_Return(self, node: ast.Return) -> ast.Return:
        if node.value is None:
            return node
        packed = ast.Tuple(elts=[node.value], ctx=ast.Load())
        return ast.copy_location(ast.Return(value=ast.copy_location(packed, node.value)), node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.stmt:
        if not isinstance(node.target, ast.Name):
            return node
        if node.value is None:
            return ast.copy_location(ast.Pass(), node)
        return ast.copy_location(ast.Assign(targets=[node.target], value=node.value), node)

    def _leave(self, node: _T) -> _T:
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = _leave
