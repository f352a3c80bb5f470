"""Code strings, compiled once and run with their inputs as names.

A code string is trusted code of the workflow's author: it has all builtins and can do whatever the
process can. See `lint` for what is refused lest it be a mistake. Each run has a namespace of its
own, in which the inputs are global names. Nothing is pasted into text, so tracebacks show the lines
that the author wrote.
"""

from __future__ import annotations

import ast
import asyncio
import builtins
import inspect
import itertools
import linecache
import weakref
from collections.abc import Mapping
from concurrent.futures import Future
from types import CodeType, CoroutineType
from typing import Any, Final

from pocketflow_async.workflow import lint
from pocketflow_async.workflow.errors import NodeExecutionError
from pocketflow_async.workflow.names import RESULT, Names, names_of, result_keys
from pocketflow_async.workflow.own_tasks import ASYNCIO, BUILTINS, with_own_tasks
from pocketflow_async.workflow.provided import PROVIDED, provided
from pocketflow_async.workflow.source import Source, as_function, named, parse, read, returns
from pocketflow_async.workflow.spec import Context

_GET_RESOURCE: Final = "get_resource"
_PENDING: Final = frozenset({CoroutineType, asyncio.Task, asyncio.Future, Future})
_numbers = itertools.count(1)


def compile_code(
    code: str,
    *,
    node_id: str,
    is_async: bool,
    allow: frozenset[str] = frozenset(),
    workflow: str | None = None,
) -> Compiled:
    """Compile *code* for any number of runs.

    Args:
        code: Python, indented as a whole or not. Its value is the variable `result`, or what it
            returns; where there is neither, a dict of the public names that it has assigned.
        node_id: Whose it is; errors and tracebacks name it.
        is_async: Whether it may await.
        allow: What `lint` is to let pass, such as `subprocess`.
        workflow: Name of the workflow, for tracebacks.

    Raises:
        TypeError: It is no string.
        WorkflowValidationError: It is no Python; the message has node, line and column.
        SafetyViolationError: The lint refuses something in it.
    """
    source = read(code, node_id)
    tree = parse(source)
    with named(source):
        names = names_of(source.roofed)
    lint.check(tree, node_id, allow, names.bound)
    with named(source):
        is_function = "return" in source.text and returns(tree)
        keys = result_keys(tree) if is_function or RESULT in names.bound else None
        file = _file_name(node_id, workflow)
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT if is_async else 0
        if is_function:
            tree = as_function(tree, names.bound, is_async=is_async)
        program = compile(tree, file, "exec", flags=flags, dont_inherit=True)
    if is_function:
        program = next(inner for inner in program.co_consts if isinstance(inner, CodeType))
    _show_in_tracebacks(program, source)
    return Compiled(
        program,
        names,
        node_id=node_id,
        is_async=is_async,
        keys=keys,
        uses_asyncio="asyncio" in source.text,
    )


def _file_name(node_id: str, workflow: str | None) -> str:
    of = "" if workflow is None else f" of {workflow}"
    shown = "".join(char if char.isprintable() else "?" for char in f"{node_id}{of}")
    return f"<node {shown[:200]} #{next(_numbers)}>"


def _show_in_tracebacks(program: CodeType, source: Source) -> None:
    """Keep the text for as long as the program, or a traceback that shows it, is alive."""
    file = program.co_filename
    lines = [f"{line}\n" for line in source.text.split("\n")]
    linecache.cache[file] = (len(source.text), None, lines, file)
    weakref.finalize(program, linecache.cache.pop, file, None).atexit = False


class Compiled:
    """A code string that is ready to run; it keeps nothing of a run.

    Attributes:
        node_id: Whose it is.
        is_async: Whether `run` returns an awaitable.
        free_names: Names that it reads and does not set itself, builtins aside: its inputs,
            resources, and modules that it has not imported.
        assigned: Global names that it assigns.
        keys: All keys that its value can have, if its text makes that certain; else None.
    """

    __slots__ = (
        "__weakref__",
        "_asked",
        "_awaits",
        "_builtins",
        "_has_result",
        "_modules",
        "_program",
        "_public",
        "_result",
        "_uses_asyncio",
        "assigned",
        "free_names",
        "is_async",
        "keys",
        "node_id",
    )

    def __init__(
        self,
        program: CodeType,
        names: Names,
        *,
        node_id: str,
        is_async: bool,
        keys: frozenset[str] | None,
        uses_asyncio: bool,
    ) -> None:
        self.node_id = node_id
        self.is_async = is_async
        self.free_names = names.free
        self.assigned = names.assigned
        self.keys = keys
        self._program = program
        self._awaits = bool(program.co_flags & inspect.CO_COROUTINE)
        self._uses_asyncio = uses_asyncio and is_async
        self._builtins = BUILTINS if self._uses_asyncio else vars(builtins)
        self._result = RESULT
        self._has_result = RESULT in names.bound
        self._public = tuple(sorted(name for name in names.assigned if not name.startswith("_")))
        self._asked = names.free - {_GET_RESOURCE}
        self._modules: dict[str, Any] | None = None  # not imported before they are needed

    @property
    def file_name(self) -> str:
        """What tracebacks call it."""
        return self._program.co_filename

    @property
    def needed(self) -> frozenset[str]:
        """The free names that only inputs or resources can give."""
        return self.free_names - PROVIDED - {_GET_RESOURCE}

    def leave_in(self, name: str) -> None:
        """Let its value be what is in the variable *name*, if it assigns that, before `result`.

        Where it leaves no value in either, that is an empty dict. For before the first run.
        """
        if name in self.assigned:
            self._result, self._has_result = name, True
        self.keys, self._public = None, ()

    def run(self, inputs: Mapping[str, Any], context: Context, limit: int | None = None) -> Any:
        """Run it once.

        Args:
            inputs: Global names of the run. Resources and provided modules of the same name stand
                back; `get_resource` and Python's own names do not.
            context: Where its resources come from: `get_resource`, and if there is such a method,
                `has_resource` for those that it uses by name alone. Code that cannot await gets
                `get_resource_sync` of it.
            limit: Most tasks that asynchronous code may have at work at a time.

        Returns:
            Its value; for asynchronous code, a coroutine of that.

        Raises:
            NodeExecutionError: Its value is something that still waits to be awaited, or it tried
                to end the process. What else its code raises comes as it is.
        """
        if self.is_async:
            return self._run_async(inputs, context, limit)
        return self._run_sync(inputs, context)

    async def _run_async(self, inputs: Mapping[str, Any], context: Context, limit: Any) -> Any:
        space = self._namespace(inputs, context.get_resource)
        if not inputs.keys() >= self._asked:
            for name in self._resources(inputs, context):
                space[name] = await context.get_resource(name)
        try:
            if self._uses_asyncio:
                returned = await with_own_tasks(self._executed(space), limit)
            else:
                returned = eval(self._program, space)
                if self._awaits:
                    returned = await returned
        except NameError as error:
            self._explain(error, inputs)
            raise
        except (StopIteration, SystemExit) as error:
            raise self._escaped(error) from error
        return self._value(returned, space, inputs)

    async def _executed(self, space: dict[str, Any]) -> Any:
        returned = eval(self._program, space)
        return await returned if self._awaits else returned

    def _run_sync(self, inputs: Mapping[str, Any], context: Context) -> Any:
        get = getattr(context, "get_resource_sync", self._cannot_wait)
        space = self._namespace(inputs, get)
        if not inputs.keys() >= self._asked:
            for name in self._resources(inputs, context):
                space[name] = get(name)
        try:
            returned = eval(self._program, space)
        except NameError as error:
            self._explain(error, inputs)
            raise
        except (StopIteration, SystemExit) as error:
            raise self._escaped(error) from error
        return self._value(returned, space, inputs)

    def _namespace(self, inputs: Mapping[str, Any], get_resource: Any) -> dict[str, Any]:
        modules = self._modules
        if modules is None:
            modules = {name: provided(name) for name in self.free_names & PROVIDED}
            if self._uses_asyncio and "asyncio" in modules:
                modules["asyncio"] = ASYNCIO
            self._modules = modules
        return {
            **modules,
            **inputs,
            "__builtins__": self._builtins,
            "__name__": "code_node",
            _GET_RESOURCE: get_resource,
        }

    def _resources(self, inputs: Mapping[str, Any], context: Context) -> list[str]:
        """Return the names that the context has a resource for."""
        has = getattr(context, "has_resource", None)
        if has is None:
            return []
        return sorted(name for name in self._asked if name not in inputs and has(name))

    def _cannot_wait(self, name: str) -> Any:
        raise NodeExecutionError(
            f"node {self.node_id!r}: get_resource({name!r}) has to be awaited: "
            "make it an AsyncPythonCodeNode"
        )

    def _value(self, returned: Any, space: dict[str, Any], inputs: Mapping[str, Any]) -> Any:
        if returned is not None:  # a tuple of one, see `as_function`
            value = returned[0]
        elif self._result in space and (self._has_result or self._result not in inputs):
            value = space[self._result]
        else:
            found = ((name, space[name]) for name in self._public if name in space)
            value = {name: each for name, each in found if not _is_spent(each)}
        kind = type(value)
        if kind in _PENDING or (
            kind is dict and not _PENDING.isdisjoint(map(type, value.values()))
        ):
            raise self._pending(value)
        return value

    def _pending(self, value: Any) -> NodeExecutionError:
        parts = value if type(value) is dict else {RESULT: value}
        said = []
        for name, part in parts.items():
            if type(part) in _PENDING:
                said.append(f"{name!r} is a {_described(part)}")
            if isinstance(part, CoroutineType):
                part.close()  # or Python warns that nobody has awaited it
        how = "put `await` before it" if self.is_async else "only an AsyncPythonCodeNode can await"
        return NodeExecutionError(f"node {self.node_id!r}: {', '.join(said)}: {how}")

    def _explain(self, error: NameError, inputs: Mapping[str, Any]) -> None:
        if error.name in self.free_names:
            given = ", ".join(sorted(map(str, inputs))) or "none"
            error.add_note(f"node {self.node_id!r} got these inputs: {given}")

    def _escaped(self, error: BaseException) -> NodeExecutionError:
        return NodeExecutionError(f"node {self.node_id!r}: its code raised {error!r}")


def _is_spent(value: Any) -> bool:
    """Return whether *value* is an awaitable that needs nobody any more to await it."""
    kind = type(value)
    return kind in _PENDING and not (kind is CoroutineType and value.cr_frame is not None)


def _described(part: Any) -> str:
    if isinstance(part, CoroutineType):
        return f"coroutine of {part.__qualname__}() that nobody has awaited"
    return f"{type(part).__name__} that nobody has awaited"
