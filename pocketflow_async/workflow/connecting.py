"""The forms of `connect`: which edges are meant."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias

from pocketflow_async.workflow.errors import ConnectionError
from pocketflow_async.workflow.ports import listed
from pocketflow_async.workflow.spec import NodeSpec

Link: TypeAlias = tuple[str, str | None, str, str]
"""Source, output (None: all of it), target, input."""

DATA: Final = "data"
"""Input and output where no other is said."""


class Form:
    """The arguments of one call of `connect`.

    Args:
        source: Id of the node that yields.
        to: Id of a node, several of them, or an output of *source*.
        more: Further arguments: a mapping, or a node and its input.
        mapping: Inputs by output, or by node where *to* is an output.
        output: Name of the output; None: not said.
        input: Name of the input; None: not said.

    Raises:
        TypeError: They make no form.
    """

    def __init__(
        self,
        source: Any,
        to: Any,
        more: tuple[Any, ...],
        mapping: Any,
        output: Any,
        input: Any,
    ) -> None:
        if more and isinstance(more[0], Mapping) and mapping is None:
            mapping, more = more[0], more[1:]
        if len(more) not in (0, 2):
            raise TypeError(
                "connect takes two nodes, or a node, its output, another node and its input; "
                f"not {2 + len(more)} of them"
            )
        if mapping is not None and not isinstance(mapping, Mapping):
            raise TypeError(f"mapping must be a dict, not {mapping!r}")
        if mapping is not None and not mapping:
            raise TypeError("mapping is empty: leave it out, or name an output and an input")
        if (more or mapping is not None) and (output is not None or input is not None):
            raise TypeError("from_output= and to_input= go with two nodes alone")
        if more and mapping is not None:
            raise TypeError("a mapping goes with two nodes, or with a node and an output")
        self._source = source
        self._to = to
        self._more = more
        self._mapping = mapping
        self._output = output
        self._input = input

    def links(
        self,
        is_node: Callable[[str], bool],
        input_of: Callable[[str, str], str],
        output_of: Callable[[str, bool], str | None],
    ) -> Iterator[Link]:
        """Yield the edges that are meant.

        Args:
            is_node: Says whether a text is the id of a node.
            input_of: Names the input of a node where none is said.
            output_of: Names the output of a node where none is said, and whether it goes into an
                input called `data`; None: all of it.
        """
        if self._more:
            target, input = self._more
            yield from ((self._source, self._to, each, input) for each in _texts(target))
        elif self._mapping is None:
            for target in _texts(self._to):
                yield self._single(target, input_of, output_of)
        elif isinstance(self._to, str) and not is_node(self._to):
            for target, inputs in self._mapping.items():
                yield from ((self._source, self._to, target, each) for each in _texts(inputs))
        else:
            for target in _texts(self._to):
                for output, inputs in self._mapping.items():
                    yield from ((self._source, output, target, each) for each in _texts(inputs))

    def _single(
        self,
        target: str,
        input_of: Callable[[str, str], str],
        output_of: Callable[[str, bool], str | None],
    ) -> Link:
        """Return the edge between two nodes, of which not all names were said."""
        output, input = self._output, self._input
        if input is None:
            input = input_of(self._source, target)
            if input != DATA:
                return self._source, output, target, input
        if output is None:
            output = output_of(self._source, input == DATA)
        return self._source, output, target, input


def chosen_input(source: str, spec: NodeSpec, fed: Callable[[], Collection[str]]) -> str:
    """Return the input of a node that is meant where none is said.

    It is the only one that it has, or the only one that nothing is connected to, or of those the
    only one that it needs; `data` where it has that, or where nothing is known of its inputs.

    Args:
        source: Id of the node that is connected to it, for the error.
        spec: The node.
        fed: Names those of its inputs that are connected already.

    Raises:
        ConnectionError: It has none, or several are left.
    """
    known = {
        name: port
        for name, port in spec.inputs.known.items()
        if name not in spec.required_resources
    }
    if not known and spec.inputs.open:
        return DATA
    if len(known) > 1:
        taken = fed()
        known = {name: port for name, port in known.items() if name not in taken} or known
    needed = [name for name, port in known.items() if port.required]
    for names in (list(known), needed):
        if len(names) == 1:
            return names[0]  # if that is fed already, `build` says by what
    if DATA in known:
        return DATA
    between = f"connect({source!r}, {spec.id!r})"
    if not known:
        raise ConnectionError(f"{between}: node {spec.id!r} takes no input")
    raise ConnectionError(
        f"{between}: node {spec.id!r} has several inputs left, {listed(known)}: say which, with "
        f"connect({source!r}, {spec.id!r}, to_input={next(iter(known))!r})"
    )


def _texts(value: Any) -> list[str]:
    """Return one text or several as a list."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Iterable) and not isinstance(value, Mapping | bytes):
        found = list(value)
        if found and all(isinstance(each, str) for each in found):
            return found
    raise TypeError(
        f"the other end of a connection must be a text or a list of texts, not {value!r:.80}"
    )
