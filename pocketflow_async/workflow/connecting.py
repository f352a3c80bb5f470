"""The forms of `connect`: which edges are meant."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias

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
        inputs_of: Callable[[str], list[str]],
        output_of: Callable[[str], str | None],
    ) -> Iterator[Link]:
        """Yield the edges that are meant.

        Args:
            is_node: Says whether a text is the id of a node.
            inputs_of: Names the inputs that a node cannot do without.
            output_of: Names the output of a node where none is said; None: all of it.
        """
        if self._more:
            target, input = self._more
            yield from ((self._source, self._to, each, input) for each in _texts(target))
        elif self._mapping is None:
            for target in _texts(self._to):
                yield self._single(target, inputs_of(target), output_of)
        elif isinstance(self._to, str) and not is_node(self._to):
            for target, inputs in self._mapping.items():
                yield from ((self._source, self._to, target, each) for each in _texts(inputs))
        else:
            for target in _texts(self._to):
                for output, inputs in self._mapping.items():
                    yield from ((self._source, output, target, each) for each in _texts(inputs))

    def _single(
        self, target: str, needed: list[str], output_of: Callable[[str], str | None]
    ) -> Link:
        """Return the edge between two nodes, of which not all names were said."""
        output, input = self._output, self._input
        if input is None:
            if len(needed) == 1 and DATA not in needed:
                return self._source, output, target, needed[0]
            input = DATA
        return self._source, output_of(self._source) if output is None else output, target, input


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
