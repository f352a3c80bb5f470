"""What keeps one run: the flows it is in, the node at work, and what is stored after each."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from pocketflow_async.infrastructure.checkpoints.codec import Encoder, dumps, encode
from pocketflow_async.infrastructure.checkpoints.current import CurrentRun
from pocketflow_async.infrastructure.checkpoints.ending import status_of, text_of
from pocketflow_async.infrastructure.checkpoints.errors import CheckpointError
from pocketflow_async.infrastructure.checkpoints.frames import Frame
from pocketflow_async.infrastructure.checkpoints.lease import Lease
from pocketflow_async.infrastructure.checkpoints.questions import (
    Answer,
    Question,
    answer_of,
    asdict_of,
    asked_key,
)
from pocketflow_async.infrastructure.checkpoints.reconciling import Intent
from pocketflow_async.infrastructure.checkpoints.saved import Saved, SavedFrame, checkpoint_key
from pocketflow_async.infrastructure.owners import this_process
from pocketflow_async.infrastructure.store.model import RUNNING, Entry, RunRow, Store


class Graph(Protocol):
    """The graph of a flow: `places.Places`."""

    definition: str
    digest: str

    def node(self, number: int) -> Any:
        """Return a node by its number."""

    def number(self, node: Any) -> int | None:
        """Return the number of a node; None: it is no part of the graph."""

    def name(self, number: int) -> str:
        """Return the name of a node."""


class Keeper:
    """Keeps one run of a flow in a store. For one run, in one task.

    Args:
        graph: The flow's.
        store: Where it is kept.
        run_id: Its id.
        lease: Seconds for which the run is this process's own when it says nothing more.
        shared: What the nodes share.
        saved: How far the run has come; None: it is a new one.
        claimed: The run as it was claimed; None: it is a new one.
    """

    def __init__(
        self,
        graph: Graph,
        store: Store,
        run_id: str,
        lease: float,
        shared: Any,
        saved: Saved | None = None,
        claimed: RunRow | None = None,
    ) -> None:
        self.graph = graph
        self.store = store
        self.run_id = run_id
        self.step = 1 if saved is None else saved.step
        self.lease_seconds = lease
        self.owner = this_process()
        self.intent: Intent | None = None if saved is None else saved.intent
        self.done: CurrentRun | None = None
        self.left_at: CurrentRun | None = None
        self.shared = shared
        self._left: list[SavedFrame] = [] if saved is None else list(saved.frames)
        self._claimed = claimed
        self._fence = 0 if claimed is None else claimed.fence
        self._places = 0 if claimed is None else claimed.places
        self._frames: list[Frame] = []
        self._expected: tuple[Any, int] | None = None
        self._answered: dict[str, tuple[Question, Answer]] = {}
        self._asked: list[Question] = []
        self._said: set[str] = set()
        self._writing = asyncio.Lock()
        self._lease: Lease | None = None

    # --- where the run is -------------------------------------------------------------------------

    @property
    def goes_deeper(self) -> bool:
        """Return whether the run is on its way to the flow in which it goes on."""
        return bool(self._left)

    @property
    def lease(self) -> Lease:
        """Return what keeps the run this process's own; the run must have begun."""
        if self._lease is None:
            self._lease = Lease(
                self.store, self.run_id, self.owner, self._fence, self.lease_seconds
            )
        return self._lease

    @property
    def root(self) -> CurrentRun:
        """Return the run as the flow's own prep and post see it."""
        return CurrentRun(self.run_id, self.graph.name(0), f"{self.run_id}:0.0", self)

    @property
    def facts(self) -> dict[str, Any]:
        """Return what those who watch are to know of the run."""
        resumed = {} if self._claimed is None else {"flow.resumed": self._claimed.fence - 1}
        return {"flow.run_id": self.run_id, **resumed}

    def expect(self, flow: Any, number: int) -> None:
        """Let *flow* be the one that `enter` is about, whose number is *number*."""
        self._expected = (flow, number)

    def enter(self, flow: Any) -> Frame | None:
        """Return where the run is in *flow*; None: it is none of those that are kept.

        A flow that a node runs itself, or a branch or round does, belongs to that node.
        """
        if self._expected is None or self._expected[0] is not flow:
            return None
        number = self._expected[1]
        self._expected = None
        saved = self._left.pop(0) if self._left else None
        frame = Frame(self, len(self._frames), saved)
        frame.saved.flow = number
        self._frames.append(frame)
        return frame

    def number_of(self, node: Any, flow: str) -> int:
        """Return the number of a node.

        Raises:
            CheckpointError: It was no part of the graph when the run began.
        """
        number = self.graph.number(node)
        if number is None:
            raise CheckpointError(
                f"flow {flow} goes on at {node!r:.80}, which was not connected when the run began: "
                "a durable run needs a graph that stays as it is"
            )
        return number

    # --- what is stored ---------------------------------------------------------------------------

    async def begin(self, trace: str | None) -> None:
        """Store that the run has begun, or goes on.

        Raises:
            RunExists: There is a run of that id.
            CheckpointError: What the nodes share cannot be stored.
        """
        if self._claimed is not None:
            name = self.graph.name(0)
            await self.append(
                [Entry(self.run_id, 0, name, "started", attempt=self._fence)],
                status=RUNNING,
                error="",
            )
            return
        row = RunRow(
            self.run_id,
            "flow",
            self.graph.name(0),
            self.graph.digest,
            definition=self.graph.definition,
            inputs=encode(self.shared, "shared").decode(),
            owner=self.owner,
            trace=trace,
        )
        state = {checkpoint_key(self.run_id): self._document()}
        kept = await self.store.create_run(row, lease=self.lease_seconds, state=state)
        self._fence = kept.fence

    async def checkpoint(self, depth: int, action: Any) -> None:
        """Store that the node at work is done, in the flow that is *depth* flows deep."""
        del self._frames[depth + 1 :]
        run = self.done or self.root
        self.step += 1
        self._asked = []
        state, said = self._stored(run.node, action, f"the action of {run.node}")
        entry = Entry(self.run_id, 0, run.node, "completed", key=run.idempotency_key, output=said)
        await self.append([*self._answers(), entry], state=state)

    async def finish(self, result: Any) -> None:
        """Store what the run has come to, and give it back."""
        name = self.graph.name(0)
        state, said = self._stored(f"post of {name}", result, "what the flow returned")
        await self.append(
            [*self._answers(), Entry(self.run_id, 0, name, "completed")],
            state=state,
            status="completed",
            result=said.decode(),
            error="",
            release=True,
        )

    async def ended(self, error: BaseException) -> None:
        """Store why the run ends here, and give it back, unless it is another's by now."""
        row = await self.store.run(self.run_id)
        if row is None or (row.owner, row.fence) != (self.owner, self._fence):
            return
        # What was written last may have been called off, done or not.
        self._places = row.places
        status = status_of(error)
        run = self.left_at or self.root
        phase = "suspended" if status == "suspended" else "failed"
        entry = Entry(
            self.run_id, 0, run.node, phase, key=run.idempotency_key, error=text_of(error)
        )
        await self.append(
            [*self._answers(), entry],
            state=self._questions(),
            status=status,
            error=text_of(error),
            release=True,
        )

    async def append(
        self,
        entries: Sequence[Entry],
        *,
        state: Mapping[str, bytes] | None = None,
        status: str | None = None,
        result: str | None = None,
        error: str | None = None,
        release: bool = False,
    ) -> None:
        """Add to the run, the lines of the journal numbered; one at a time.

        Raises:
            LeaseLost: Another process has the run by now.
        """
        async with self._writing:  # branches of a fan-out may ask at once
            placed = [
                replace(entry, place=place) for place, entry in enumerate(entries, self._places + 1)
            ]
            await self.store.append(
                self.run_id,
                self.owner,
                self._fence,
                entries=placed,
                state=state,
                status=status,
                result=result,
                error=error,
                release=release,
            )
            self._places += len(placed)

    def _stored(self, after: str, value: Any, what: str) -> tuple[dict[str, bytes], bytes]:
        """Return the state as it is stored after a node, and *value*, which is *what*."""
        try:
            return {checkpoint_key(self.run_id): self._document()}, encode(value, what)
        except CheckpointError as error:
            raise CheckpointError(f"after {after}: {error}") from error.__cause__

    def _document(self) -> bytes:
        document: dict[str, Any] = {}
        saved = Saved(self.step, self.shared, [frame.to_save() for frame in self._frames])
        saved.put(document, Encoder(), self.graph.name)
        return dumps(document)

    def share(self, more: Mapping[str, Any]) -> None:
        """Write to what the nodes share."""
        self.shared.update(more)

    # --- questions --------------------------------------------------------------------------------

    async def answer_to(self, question: Question) -> Answer | None:
        """Return the answer to a question; None: there is none yet."""
        answer = await answer_of(question, self.store)
        if answer is not None and question.question_id not in self._said:
            self._answered[question.question_id] = (question, answer)
        return answer

    def open(self, question: Question) -> None:
        """Note that the run waits for an answer to *question*."""
        if all(one.question_id != question.question_id for one in self._asked):
            self._asked.append(question)

    @property
    def asks_several(self) -> bool:
        """Return whether the run waits for more than one answer."""
        return len(self._asked) > 1

    async def wait_for(self, question: Question) -> None:
        """Store that the run, which stays this process's own, waits for an answer."""
        self.open(question)
        entry = Entry(self.run_id, 0, question.node, "suspended", error=question.text)
        await self.append([entry], state=self._questions(), status="suspended", error=question.text)

    async def go_on(self, question: Question) -> None:
        """Store that the run waits no longer for an answer to *question*."""
        self._asked = [one for one in self._asked if one.question_id != question.question_id]
        waits = self._asked[-1].text if self._asked else ""
        await self.append(
            self._answers(),
            state=self._questions(),
            status="suspended" if waits else RUNNING,
            error=waits,
        )

    def _questions(self) -> dict[str, bytes]:
        stored = [asdict_of(question) for question in self._asked]
        return {asked_key(self.run_id): encode(stored, "the questions")}

    def _answers(self) -> list[Entry]:
        """Return the lines about answers that the journal does not have yet."""
        entries = [
            Entry(
                self.run_id,
                0,
                question.node,
                "answered",
                key=question.question_id,
                output=encode({"question": question.text, **asdict_of(answer)}, "the answer"),
            )
            for question, answer in self._answered.values()
        ]
        self._said.update(self._answered)
        self._answered = {}
        return entries
