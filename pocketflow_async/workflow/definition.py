"""A JSON workflow: what comes in (checked by pydantic), and the frozen graph that it means."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from functools import cached_property
from hashlib import sha256
from typing import Annotated, Any, Final, Literal, TypeAlias, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    ValidationError,
    model_validator,
)

from pocketflow_async.workflow.errors import WorkflowValidationError
from pocketflow_async.workflow.plain_json import NotPlainJson, encode, pointer_of

Category: TypeAlias = Literal["providers", "triggers", "conditions", "actions", "risk"]
RiskEffect: TypeAlias = Literal["none", "increase", "reduce"]
OnRestart: TypeAlias = Literal["rerun", "reconcile"]

CATEGORIES: Final[tuple[str, ...]] = get_args(Category)
DEFAULT_TIMEOUT: Final = 30.0
"""Seconds for one attempt of a block that does not say."""
_LONGEST_ID: Final = 200


class WorkflowDefinitionError(WorkflowValidationError):
    """Raised for a JSON workflow that cannot be executed.

    One line for each problem, with the block and the JSON pointer of the place.
    """


class WorkflowCycleError(WorkflowDefinitionError):
    """Raised when blocks wait for each other.

    Args:
        path: Ids of the blocks in the circle, the first one again at the end.
    """

    def __init__(self, path: Sequence[str]) -> None:
        self.path = tuple(path)
        super().__init__(f"Workflow contains cycles - cannot execute: {' -> '.join(path[:20])}")


def check_id(value: str) -> str:
    """Return the id *value*, if it can stand in keys, logs and file names of a store.

    Raises:
        ValueError: It has control characters, or half a surrogate pair, in it.
    """
    if not value.isprintable():
        raise ValueError("has characters in it that cannot be printed")
    return value


def check_name(what: str, value: object) -> str:
    """Return *value*, if it is text that can be an id.

    Raises:
        TypeError: It is no text.
        ValueError: It is empty, too long or cannot be printed.
    """
    if not isinstance(value, str):
        raise TypeError(f"{what} must be a text, not {type(value).__name__}")
    if not 0 < len(value) <= _LONGEST_ID:
        raise ValueError(f"{what} must have 1 to {_LONGEST_ID} characters, not {len(value)}")
    if not value.isprintable():
        raise ValueError(f"{what} {value!r} has characters in it that cannot be printed")
    return value


def _nothing(empty: Any) -> BeforeValidator:
    """Let null stand for what is left out."""
    return BeforeValidator(lambda value: empty if value is None else value)


Id = Annotated[
    str,
    StringConstraints(strict=True, min_length=1, max_length=_LONGEST_ID),
    AfterValidator(check_id),
]
Text = Annotated[str, StringConstraints(strict=True, max_length=10_000)]
Facts = Annotated[dict[str, Any], _nothing({})]


class _Checked(BaseModel):
    # An editor keeps more in it (icon, x, y …), which means nothing here.
    model_config = ConfigDict(frozen=True, extra="ignore")


class PortJson(_Checked):
    """An input or output with a name."""

    name: Id
    required: bool = True


def _form(value: Any) -> str:
    return "by_name" if isinstance(value, dict) else "in_order"


_PortInOrder = Annotated[
    PortJson, BeforeValidator(lambda one: {"name": one} if isinstance(one, str) else one)
]
_Inputs = Annotated[
    Annotated[dict[Id, Text | None], Tag("by_name")]
    | Annotated[list[_PortInOrder], Tag("in_order")],
    Discriminator(_form),
    _nothing({}),
]


class BlockJson(_Checked):
    """A block as it comes in."""

    id: Id
    name: Text | None = None
    category: Category
    type: Id
    properties: Facts = {}
    config: Facts = {}
    inputs: _Inputs = {}
    outputs: Annotated[list[_PortInOrder], _nothing([])] = []
    timeout: (
        Annotated[float, Field(gt=0, le=10_000_000, allow_inf_nan=False, strict=True)] | None
    ) = None
    risk_effect: RiskEffect | None = None
    on_restart: OnRestart | None = None

    @model_validator(mode="before")
    @classmethod
    def _no_misspelt_key(cls, value: Any) -> Any:
        if isinstance(value, dict):
            problems = [problem for key in value if (problem := _misspelt(key))]
            if problems:
                raise ValueError(", ".join(problems))
        return value


_IF_LEFT_OUT: Final = {
    name.replace("_", ""): name
    for name, one in BlockJson.model_fields.items()
    if len(name) > 4 and not one.is_required()
}
"""Keys of a block whose misspelling would change what it does and be seen by nobody."""


def _misspelt(key: str) -> str | None:
    """Return what is wrong with a key of a block that is nearly one of ours; else None."""
    if key in BlockJson.model_fields or key.startswith("_"):
        return None
    plain = re.sub("[^a-z]", "", key.lower())
    for other, name in _IF_LEFT_OUT.items():
        if abs(len(plain) - len(other)) <= 1 and SequenceMatcher(None, plain, other).ratio() >= 0.8:
            return f"a block has no {key!r:.80}; did you mean {name!r}?"
    return None


class EndJson(_Checked):
    """An end of a connection: a port of a block, by its place."""

    blockId: Id
    index: Annotated[int, Field(ge=0, strict=True)] = 0


class ConnectionJson(_Checked):
    """From an output of a block to an input of another."""

    source: Annotated[EndJson, Field(alias="from")]
    target: Annotated[EndJson, Field(alias="to")]


class WorkflowJson(_Checked):
    """A workflow as it comes in."""

    name: Text | None = None
    blocks: list[BlockJson]
    connections: Annotated[list[ConnectionJson], _nothing([])] = []


@dataclass(frozen=True, slots=True)
class Source:
    """Where the value of an input comes from.

    Attributes:
        node_id: The block.
        output: Which of its outputs; None: all of them, as a dict.
    """

    node_id: str
    output: str | None

    def __str__(self) -> str:
        return self.node_id if self.output is None else f"{self.node_id}.{self.output}"


@dataclass(frozen=True)
class Block:
    """A block of the graph.

    Attributes:
        id: Its id.
        name: What people call it.
        category: What kind of block it is.
        type: Which of its kind.
        properties: Settings, and values of inputs that nothing is connected to.
        config: Likewise, after the properties.
        inputs: Names of the inputs that it declares, in order.
        optional: Those of them that may be absent.
        sources: Where the inputs that are connected come from, by name.
        outputs: Names of the outputs that it declares, in order.
        timeout: Seconds for one attempt; None: it does not say.
        risk_effect: What it does to the risk; None: what its type says.
        on_restart: What becomes of it when the process died in it; None: what its type says.
        needs: Ids of the blocks that it comes after.
        text: The block as it came in, as JSON text.
        pointer: Where it stands in the workflow.
    """

    id: str
    name: str
    category: Category
    type: str
    properties: Mapping[str, Any] = field(repr=False)
    config: Mapping[str, Any] = field(repr=False)
    inputs: tuple[str, ...]
    optional: frozenset[str]
    sources: Mapping[str, Source]
    outputs: tuple[str, ...]
    timeout: float | None
    risk_effect: RiskEffect | None
    on_restart: OnRestart | None
    needs: tuple[str, ...]
    text: str = field(repr=False)
    pointer: str

    def constant(self, name: str) -> Any:
        """Return what stands for an input that nothing is connected to; None: nothing does."""
        value = self.properties.get(name)
        return self.config.get(name) if value is None else value

    def node(self) -> dict[str, Any]:
        """Return the block as it came in: a dict of one's own."""
        found: dict[str, Any] = json.loads(self.text)
        found.update(properties=found.get("properties") or {}, config=found.get("config") or {})
        return {**found, "name": self.name}


@dataclass(frozen=True)
class Definition:
    """A workflow that can be executed.

    Attributes:
        name: What people call it; None: nothing.
        blocks: In the order in which they are executed, each after what it needs.
        text: The workflow as it came in, as JSON text.
    """

    name: str | None
    blocks: tuple[Block, ...]
    text: str = field(repr=False)

    @cached_property
    def hash(self) -> str:
        """Digest of all that decides what an execution does; pictures and places are not in it."""
        meaning = [
            [
                *(block.id, block.category, block.type, block.properties, block.config),
                *(block.inputs, sorted(block.optional), block.outputs, block.timeout),
                {name: str(source) for name, source in block.sources.items()},
                *(block.risk_effect, block.on_restart, block.name),
            ]
            for block in self.blocks
        ]
        return sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()


def read(workflow: object) -> tuple[WorkflowJson, dict[str, Any], str]:
    """Return a checked workflow, the plain JSON that it was, and that as text.

    Args:
        workflow: A dict, or JSON text.

    Raises:
        WorkflowDefinitionError: It is no workflow; names all that is wrong.
    """
    if isinstance(workflow, str | bytes | bytearray):
        try:
            workflow = json.loads(workflow)
        except (ValueError, RecursionError) as error:
            raise WorkflowDefinitionError(f"the workflow is no JSON: {error}") from error
    if not isinstance(workflow, Mapping):
        kind = type(workflow).__name__
        raise WorkflowDefinitionError(f"a workflow is a JSON object with blocks, not a {kind}")
    try:
        text, plain = encode(dict(workflow))
    except NotPlainJson as error:
        raise WorkflowDefinitionError(f"{_place(workflow, error.pointer)}{error.why}") from error
    try:
        return WorkflowJson.model_validate(plain), plain, text
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        problems = dict.fromkeys(_problem(plain, one["loc"], one["msg"]) for one in found)
        raise WorkflowDefinitionError(*problems) from None  # its text has the values in it


def _problem(plain: Mapping[str, Any], loc: tuple[str | int, ...], message: str) -> str:
    path = [part for part in loc if part not in ("by_name", "in_order", "[key]")]
    words = message.removeprefix("Value error, ")
    return f"{_place(plain, pointer_of(path))}{words[:1].lower()}{words[1:]}"


def _place(plain: Mapping[str, Any], pointer: str) -> str:
    """Return how a line about the place *pointer* begins."""
    parts = pointer.split("/")
    blocks = plain.get("blocks")
    if len(parts) > 2 and parts[1] == "blocks" and isinstance(blocks, list):
        index = int(parts[2]) if parts[2].isdigit() else -1
        block = blocks[index] if 0 <= index < len(blocks) else None
        name = block.get("id") if isinstance(block, dict) else None
        shown = f"{name!r:.80}" if isinstance(name, str) and name else f"number {parts[2]}"
        return f"block {shown}, at {pointer}: "
    return f"at {pointer or '/'}: "
