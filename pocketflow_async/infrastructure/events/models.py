"""The events of runs as typed models, for those who want more than dicts.

Events travel as plain dicts; `parse_event` makes one of these of a dict, `to_dict` the dict again.
Unknown fields are kept, and an event of an unknown type is a plain `Event`: what is sent by a later
version can be read.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, PlainSerializer, TypeAdapter

from pocketflow_async.infrastructure.events.stamp import timestamp, uuid7

SCHEMA_VERSION: Final = 1


def _iso(moment: datetime) -> str:
    return timestamp(moment.timestamp())


Moment: TypeAlias = Annotated[AwareDatetime, PlainSerializer(_iso, return_type=str)]


class Event(BaseModel):
    """What every event says.

    Attributes:
        type: What has happened.
        execution_id: In which run; None: in none.
        workflow_id: Of which workflow.
        bot_id: For which bot.
        strategy_id: For which strategy.
        timestamp: When, with its zone.
        event_id: The event's own id.
        seq: Its number in the run, from 1, without gaps.
        schema_version: Which form it has.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    type: str
    execution_id: str | None = None
    workflow_id: str | None = None
    bot_id: str | None = None
    strategy_id: str | None = None
    timestamp: Moment = Field(default_factory=lambda: datetime.now(UTC))
    event_id: str = Field(default_factory=uuid7)
    seq: int | None = Field(default=None, ge=1)
    schema_version: int = SCHEMA_VERSION

    def to_dict(self) -> dict[str, Any]:
        """Return the event as it is published."""
        return self.model_dump()


class ExecutionStarted(Event):
    """A run has begun."""

    type: Literal["execution_started"] = "execution_started"
    node_count: int


class ExecutionResumed(Event):
    """A run goes on after its process had ended."""

    type: Literal["execution_resumed"] = "execution_resumed"


class ExecutionCompleted(Event):
    """A run has come to its end."""

    type: Literal["execution_completed"] = "execution_completed"
    status: str
    duration_ms: float


class ExecutionFailed(Event):
    """A run has ended with an error of its own."""

    type: Literal["execution_failed"] = "execution_failed"
    error: str
    error_type: str


class ExecutionHalted(Event):
    """A run was ended by the emergency control."""

    type: Literal["execution_halted"] = "execution_halted"
    reason: str | None = None


class ExecutionCancelled(Event):
    """A run was cancelled."""

    type: Literal["execution_cancelled"] = "execution_cancelled"
    reason: str | None = None


class NodeEvent(Event):
    """What every event of a node says as well."""

    node_id: str
    node_name: str | None = None
    node_category: str | None = None


class NodeStarted(NodeEvent):
    """A node has begun."""

    type: Literal["node_started"] = "node_started"


class NodeCompleted(NodeEvent):
    """A node is done."""

    type: Literal["node_completed"] = "node_completed"
    duration_ms: float
    outputs: Any = None
    status: str = "success"


class NodeFailed(NodeEvent):
    """A node has raised."""

    type: Literal["node_failed"] = "node_failed"
    error: str
    error_type: str


class NodeRetrying(NodeEvent):
    """An attempt of a node has failed, and there will be another."""

    type: Literal["node_retrying"] = "node_retrying"
    attempt: int
    error: str | None = None
    error_type: str | None = None


class NodeSkipped(NodeEvent):
    """A node does not run, since something that it needs is missing."""

    type: Literal["node_skipped"] = "node_skipped"
    reason: str


class EmergencyStateChanged(Event):
    """The emergency control has changed."""

    type: Literal["emergency_state_changed"] = "emergency_state_changed"
    controller_id: str
    previous_state: str
    new_state: str
    reason: str | None = None


_RUNS: TypeAlias = (
    ExecutionStarted
    | ExecutionResumed
    | ExecutionCompleted
    | ExecutionFailed
    | ExecutionHalted
    | ExecutionCancelled
)
_NODES: TypeAlias = NodeStarted | NodeCompleted | NodeFailed | NodeRetrying | NodeSkipped
Known: TypeAlias = Annotated[
    _RUNS | _NODES | EmergencyStateChanged,
    Field(discriminator="type"),
]
"""The events that there are models for."""

_known: Final[TypeAdapter[Event]] = TypeAdapter(Known)
_TYPES: Final = frozenset(
    str(model.model_fields["type"].default)
    for model in [*_RUNS.__args__, *_NODES.__args__, EmergencyStateChanged]
)


def parse_event(event: Mapping[str, Any]) -> Event:
    """Return the model of *event*.

    Raises:
        pydantic.ValidationError: It is none; says which field is wrong.
    """
    if event.get("type") in _TYPES:
        return _known.validate_python(dict(event))
    return Event.model_validate(dict(event))
