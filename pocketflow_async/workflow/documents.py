"""Workflows as JSON and YAML.

A document holds code and names functions (`{"$import": "module:name"}`), whose modules are
imported when it is read: trust it like code. Resources are not part of it; they come from the
runtime.

    version: 1
    name: totals
    nodes:
      - id: fetch
        type: AsyncPythonCodeNode
        config: {code: "result = {'rows': [1, 2]}"}
        timeout: 30
      - {id: total, type: Function, config: {function: {$import: "builtins:sum"}}}
    connections:
      - {from: fetch, output: rows, to: total, input: iterable}
"""

from __future__ import annotations

import json
import re
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from pocketflow_async.workflow.decode import Pointer, Remake, decode
from pocketflow_async.workflow.encode import encode
from pocketflow_async.workflow.errors import WorkflowError, WorkflowValidationError
from pocketflow_async.workflow.spec import NodeSpec, Workflow

_ODD: Final = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]"
)
"""What YAML would take for the end of a line, or not take at all."""


def _new_id() -> str:
    return uuid.uuid4().hex


def _remake(spec: NodeSpec) -> NodeSpec:
    from pocketflow_async.workflow.node_options import OPTIONS  # noqa: PLC0415 (likewise)
    from pocketflow_async.workflow.node_specs import (  # noqa: PLC0415 (all kinds of work)
        make_spec,
    )

    options = {name: getattr(spec, name) for name in OPTIONS}
    return make_spec(spec.type, spec.id, spec.config, options, wrapped=spec.wrapped)


def to_dict(workflow: Workflow) -> dict[str, Any]:
    """Return *workflow* as plain data: dicts, lists, texts, numbers.

    Raises:
        WorkflowValidationError: Something in it cannot be saved, such as a lambda or an object;
            each is named with its node.
    """
    return encode(workflow)


def from_dict(
    document: Mapping[str, Any],
    *,
    remake: Remake = _remake,
    new_id: Callable[[], str] = _new_id,
) -> Workflow:
    """Return the workflow that *document* describes; see `to_dict`.

    Args:
        document: Plain data.
        remake: Gives each node its work and ports.
        new_id: Makes an id for a workflow that has none.

    Raises:
        CyclicDependencyError: Nodes wait for each other in a circle, and nothing else is wrong.
        WorkflowValidationError: Something is wrong; all of it is named, with JSON pointers.
    """
    return decode(document, remake=remake, new_id=new_id, show=pointer)


def to_json(workflow: Workflow, *, indent: int | None = 2) -> str:
    """Return *workflow* as JSON.

    Raises:
        WorkflowValidationError: Something in it cannot be saved.
    """
    return json.dumps(encode(workflow), indent=indent, allow_nan=False) + "\n"


def from_json(
    text: str | bytes, *, remake: Remake = _remake, new_id: Callable[[], str] = _new_id
) -> Workflow:
    """Return the workflow that *text* describes; see `to_json` and `from_dict`.

    Raises:
        CyclicDependencyError: Nodes wait for each other in a circle, and nothing else is wrong.
        WorkflowValidationError: It is no JSON, or something is wrong; all of it is named, with
            JSON pointers.
    """
    _text(text)
    twice: list[str] = []

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            counts = Counter(name for name, _ in pairs)
            twice.extend(name for name, count in counts.items() if count > 1)
        return found

    try:
        document = json.loads(text, object_pairs_hook=once, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise WorkflowValidationError(f"{place}: this is no JSON: {error.msg}") from error
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise WorkflowValidationError(f"this is no JSON that we can read: {error}") from error
    noted: list[tuple[Pointer, str]] = [((), f"key {name!r} is there twice") for name in twice]
    return decode(document, remake=remake, new_id=new_id, show=pointer, noted=noted)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number in JSON")


def pointer(place: Pointer) -> str:
    """Return *place* as a JSON pointer (RFC 6901)."""
    return "".join(f"/{str(p).replace('~', '~0').replace('/', '~1')}" for p in place) or "document"


def to_yaml(workflow: Workflow) -> str:
    """Return *workflow* as YAML, its code as blocks of lines.

    Raises:
        WorkflowValidationError: Something in it cannot be saved.
        WorkflowError: PyYAML is not installed.
    """
    yaml = _yaml()

    class Dumper(yaml.SafeDumper):  # type: ignore[misc, name-defined]
        """Writes texts of several lines as blocks, and shares nothing."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

    def text(dumper: Any, value: str) -> Any:
        style = "|" if "\n" in value else None
        if _ODD.search(value):
            style = '"'  # with escapes; as they are, they would not come back the same
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, text)
    document = encode(workflow)
    written: str = yaml.dump(
        document, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=100
    )
    return written


def _text(text: object) -> None:
    if not isinstance(text, str | bytes | bytearray):
        raise TypeError(f"a document is a text, not {text!r:.80}; for a dict there is from_dict")


def from_yaml(
    text: str | bytes, *, remake: Remake = _remake, new_id: Callable[[], str] = _new_id
) -> Workflow:
    """Return the workflow that *text* describes; see `to_yaml` and `from_dict`.

    Raises:
        CyclicDependencyError: Nodes wait for each other in a circle, and nothing else is wrong.
        WorkflowValidationError: It is no YAML, or something is wrong; all of it is named, with
            lines.
        WorkflowError: PyYAML is not installed.
    """
    _text(text)
    yaml = _yaml()
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        _check_size(root, 10 * len(text) + 100)
        lines = _Lines(root)
        noted = list(lines.twice())  # before merge keys are filled in, which may repeat some
        loader = yaml.SafeLoader("")
        document = None if root is None else loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise WorkflowValidationError(f"{place}this is no YAML: {error.problem}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise WorkflowValidationError(f"this is no YAML that we can read: {error}") from error
    return decode(document, remake=remake, new_id=new_id, show=lines.show, noted=noted)


def _yaml() -> Any:
    try:
        import yaml  # noqa: PLC0415 (an extra)
    except ImportError as error:
        text = "YAML needs PyYAML: pip install 'pocketflow-async[workflow]'"
        raise WorkflowError(text) from error
    return yaml


def _check_size(root: Any, most: int) -> None:
    """Refuse a text in which anchors stand for more than ten times its own length."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        most -= 1
        if most < 0:
            raise ValueError("its anchors stand for too much")
        if node is not None and isinstance(node.value, list):
            for part in node.value:
                waiting.extend(part if isinstance(part, tuple) else (part,))


class _Lines:
    """Finds the lines of values.

    Args:
        root: What PyYAML has composed: nodes with a `value`, `start_mark` and, for mappings, a
            list of pairs as the value.
    """

    def __init__(self, root: Any) -> None:
        self._root = root

    def show(self, place: Pointer) -> str:
        """Return the line of the value at *place*, and its pointer."""
        node, mark = self._root, None
        for part in place:
            found = self._part(node, part)
            if found is None:
                break
            mark, node = found
        mark = mark or getattr(self._root, "start_mark", None)
        return f"line {mark.line + 1} ({pointer(place)})" if mark else pointer(place)

    def _part(self, node: Any, part: str | int) -> tuple[Any, Any] | None:
        """Return the mark of a part of *node*, for a mapping that of its key, and the part."""
        if node.id == "sequence" and isinstance(part, int) and part < len(node.value):
            return node.value[part].start_mark, node.value[part]
        if node.id == "mapping":
            for key, value in reversed(node.value):  # the last one of several counts
                if key.value == str(part):
                    return key.start_mark, value
        return None

    def twice(self) -> Iterator[tuple[Pointer, str]]:
        """Yield the keys that are there twice, with where."""
        waiting: list[tuple[Pointer, Any]] = [((), self._root)]
        while waiting:
            place, node = waiting.pop()
            if getattr(node, "id", None) == "sequence":
                waiting += [((*place, at), part) for at, part in enumerate(node.value)]
            elif getattr(node, "id", None) == "mapping":
                counts = Counter(str(key.value) for key, _ in node.value)
                for name, count in counts.items():
                    if name != "<<" and count > 1:
                        yield (*place, name), f"key {name!r} is there twice"
                waiting += [((*place, str(key.value)), part) for key, part in node.value]
