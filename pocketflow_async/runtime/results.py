"""What a run gives back: results, errors, and how long everything took."""

from __future__ import annotations

import functools
import os
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pocketflow_async.workflow.errors import WorkflowError

_CODE = "<node "  # how the file names of code strings begin


class ExecutionMetrics(dict[str, Any]):
    """How a run went, by attribute or by key: `metrics.node_durations`, `metrics["…"]`.

    Attributes:
        total_duration: Seconds from its start to its end.
        node_durations: Seconds each node that ran has taken, retries included, waiting for a slot
            not.
        waiting_times: Seconds each of them has waited for a slot.
        concurrent_executions: Most of its nodes that were at work at a time.
        resource_access_count: How often each resource was asked for.
        resource_wait_seconds: Seconds that nodes have waited for each: until it was made or found
            to be well, and for its connections.
        error_count: How many nodes failed.
        retry_count: How many attempts were made after a first one had failed.
    """

    total_duration: float
    node_durations: dict[str, float]
    waiting_times: dict[str, float]
    concurrent_executions: int
    resource_access_count: dict[str, int]
    resource_wait_seconds: dict[str, float]
    error_count: int
    retry_count: int

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"ExecutionMetrics has no figure {name!r}") from None


class RunResult(dict[str, Any]):
    """What `execute_workflow_async` returns.

    Its keys: `results` (what each node has yielded, by id), `errors` (the error of each node that
    failed, in words), `skipped` (why each node did not run that was not run), `status` ("success",
    or "failed" if a node failed), `total_duration` (seconds), `workflow_id` (unique id of the
    run), `execution_times` (seconds by node) and, unless profiling is off, `metrics`.

    Attributes:
        exceptions: The errors themselves, by node.
        handled: Errors that a node's error handler has dealt with, by node.
    """

    def __init__(
        self,
        *args: Any,
        exceptions: Mapping[str, BaseException] | None = None,
        handled: Mapping[str, BaseException] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(*args, **more)
        self.exceptions: dict[str, BaseException] = dict(exceptions or {})
        self.handled: dict[str, BaseException] = dict(handled or {})

    @property
    def run_id(self) -> str:
        """Unique id of the run."""
        return str(self["workflow_id"])

    @property
    def is_success(self) -> bool:
        """Whether no node failed."""
        return not self["errors"]


def in_words(error: BaseException, *, with_file: bool = False) -> str:
    """Return *error* as its type, its message and the line of the node's code that it came from.

    Args:
        error: What was raised.
        with_file: Whether to name file and line also where that is no code string.
    """
    name = type(error).__name__
    try:
        message = str(error)
    except Exception as broken:  # noqa: BLE001 (an exception that cannot be shown is still one)
        message = f"<str() raised {type(broken).__name__}>"
    text = f"{name}: {message}" if message else name
    for note in getattr(error, "__notes__", ()) if isinstance(error, NameError) else ():
        if note.startswith("node "):  # what the node got instead, see `Compiled`
            text = f"{text}; {note}: connect it, or register a resource of that name"
    place = _place(error, with_file)
    return f"{text} ({place})" if place else text


def _place(error: BaseException, with_file: bool) -> str:
    """Return file and line of the innermost frame in a code string, or else in the user's files.

    Empty where there is none: Python's own files, packages installed and ours do not count.
    """
    code = own = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        file = frame.f_code.co_filename
        if file.startswith(_CODE):
            code = f"{file}, line {line}"
        elif not file.startswith(("<", *_not_own())):
            own = f"{file}, line {line}"
    if code or not with_file or isinstance(error, WorkflowError):  # the last says where itself
        return code
    return own


@functools.cache
def _not_own() -> tuple[str, ...]:
    import sysconfig  # noqa: PLC0415 (only where something fails)

    ours = str(Path(__file__).parent.parent)
    paths = sysconfig.get_paths()
    return tuple(
        {ours + os.sep, *(paths[name] + os.sep for name in ("stdlib", "purelib", "platlib"))}
    )
