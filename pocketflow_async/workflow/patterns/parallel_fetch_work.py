"""Several pieces of work at once, each with a limit of its own, as the work of one node."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Final

from pocketflow_async.hooks import Step, active
from pocketflow_async.resilience.timeout import Timeout
from pocketflow_async.scatter import scatter
from pocketflow_async.workflow.patterns.retried_work import inputs_of, run_work
from pocketflow_async.workflow.spec import Context, Port, Ports, Work

_OUTPUTS: Final = {"successful": dict, "failed": dict, "statistics": dict}


class ParallelFetchWork:
    """Does several pieces of work at once; nothing of a run is kept.

    Args:
        works: What is done, by key.
        timeout: Seconds that each may take; None: no limit.
        continue_on_error: Whether to go on when one has failed.
    """

    is_async: Final = True

    def __init__(
        self, works: Mapping[str, Work], timeout: float | None, continue_on_error: bool
    ) -> None:
        self.works = works
        self.timeout = timeout
        self.continue_on_error = continue_on_error
        self._limits = {
            key: None if timeout is None else Timeout(timeout, name=f"operation {key!r}")
            for key in works
        }

    def __repr__(self) -> str:
        return f"<ParallelFetchWork {', '.join(map(repr, self.works)):.80}>"

    @property
    def inputs(self) -> Ports:
        """The inputs of all of them."""
        return _together(inputs_of(work) for work in self.works.values())

    @property
    def outputs(self) -> Ports:
        """What they have come to, by key."""
        return Ports({name: Port(name, kind) for name, kind in _OUTPUTS.items()}, open=False)

    async def run(self, inputs: Mapping[str, Any], context: Context) -> dict[str, Any]:
        """Do all of it.

        Returns:
            What each has come to, the errors of those that failed, and how many there are.

        Raises:
            RuntimeError: One has failed, and the rest was cancelled; its cause is the first error.
        """
        job = _Job(self, inputs, context)
        try:
            values = await scatter(job.one, self.works)
        except _Stop:
            raise job.failure() from job.first
        failed = job.in_order()
        total = len(self.works)
        return {
            "successful": {
                key: value
                for key, value in zip(self.works, values, strict=True)
                if key not in failed
            },
            "failed": failed,
            "statistics": {
                "total_operations": total,
                "successful_count": total - len(failed),
                "failed_count": len(failed),
                "success_rate": (total - len(failed)) / total,
            },
        }

    async def limited(self, key: str, inputs: Mapping[str, Any], context: Context) -> Any:
        """Do one piece within its time.

        Raises:
            CallTimeoutError: It took too long.
        """
        call = partial(run_work, self.works[key], dict(inputs), context, None)
        limit = self._limits[key]
        return await (call() if limit is None else limit.acall(call))


class _Stop(Exception):
    """One has failed, and the others are not to go on."""


class _Job:
    """What has failed so far in one run."""

    def __init__(
        self, work: ParallelFetchWork, inputs: Mapping[str, Any], context: Context
    ) -> None:
        self.first: BaseException | None = None
        self._failed: dict[str, str] = {}
        self._work = work
        self._inputs = inputs
        self._context = context
        self._hooks = active()

    async def one(self, _: int, key: str) -> Any:
        """Do one piece, in its own task; return what it has come to, or None if it has failed."""
        try:
            if self._hooks is None:
                return await self._work.limited(key, self._inputs, self._context)
            with Step("item", key, None, None, self._hooks) as step:
                step.result = value = await self._work.limited(key, self._inputs, self._context)
            return value
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            failure: BaseException = error  # something within it was cancelled
        except (Exception, SystemExit) as error:  # noqa: BLE001 (an entry, or the node's end)
            failure = error
        self.first = self.first or failure
        text, name = str(failure), type(failure).__name__
        self._failed[key] = f"{name}: {text}" if text else name
        if self._work.continue_on_error:
            return None
        raise _Stop

    def in_order(self) -> dict[str, str]:
        """Return the errors in the order of the keys."""
        return {key: self._failed[key] for key in self._work.works if key in self._failed}

    def failure(self) -> RuntimeError:
        """Return the error about what has failed."""
        failed = RuntimeError(f"{len(self._failed)} operations failed: {self.in_order()}")
        # With the traceback, so that the run's errors name the line of the user's code.
        return failed if self.first is None else failed.with_traceback(self.first.__traceback__)


def _together(every: Iterable[Ports]) -> Ports:
    """Return the inputs of several as those of one; where types differ, none is known."""
    known: dict[str, Port] = {}
    is_open = False
    for ports in every:
        is_open = is_open or ports.open
        for name, port in ports.known.items():
            other = known.get(name, port)
            annotation = port.annotation if port.annotation == other.annotation else None
            known[name] = Port(name, annotation, port.required or other.required)
    return Ports(known, open=is_open)
