"""The seam: what the engine tells about its work, who may stop it, and who keeps it.

The engine describes each unit of work as a `Step`. *Observers* watch: whatever they raise is logged
and dropped, so a result never depends on being watched. *Gates* decide: what they raise stops the
step. A *keeper* stores how far a run has come, so that it can go on after a crash. All are held,
immutable, in one ContextVar, which tasks and threads started by asyncio inherit. When it is empty
the engine takes its plain path.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from inspect import isawaitable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from pocketflow_async.kept import Keeper

logger = logging.getLogger(__name__)

Kind: TypeAlias = Literal[
    "flow",
    "node",
    "prep",
    "exec",
    "post",
    "fallback",
    "item",
    "workflow",
    "suspended",
    "policy",
    "resource",
]


class Step:
    """One unit of engine work, handed to observers and gates.

    Attributes:
        kind: What it is. `flow`, `node` and `workflow` hold `prep`, `exec`, `fallback` and `post`;
            a batch holds `item` steps, which hold `exec` again. There is one `exec` per attempt.
            `policy` goes around a guarded call, and `resource` is one use of a shared resource;
            both may be anywhere.
        name: Name of the node, flow or policy; the reason for `suspended`; of a use of a resource
            what was done with it.
        source: The node or flow object at work (the visit's own copy), or None.
        input: `shared` for flows and prep, the prep result for exec and fallback, the exec result
            for post, the item or its params for `item`.
        attempt: 0-based number of the attempt, for exec.
        attempts: How many attempts the node may make in all, for exec and fallback.
        index: 0-based place in the batch, for `item`.
        result: What the step returned; set before the observer's context manager is left, and only
            when nothing was raised.
        wait: Seconds until the next attempt after this one failed; None if there is none.
        refusal: What a gate raised to stop this step.
        facts: What else is to be known of it, by name; set before it is entered. Those of
            `policy` and `resource` may grow until it is left.
        after: The steps whose results it uses; None: that is not known.
        skipped: Why nothing was done in it; None: it was at work.
        seen: What an observer keeps about a step that others may come after, by observer.
    """

    # Class attributes and not slots: a step is made four times a node, and most keep the defaults.
    attempt: int = 0
    attempts: int = 1
    index: int | None = None
    result: Any = None
    wait: float | None = None
    refusal: BaseException | None = None
    facts: Mapping[str, Any] | None = None
    after: tuple[Step, ...] | None = None
    skipped: str | None = None
    seen: dict[object, Any] | None = None
    _manager: AbstractContextManager[object] | None = None

    def __init__(
        self,
        kind: Kind,
        name: str,
        source: object = None,
        input: Any = None,
        hooks: Hooks | None = None,
    ) -> None:
        self.kind: Kind = kind
        self.name = name
        self.source = source
        self.input = input
        self._hooks = hooks

    def __repr__(self) -> str:
        """Name the step without its contents, which may be large or secret."""
        place = "" if self.index is None else f"[{self.index}]"
        return f"<Step {self.kind} {self.name}{place} attempt {self.attempt}>"

    # The engine enters its steps itself: `with Step(…, hooks) as step:` is what it does all around
    # the user's code, so there is no further object and no further call in between.

    def __enter__(self) -> Step:
        hooks = self._hooks
        if hooks is not None:
            observer = hooks.observers[0] if len(hooks.observers) == 1 else _All(hooks.observers)
            try:
                manager = observer(self)
                if manager is not None:
                    manager.__enter__()
                    self._manager = manager
            except KeyboardInterrupt:
                raise
            except BaseException:  # noqa: BLE001 (an observer must not decide)
                _dropped(observer, self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        manager = self._manager
        if manager is not None:
            self._manager = None  # steps that others come after live on; their notes need not
            try:
                manager.__exit__(kind, error, trace)
            except KeyboardInterrupt:
                raise
            except BaseException:  # noqa: BLE001 (an observer must not decide)
                _dropped(manager, self)


class _All:
    """Several observers as one, each on its own when it fails."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = observers
        self._entered: list[tuple[AbstractContextManager[object], Step]] = []

    def __call__(self, step: Step) -> _All:
        for observer in self._observers:
            try:
                manager = observer(step)
                if manager is not None:
                    manager.__enter__()
                    self._entered.append((manager, step))
            except KeyboardInterrupt:
                self.__exit__(None, None, None)
                raise
            except BaseException:  # noqa: BLE001 (an observer must not decide)
                _dropped(observer, step)
        return self

    def __enter__(self) -> None:
        """All are entered already."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for manager, step in reversed(self._entered):
            try:
                manager.__exit__(kind, error, trace)
            except KeyboardInterrupt:
                raise
            except BaseException:  # noqa: BLE001 (an observer must not decide)
                _dropped(manager, step)


def _dropped(culprit: object, step: Step) -> None:
    logger.exception("the observer %r failed at %r; the run goes on without it", culprit, step)


Observer: TypeAlias = Callable[[Step], AbstractContextManager[object] | None]
"""Called as a step begins; the context manager is entered in the step's own task, so what it sets
in a ContextVar is seen by the user's code inside. None: not interested."""

Gate: TypeAlias = Callable[[Step], Awaitable[None] | None]
"""Called before each flow, node and attempt; raises to stop it. Under `run_async` it may be a
coroutine function: of synchronous nodes it is then asked about the visit only, and in a plain Flow
inside an AsyncFlow it must be plain."""


class Hooks(NamedTuple):
    """The observers and gates of a context, and who keeps its run."""

    observers: tuple[Observer, ...] = ()
    gates: tuple[Gate, ...] = ()
    keeper: Keeper | None = None

    def __bool__(self) -> bool:
        """Return whether anybody watches, guards or keeps."""
        return bool(self.observers or self.gates or self.keeper is not None)


NOBODY = Hooks()
"""What stands for None where both are asked in turn."""

_hooks: ContextVar[Hooks | None] = ContextVar("pocketflow_hooks", default=None)

active = _hooks.get
"""Return the hooks of the current context, or None when there are none (the plain path)."""


@contextmanager
def observing(observer: Observer) -> Generator[None, None, None]:
    """Watch every step started in this context, child tasks and nested flows included.

    An observer that is already active is not added again.
    """
    now = active() or NOBODY
    known = observer in now.observers
    token = _hooks.set(now if known else now._replace(observers=(*now.observers, observer)))
    try:
        yield
    finally:
        _hooks.reset(token)


@contextmanager
def observing_instead(old: Observer, new: Observer | None) -> Generator[None, None, None]:
    """Let *new* watch in place of *old* for a block; None: nobody does."""
    now = active() or NOBODY
    others = tuple(observer for observer in now.observers if observer is not old)
    changed = now._replace(observers=others if new is None else (*others, new))
    token = _hooks.set(changed or None)
    try:
        yield
    finally:
        _hooks.reset(token)


@contextmanager
def guarding(gate: Gate) -> Generator[None, None, None]:
    """Let *gate* decide about every flow, node and attempt started in this context.

    What the gate raises leaves the run as the step's own error would; an attempt that was refused
    is not tried again and has no fallback.
    """
    now = active() or NOBODY
    token = _hooks.set(now._replace(gates=(*now.gates, gate)))
    try:
        yield
    finally:
        _hooks.reset(token)


@contextmanager
def keeping(keeper: Keeper) -> Generator[None, None, None]:
    """Let *keeper* keep the run that begins in this block; it is for one run, and for its task."""
    token = _hooks.set((active() or NOBODY)._replace(keeper=keeper))
    try:
        yield
    finally:
        _hooks.reset(token)


def admit(step: Step, hooks: Hooks | None) -> None:
    """Ask every gate about *step*, in synchronous code.

    Raises:
        TypeError: A gate answered with an awaitable; such gates need `run_async`.
        BaseException: Whatever a gate raises.
    """
    if hooks is None:
        return
    for gate in hooks.gates:
        try:
            answer = gate(step)
        except BaseException as error:
            step.refusal = error
            raise
        if answer is not None:
            refusal = _answered(gate, answer)
            if step.kind == "exec" and isawaitable(answer):
                continue  # its visit has been admitted; synchronous code cannot ask again
            step.refusal = refusal
            raise refusal


async def admit_async(step: Step, hooks: Hooks | None) -> None:
    """Ask every gate about *step*, awaiting those that answer with an awaitable.

    Raises:
        BaseException: Whatever a gate raises.
    """
    if hooks is None:
        return
    for gate in hooks.gates:
        try:
            answer = gate(step)
            if answer is not None:
                if not isawaitable(answer):
                    raise _answered(gate, answer)
                await answer
        except BaseException as error:
            step.refusal = error
            raise


def _answered(gate: Gate, answer: object) -> TypeError:
    """Return the error about a gate that answers what cannot be used."""
    if not isawaitable(answer):
        return TypeError(
            f"the gate {gate!r} returned {answer!r}: a gate stops a step by raising, and returns "
            "nothing to let it pass"
        )
    close = getattr(answer, "close", None)
    if close is not None:
        close()  # it will never be awaited
    or_else = getattr(gate, "or_else", "")
    return TypeError(f"the gate {gate!r} is asynchronous: use run_async{or_else}")


class suspended:
    """Say that the node waits on purpose: `async with suspended("waiting for approval"):`.

    The one way into the state SUSPENDED. Works with `with` too. Observers see a step of kind
    `suspended` that lasts as long as the block; without observers it costs nothing.

    Args:
        reason: What is waited for; shown in the trace.
    """

    __slots__ = ("_open", "_reason")

    def __init__(self, reason: str) -> None:
        self._reason = reason
        self._open: list[Step] = []  # it may be entered more than once

    def __enter__(self) -> None:
        self._open.append(Step("suspended", self._reason, None, self._reason, active()))
        self._open[-1].__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.pop().__exit__(kind, error, trace)

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, trace)
