"""Nodes made of a piece of code or of a function: as parts of a workflow, or to be called alone."""

from __future__ import annotations

import asyncio
import math
import warnings
from collections.abc import Callable, Collection, Mapping
from typing import Any, ClassVar, Final

from pocketflow_async.offloading import offload
from pocketflow_async.workflow.code import compile_code
from pocketflow_async.workflow.code_work import CodeWork
from pocketflow_async.workflow.errors import NodeExecutionError
from pocketflow_async.workflow.function_work import FunctionWork, is_coroutine_callable
from pocketflow_async.workflow.spec import Context, Ports

_NOT_ENFORCED: Final = frozenset({"imports", "max_memory_mb", "sandbox_mode"})


class _CodeNode:
    """What both kinds have in common; it keeps nothing of a run, so it may be at work many times.

    Attributes:
        name: Its name in errors and tracebacks, and the id of its node.
        code: Its code; None where it was made of a function.
        timeout: Seconds that `execute_async` may take; None: no limit.
        max_concurrent_tasks: Most tasks that its code may have at work at a time.
        wrapped: Always: it yields `{"result": value}`.
    """

    _of_async_code: ClassVar[bool]
    wrapped: ClassVar[bool] = True

    def __init__(
        self,
        code: str | None = None,
        name: str | None = None,
        *,
        function: Callable[..., Any] | None = None,
        timeout: float | None = None,
        max_concurrent_tasks: int | None = None,
        description: str | None = None,
        allow: Collection[str] = (),
        **ignored: Any,
    ) -> None:
        kind = type(self).__name__
        unknown = sorted(set(ignored) - _NOT_ENFORCED)
        if unknown:
            raise TypeError(f"{kind} has no argument {unknown[0]!r}")
        if ignored:
            warnings.warn(f"{kind} does not enforce {', '.join(ignored)}", stacklevel=2)
        if (code is None) == (function is None):
            raise TypeError(f"{kind} takes either code or a function")
        self.name = kind if name is None else name
        self.code = code
        self.timeout = _seconds(timeout)
        self.max_concurrent_tasks = _count(max_concurrent_tasks)
        self.description = description
        self.work: CodeWork | FunctionWork
        if function is not None:
            self.work = FunctionWork(self._fit(function), wrapped=True)
        else:
            compiled = compile_code(
                code,  # type: ignore[arg-type]  # what is no string is refused there
                node_id=self.name,
                is_async=self._of_async_code,
                allow=frozenset(allow),
            )
            self.work = CodeWork(compiled, wrapped=True, max_concurrent_tasks=max_concurrent_tasks)

    def _fit(self, function: Callable[..., Any]) -> Callable[..., Any]:
        if not callable(function):
            raise TypeError(f"node {self.name!r}: {function!r} is no function")
        return function

    @property
    def is_async(self) -> bool:
        """Whether `run` returns an awaitable."""
        return self.work.is_async

    @property
    def inputs(self) -> Ports:
        """What it needs, as far as its text or signature tells."""
        return self.work.inputs

    @property
    def outputs(self) -> Ports:
        """What it yields."""
        return self.work.outputs

    def run(self, inputs: Mapping[str, Any], context: Context) -> Any:
        """Work as a workflow's node."""
        return self.work.run(inputs, context)

    async def execute_async(self, /, **inputs: Any) -> dict[str, Any]:
        """Run it alone, with *inputs* as its names.

        Synchronous work goes to a thread, which no timeout can stop: it is waited for.

        Returns:
            `{"result": value}`.

        Raises:
            NodeExecutionError: It took longer than its timeout.
        """
        limit = asyncio.timeout(self.timeout)
        try:
            async with limit:
                context = _Alone(self.name)
                if self.work.is_async:
                    value = await self.work.run(inputs, context)
                else:
                    value = await offload(self.work.run, inputs, context)
        except TimeoutError as error:
            if not limit.expired():
                raise  # the code's own
            kind = "Async code" if self._of_async_code else "Code"
            raise NodeExecutionError(
                f"{kind} execution exceeded {self.timeout}s timeout"
            ) from error
        return dict(value)

    def execute(self, /, **inputs: Any) -> dict[str, Any]:
        """Run it alone, and wait for it: in this thread, without a timeout, if it is synchronous.

        Returns:
            `{"result": value}`.

        Raises:
            RuntimeError: It is asynchronous, and an event loop is running in this thread.
        """
        if not self.work.is_async:
            return dict(self.work.run(inputs, _Alone(self.name)))
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(self.execute_async(**inputs))
        raise RuntimeError(
            f"{self.name} is asynchronous and an event loop is running: "
            "`await node.execute_async(…)`"
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r})"


class PythonCodeNode(_CodeNode):
    """Synchronous code, or a function that is.

    Args:
        code: Its names are the inputs; its value is the variable `result`.
        name: For errors and tracebacks; by default that of the class.
        function: In place of *code*; called with the inputs that it takes.
        timeout: Seconds for `execute_async`.
        max_concurrent_tasks: For asynchronous code only.
        description: For people.
        allow: What the lint of code strings is to let pass, such as `subprocess`.
        **ignored: `imports`, `max_memory_mb` and `sandbox_mode` are taken with a warning.

    Raises:
        TypeError: There is neither code nor function, or both, or an argument that is not known.
        WorkflowValidationError: The code does not compile.
    """

    _of_async_code = False

    def _fit(self, function: Callable[..., Any]) -> Callable[..., Any]:
        if is_coroutine_callable(super()._fit(function)):
            raise TypeError(
                f"node {self.name!r}: the function is asynchronous: use AsyncPythonCodeNode"
            )
        return function

    @classmethod
    def from_function(
        cls, function: Callable[..., Any], name: str | None = None, **keywords: Any
    ) -> PythonCodeNode:
        """Make a node of *function*, under its name; *keywords* are those of the class."""
        return cls(name=_name(function, name), function=function, **keywords)


class AsyncPythonCodeNode(_CodeNode):
    """Code that may await, or a function; see `PythonCodeNode` for the arguments.

    Its tasks end with it, and at most *max_concurrent_tasks* of them are at work at a time; see
    `pocketflow_async.workflow.own_tasks` for which tasks count. A function that is not
    asynchronous runs in a thread.
    """

    _of_async_code = True

    @classmethod
    def from_function(
        cls, function: Callable[..., Any], name: str | None = None, **keywords: Any
    ) -> AsyncPythonCodeNode:
        """Make a node of *function*, under its name; *keywords* are those of the class."""
        return cls(name=_name(function, name), function=function, **keywords)


class _Alone:
    """The context of a node that is not in a workflow."""

    __slots__ = ("node_id",)

    run_id = "alone"

    def __init__(self, node_id: str) -> None:
        self.node_id = node_id

    async def get_resource(self, name: str) -> Any:
        raise LookupError(
            f"node {self.node_id!r} runs alone and has no resource {name!r}: "
            "pass it as an input, or run the node in a workflow"
        )


def _name(function: Callable[..., Any], name: str | None) -> str | None:
    return getattr(function, "__name__", None) if name is None else name


def _seconds(value: Any) -> float | None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if value is not None and not (number and 0 < value < math.inf):
        raise ValueError(f"timeout must be a number of seconds above 0, or None, not {value!r}")
    return value  # type: ignore[no-any-return]


def _count(value: Any) -> int | None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if value is not None and not (whole and value > 0):
        raise ValueError(
            f"max_concurrent_tasks must be a whole number above 0, or None, not {value!r}"
        )
    return value  # type: ignore[no-any-return]
