"""How far a run has come, as it is stored after each node."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from pocketflow_async.infrastructure.checkpoints.codec import Decoder, Encoder, loads
from pocketflow_async.infrastructure.checkpoints.errors import CheckpointError
from pocketflow_async.infrastructure.checkpoints.reconciling import Intent

_FORMAT: Final = 1


def checkpoint_key(run_id: str) -> str:
    """Return the key under which the state of a run is stored."""
    return f"flow:{run_id}:checkpoint"


@dataclass(slots=True)
class SavedFrame:
    """Where the run is in one flow, the outermost first.

    Attributes:
        flow: Number of the flow.
        node: Number of the node that is next, or holds the next frame; None: all are done.
        visit: Number of the step in which that node was first visited.
        action: What the last node returned.
        prepared: What prep of the flow returned.
        params: What the nodes have changed in the params that they share.
    """

    flow: int = 0
    node: int | None = None
    visit: int = 0
    action: Any = None
    prepared: Any = None
    params: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Saved:
    """The state of a run.

    Attributes:
        step: Number of the step that is next, from 1.
        shared: What the nodes share.
        frames: The flows it is in, but for those that it is only about to enter.
        intent: What was about to be done when it was stored last.
    """

    step: int
    shared: Any
    frames: list[SavedFrame]
    intent: Intent | None = None

    def put(self, document: dict[str, Any], encoder: Encoder, name: Callable[[int], str]) -> None:
        """Put it into *document*; *name* returns the name of a node.

        Raises:
            CheckpointError: Something in it cannot be stored.
        """
        document["format"] = _FORMAT
        document["step"] = self.step
        encoder.put(self.shared, document, "shared", "shared")
        document["frames"] = rows = list[dict[str, Any]]()
        for frame in self.frames:
            flow = name(frame.flow)
            row: dict[str, Any] = {"flow": frame.flow, "node": frame.node, "visit": frame.visit}
            encoder.put(frame.action, row, "action", f"the last action in {flow}")
            encoder.put(frame.prepared, row, "prepared", f"what prep of {flow} returned")
            encoder.put(frame.params, row, "params", f"the params in {flow}")
            rows.append(row)


def read(
    stored: bytes, intent: bytes | None, into: dict[Any, Any] | None, deep: bool = True
) -> Saved:
    """Return the state that was stored.

    Args:
        stored: The document.
        intent: What was about to be done, as it is stored.
        into: A dict that becomes `shared`; None: a new one.
        deep: Whether the frames are wanted, too.

    Raises:
        CheckpointError: It cannot be read.
    """
    document = loads(stored, "the checkpoint")
    if document.get("format") != _FORMAT:
        raise CheckpointError(f"the checkpoint is of format {document.get('format')!r}")
    decoder = Decoder()
    shared = decoder.read(document["shared"], "shared", into)
    frames = [
        SavedFrame(
            row["flow"],
            row["node"],
            row["visit"],
            decoder.read(row["action"], "the last action"),
            decoder.read(row["prepared"], "what prep returned"),
            decoder.read(row["params"], "the params"),
        )
        for row in (document["frames"] if deep else ())
    ]
    planned = None if intent is None else Intent.loaded(intent)
    return Saved(document["step"], shared, frames, planned)
