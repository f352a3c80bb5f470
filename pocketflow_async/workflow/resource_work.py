"""One call of a method of a resource, as the work of a node."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pocketflow_async.arguments import text
from pocketflow_async.resources.uses import using
from pocketflow_async.workflow.ports import did_you_mean, listed, take
from pocketflow_async.workflow.spec import Context, Port, Ports

_OURS = "pocketflow_async.resources."
_VARIABLE = re.compile(r"(?<!\$)\$\{([A-Za-z_]\w*(?:\.\w+)*)\}")


class ResourceWork:
    """Calls `operation` of a resource; the params are handed over as they are, never as code.

    `"${name}"` as a whole text stands for the input *name*, and `"${name.key}"` for something in
    it; inside a longer text it is filled in as text (do not build queries like that: give the
    database parameters). `$${` stands for `${` itself. The method is called on the event loop's
    thread, and awaited if it is asynchronous.

    Args:
        resource: Name of the resource.
        operation: Name of the method; dots go into attributes.
        params: Arguments by name, or in order; None: none.
        output_field: Key under which the method's value is yielded.

    Raises:
        TypeError: One of them is of a wrong type.
        ValueError: *operation* is no public name.
    """

    is_async = True

    def __init__(
        self,
        resource: str,
        operation: str,
        params: Mapping[str, Any] | Sequence[Any] | None = None,
        output_field: str = "result",
    ) -> None:
        text("resource_name", resource)
        text("operation", operation)
        text("output_field", output_field)
        if output_field in ("resource", "operation"):
            raise ValueError(f"output_field must not be {output_field!r}: the node yields that too")
        if not all(part.isidentifier() and part[0] != "_" for part in operation.split(".")):
            raise ValueError(
                f"operation must be the name of a public method, not {operation!r:.80}"
            )
        self._resource = resource
        self._operation = operation
        self._params = _checked(params)
        self._field = output_field

    def __repr__(self) -> str:
        return f"<ResourceWork {self._resource}.{self._operation}>"

    @property
    def inputs(self) -> Ports:
        """The variables of the params."""
        return Ports({name: Port(name) for name in _variables(self._params)}, open=False)

    @property
    def outputs(self) -> Ports:
        """The method's value, and what was called."""
        kinds: dict[str, Any] = {self._field: None, "resource": str, "operation": str}
        return Ports({name: Port(name, kind) for name, kind in kinds.items()}, open=False)

    async def run(self, inputs: Mapping[str, Any], context: Context) -> dict[str, Any]:
        """Call the method; yield its value with the names of the resource and the operation.

        Raises:
            LookupError: There is no such resource.
            AttributeError: It has no such method.
            ValueError: A variable of the params is no input.
        """
        resource = await context.get_resource(self._resource)
        params = self._params
        args: tuple[Any, ...] = ()
        named: dict[str, Any] = {}
        if isinstance(params, dict):
            named = {name: _filled(param, inputs) for name, param in params.items()}
        else:
            args = tuple(_filled(param, inputs) for param in params)
        method = self._method(resource)
        if _tells_itself(resource):
            value = await _called(method, args, named)
        else:
            with using(self._resource, self._operation, named or args):
                value = await _called(method, args, named)
        return {self._field: value, "resource": self._resource, "operation": self._operation}

    def _method(self, resource: Any) -> Any:
        found = resource
        for part in self._operation.split("."):
            try:
                found = getattr(found, part)
            except AttributeError as error:
                there = [name for name in dir(found) if not name.startswith("_")]
                raise AttributeError(
                    f"resource {self._resource!r} ({type(resource).__name__}) has no operation "
                    f"{self._operation!r}{did_you_mean(part, there)}; "
                    f"there is: {listed(there, 20) or 'nothing'}"
                ) from error
        if not callable(found):
            raise TypeError(f"{self._operation!r} of resource {self._resource!r} is no method")
        return found


async def _called(method: Any, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
    value = method(*args, **named)
    return await value if inspect.isawaitable(value) else value


def _tells_itself(resource: Any) -> bool:
    """Return whether the resource is one of ours, which tell those who watch what they do."""
    return any(kind.__module__.startswith(_OURS) for kind in type(resource).__mro__)


def _checked(params: Any) -> dict[str, Any] | tuple[Any, ...]:
    if params is None:
        return ()
    if isinstance(params, Mapping):
        for name in params:
            if not isinstance(name, str):
                raise TypeError(f"the names of params must be texts, not {name!r}")
        return dict(params)
    if isinstance(params, Sequence) and not isinstance(params, str | bytes):
        return tuple(params)
    raise TypeError(f"params must be a dict or a list, not {params!r:.80}")


def _variables(value: Any) -> list[str]:
    if isinstance(value, str):
        return [name.partition(".")[0] for name in _VARIABLE.findall(value)]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [name for part in value for name in _variables(part)]
    return []


def _filled(value: Any, inputs: Mapping[str, Any]) -> Any:
    """Return *value* with its variables filled in."""
    if isinstance(value, str):
        if whole := _VARIABLE.fullmatch(value):
            return _input(whole[1], inputs)
        filled = _VARIABLE.sub(lambda found: str(_input(found[1], inputs)), value)
        return filled.replace("$${", "${")
    if isinstance(value, dict):
        return {key: _filled(part, inputs) for key, part in value.items()}
    if isinstance(value, list):
        return [_filled(part, inputs) for part in value]
    if type(value) is tuple:
        return tuple(_filled(part, inputs) for part in value)
    return value


def _input(path: str, inputs: Mapping[str, Any]) -> Any:
    name, _, rest = path.partition(".")
    if name not in inputs:
        raise ValueError(f"params use ${{{path}}}, but the inputs are {listed(inputs) or 'none'}")
    if not rest:
        return inputs[name]
    return take(inputs[name], rest, wrapped=False, node_id=name)
