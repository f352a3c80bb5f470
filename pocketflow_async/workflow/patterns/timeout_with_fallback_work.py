"""Work that has only so long, and the work that stands in for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Final

from pocketflow_async.resilience.errors import CallTimeoutError
from pocketflow_async.resilience.timeout import Timeout
from pocketflow_async.workflow.patterns.retried_work import (
    inputs_of,
    outputs_of,
    run_work,
    with_facts,
)
from pocketflow_async.workflow.spec import Context, Port, Ports, Work

PRIMARY_RESULT: Final = "primary_result"
"""Input of the fallback: all that the primary has yielded."""

SOURCE: Final = "_source"
"""Key that says where a value comes from."""

_VALUE: Final = "value"
_OF_PRIMARY: Final = (
    SOURCE, _VALUE, "_timeout", "_timeout_seconds", "_error", "_error_message", "_error_type",
)  # fmt: skip
_OF_FALLBACK: Final = (SOURCE, _VALUE, "_primary_timeout", "_primary_error")

logger = logging.getLogger("pocketflow_async.workflow")


class PrimaryWork:
    """Does what *work* does if that does not take too long; never fails.

    Args:
        work: What is tried.
        seconds: What it has.
        node_id: Whose it is, for traces.
    """

    is_async: Final = True

    def __init__(self, work: Work, seconds: float, node_id: str) -> None:
        self.work = work
        self.timeout = Timeout(seconds, name=node_id)

    def __repr__(self) -> str:
        return f"<PrimaryWork {self.work!r}, {self.timeout!r}>"

    @property
    def inputs(self) -> Ports:
        """The inputs of what is tried."""
        return inputs_of(self.work)

    @property
    def outputs(self) -> Ports:
        """The outputs of what is tried, if it yields a dict, and what is added."""
        return outputs_of(self.work, _OF_PRIMARY)

    async def run(self, inputs: Mapping[str, Any], context: Context) -> dict[str, Any]:
        """Try it.

        Returns:
            What it yields, with `_source`; or what became of it.
        """

        async def attempt() -> dict[str, Any]:
            # Errors end here, inside the limit: one that comes out of it is the limit's own.
            told = _times_told()
            try:
                value = await run_work(self.work, inputs, context, None)
            except asyncio.CancelledError as error:
                if _times_told() > told:
                    raise
                return _failed(error, context)  # something within it was cancelled
            except (Exception, SystemExit) as error:  # noqa: BLE001 (the fallback's business)
                return _failed(error, context)
            return _from("primary", value)

        try:
            return await self.timeout.acall(attempt)
        except CallTimeoutError:
            seconds = self.timeout.seconds
            logger.warning("node %r took longer than %g s", context.node_id, seconds)
            return {"_timeout": True, SOURCE: "timeout", "_timeout_seconds": seconds}


class FallbackWork:
    """Hands on what a primary has yielded; does what *work* does if that was late or has failed.

    Args:
        work: What stands in.
        primary: What it stands in for.
        timeout: Seconds that it may take; None: no limit.
    """

    is_async: Final = True

    def __init__(self, work: Work, primary: PrimaryWork, timeout: float | None = None) -> None:
        self.work = work
        self.primary = primary
        self.timeout = timeout

    def __repr__(self) -> str:
        return f"<FallbackWork {self.work!r}>"

    @property
    def inputs(self) -> Ports:
        """The inputs of what stands in, and what the primary has yielded."""
        own = inputs_of(self.work)
        return Ports({**own.known, PRIMARY_RESULT: Port(PRIMARY_RESULT)}, open=own.open)

    @property
    def outputs(self) -> Ports:
        """The outputs of both, and what is added."""
        one, other = outputs_of(self.primary.work, _OF_FALLBACK), outputs_of(self.work, ())
        return Ports({**one.known, **other.known}, open=one.open or other.open)

    async def run(self, inputs: Mapping[str, Any], context: Context) -> Any:
        """Hand on, or stand in.

        Raises:
            ExecutionTimeoutError: It took too long itself.
            Exception: It failed too; a note says what became of the primary.
        """
        primary = inputs[PRIMARY_RESULT]
        facts = _what_became_of(primary)
        if facts is None:
            return dict(primary) if isinstance(primary, Mapping) else primary
        try:
            value = await run_work(self.work, inputs, context, self.timeout)
        except Exception as error:
            error.add_note(f"it stood in: {_told(primary)}")
            raise
        return with_facts(_from("fallback", value), facts)


def _from(source: str, value: Any) -> dict[str, Any]:
    """Return *value* as a dict that says where it comes from."""
    own = value if isinstance(value, Mapping) else {_VALUE: value}
    return with_facts(own, {SOURCE: source})


def _failed(error: BaseException, context: Context) -> dict[str, Any]:
    name = type(error).__name__
    logger.warning("node %r failed: %s", context.node_id, name, exc_info=error)
    text = str(error) or name
    return {"_error": True, SOURCE: "error", "_error_message": text, "_error_type": name}


def _what_became_of(primary: Any) -> dict[str, Any] | None:
    """Return what is to be said of a primary that was late or failed; None: it did not."""
    if not isinstance(primary, Mapping):
        return None
    source = primary.get(SOURCE)
    if source == "timeout" and primary.get("_timeout") is True:
        return {"_primary_timeout": True, "_primary_error": None}
    if source == "error" and primary.get("_error") is True:
        return {"_primary_timeout": False, "_primary_error": primary.get("_error_message")}
    return None


def _told(primary: Mapping[str, Any]) -> str:
    if "_timeout" in primary:
        return f"the primary took longer than {primary.get('_timeout_seconds')} s"
    return f"the primary failed, {primary.get('_error_type')}: {primary.get('_error_message')}"


def _times_told() -> int:
    """Return how many times the task at work has been told to stop."""
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()
