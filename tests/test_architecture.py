"""The house of DESIGN.md, read from the imports: which module may know which."""

from __future__ import annotations

import ast
import statistics
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("pocketflow_async", "tracing")

LEAVES = frozenset(
    {
        "_typing",
        "arguments",
        "clock",
        "copying",
        "lazily",
        "needing",
        "offloading",
        "options",
        "trail",
    }
    | {"wording"}
)
"""Parts of the engine that know no step and no node; `hooks` may use them, but does not need to."""

MAY_IMPORT = {
    "errors": frozenset[str](),
    "hooks": LEAVES | {"errors"},
}
"""The bottom of the engine; everything else in it may import both and its own kind."""

EARLY = {
    "pocketflow_async.infrastructure.config": {"pydantic", "pydantic_settings"},
    "pocketflow_async.infrastructure.config_sections": {"pydantic"},
    "pocketflow_async.infrastructure.events.models": {"pydantic"},
    "pocketflow_async.workflow.definition": {"pydantic"},
}
"""Modules that are models of pydantic, so import it at their top: loaded only when asked for."""

LATE = {
    "pocketflow_async.infrastructure.checkpoints.traces": {"opentelemetry"},
    "pocketflow_async.infrastructure.events.redis_group": {"redis"},
    "pocketflow_async.infrastructure.events.redis_places": {"redis"},
    "pocketflow_async.infrastructure.events.web": {"starlette"},
    "pocketflow_async.workflow.continuing": {"opentelemetry"},
    "pocketflow_async.workflow.documents": {"yaml"},
    "pocketflow_async.resources.redis_cache": {"redis"},
    "pocketflow_async.runtime.progress": {"rich"},
}
"""What parts of the workflows use besides the standard library, when they are asked to."""

SEAM = "tracing.recorder"
APPLICATIONS = frozenset(
    {"tracing.demo", "tracing.testing.clock", "tracing.cli.operations", "tracing.cli.runs"}
)


def _modules() -> dict[str, Path]:
    files = (file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))
    return {_name(file): file for file in sorted(files)}


def _name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = _modules()


@cache
def _tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text("utf-8"))


def _imports(module: str, *, late: bool) -> set[str]:
    """Return what *module* imports when it runs; with *late* also inside functions."""
    return {
        target
        for node in _statements(_tree(module), late=late)
        for target in _targets(node, module)
    }


def _statements(tree: ast.AST, *, late: bool) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for other in node.orelse:
                yield other
                yield from _statements(other, late=late)
        elif late or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield node
            yield from _statements(node, late=late)


def _targets(node: ast.AST, module: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = _base(node, module)
        for alias in node.names:  # `from package import module` depends on the module
            whole = f"{base}.{alias.name}"
            yield whole if whole in MODULES else base


def _base(node: ast.ImportFrom, module: str) -> str:
    if not node.level:
        return node.module or ""
    package = MODULES[module].name == "__init__.py"
    parts = module.split(".")
    parts = parts[: len(parts) - node.level + package]
    return ".".join([*parts, *([node.module] if node.module else [])])


def _in(package: str) -> list[str]:
    return [name for name in MODULES if name == package or name.startswith(package + ".")]


def _ours(targets: set[str], package: str) -> set[str]:
    return {name for name in targets if name == package or name.startswith(package + ".")}


@pytest.mark.parametrize("module", _in("pocketflow_async"))
def test_engine_imports_only_the_standard_library_and_itself(module):
    """The engine has no dependency, not even a late one."""
    allowed = sys.stdlib_module_names | {"pocketflow_async"}

    foreign = {name for name in _imports(module, late=True) if name.split(".")[0] not in allowed}
    early = {name for name in _imports(module, late=False) if name.split(".")[0] not in allowed}

    at_top = EARLY.get(module, set())
    assert {name.split(".")[0] for name in foreign} <= LATE.get(module, set()) | at_top
    assert {name.split(".")[0] for name in early} <= at_top


@pytest.mark.parametrize("module", _in("pocketflow_async"))
def test_engine_never_imports_tracing(module):
    """Tracing watches the engine; the engine does not know that it exists."""
    assert not _ours(_imports(module, late=True), "tracing")


@pytest.mark.parametrize("module", [f"pocketflow_async.{name}" for name in MAY_IMPORT])
def test_bottom_of_the_engine_imports_nothing_above_it(module):
    """`errors` knows nothing, and `hooks` no node: the arrows run upwards."""
    if module not in MODULES:
        pytest.skip(f"{module} does not exist yet")
    allowed = {f"pocketflow_async.{name}" for name in MAY_IMPORT[module.split(".")[1]]}

    assert _ours(_imports(module, late=False), "pocketflow_async") <= allowed


@pytest.mark.parametrize("name", sorted(LEAVES))
def test_leaves_of_the_engine_know_no_step_and_no_node(name):
    """What `hooks` may use imports only the errors and other leaves."""
    module = f"pocketflow_async.{name}"
    if module not in MODULES:
        pytest.skip(f"{module} does not exist")
    allowed = {f"pocketflow_async.{other}" for other in LEAVES | {"errors"}}

    assert _ours(_imports(module, late=False), "pocketflow_async") <= allowed


@pytest.mark.parametrize("module", _in("tracing"))
def test_one_module_of_tracing_knows_the_engine(module):
    """Only the recorder imports the seam, and only applications import the engine itself."""
    known = _ours(_imports(module, late=True), "pocketflow_async")

    if module in APPLICATIONS:
        return
    assert known <= ({"pocketflow_async.hooks"} if module == SEAM else set())


@pytest.mark.parametrize("module", _in("tracing"))
def test_nothing_in_tracing_needs_its_applications(module):
    """The demo and the command line are on top: no library module imports them."""
    top = {*APPLICATIONS, *_in("tracing.cli")}
    if module in top or module == "tracing.__main__" or module.startswith("tracing.testing"):
        return

    assert not _imports(module, late=True) & top


@pytest.mark.parametrize("name", ["resilience", "resources"])
def test_resilience_and_resources_know_no_nodes_and_not_each_other(name):
    """They are plain objects around any call: of the engine they use the seam and its leaves."""
    allowed = {f"pocketflow_async.{other}" for other in LEAVES | {"errors", "hooks"}}
    own = set(_in(f"pocketflow_async.{name}"))

    for module in own:
        assert _ours(_imports(module, late=True), "pocketflow_async") <= allowed | own


def test_no_modules_import_each_other_in_a_circle():
    """Every module can be imported first."""
    graph = {
        name: {target for target in _imports(name, late=False) if target in MODULES} - {name}
        for name in MODULES
    }

    assert [group for group in strongly_connected(graph) if len(group) > 1] == []


def strongly_connected(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the groups of nodes that reach each other (Tarjan's algorithm)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in sorted(graph[node]):
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            at = stack.index(node)
            groups.append(sorted(stack[at:]))
            del stack[at:]

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return groups


def test_circles_are_found():
    """The search above sees a circle of three, and no other."""
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}, "e": set[str]()}

    assert strongly_connected(graph) == [["a", "b", "c"], ["d"], ["e"]]


def test_imports_for_types_only_are_not_imports():
    """What stands under `if TYPE_CHECKING` is ignored, unlike its `else` and a `try`."""
    tree = ast.parse(
        "if TYPE_CHECKING:\n import a\nelse:\n import b\n"
        "try:\n import c\nexcept ImportError:\n import d\n"
        "def f():\n import e\n"
    )

    def found(*, late: bool) -> list[str]:
        nodes = _statements(tree, late=late)
        return [node.names[0].name for node in nodes if isinstance(node, ast.Import)]

    assert found(late=False) == ["b", "c", "d"]
    assert found(late=True) == ["b", "c", "d", "e"]


@pytest.mark.parametrize("package", PACKAGES)
def test_modules_are_short(package):
    """No module is over 400 lines, and the median is under 200."""
    lines = {
        name: len(MODULES[name].read_text("utf-8").splitlines())
        for name in _in(package)
        if MODULES[name].stat().st_size
    }
    if not lines:
        pytest.skip(f"{package} is empty yet")

    assert {name: length for name, length in lines.items() if length > 400} == {}
    assert statistics.median(lines.values()) < 200


def test_no_module_is_a_drawer():
    """A module is named after its one idea."""
    drawers = {"utils", "util", "helpers", "helper", "common", "misc"}

    fixed = {"tracing.utils"}  # a name that users of pocketflow_tracing import

    assert [name for name in MODULES if name.rpartition(".")[2] in drawers - fixed] == (
        ["tracing.utils"]
    )
