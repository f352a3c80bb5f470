"""The inputs of a run: which are for all nodes, which for one, and which for none by mistake."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from pocketflow_async.workflow.ports import did_you_mean
from pocketflow_async.workflow.spec import NodeSpec


def is_for_one(value: Any, key: str, spec: NodeSpec | None, fed: Iterable[str]) -> bool:
    """Return whether the input *key* of a run is a dict of inputs for the node *spec* alone.

    It is not where that node takes an input of that very name which no edge feeds.

    Args:
        value: The input.
        key: Its name.
        spec: The node of that id or alias; None: there is none.
        fed: Inputs of the node that edges feed.
    """
    if spec is None or not isinstance(value, Mapping):
        return False
    if key in spec.inputs.known and key not in fed:
        return False
    if wrong := [name for name in value if not isinstance(name, str)]:
        raise TypeError(f"inputs of a run for node {key!r} have names, not {wrong!r:.80}")
    return True


def misspelled(
    given: Collection[str], taken: Collection[str], ids: Collection[str], values: Mapping[str, Any]
) -> list[str]:
    """Describe those of *given* that no node takes, but that are like something not given.

    Args:
        given: Names of inputs that no node takes.
        taken: Names of the inputs that some node takes.
        ids: Ids and aliases of the nodes.
        values: All inputs of the run.
    """
    names = [name for name in taken if name not in values]
    nodes = [node_id for node_id in ids if node_id not in values]
    found = []
    for name in given:
        guess = did_you_mean(name, names)
        if not guess and isinstance(values[name], Mapping):
            guess = did_you_mean(name, nodes)
        if guess:
            found.append(f"inputs of the run: no node takes {name!r}{guess}")
    return found
