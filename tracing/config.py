"""Settings of tracing: from arguments, or from the environment."""

from __future__ import annotations

import logging
import os
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

from tracing.checking import DETAILS, check, parse

logger = logging.getLogger(__name__)

VARIABLES = {
    "langfuse_secret_key": "LANGFUSE_SECRET_KEY",
    "langfuse_public_key": "LANGFUSE_PUBLIC_KEY",
    "langfuse_host": "LANGFUSE_HOST",
    "debug": "POCKETFLOW_TRACING_DEBUG",
    "trace_inputs": "POCKETFLOW_TRACE_INPUTS",
    "trace_outputs": "POCKETFLOW_TRACE_OUTPUTS",
    "trace_prep": "POCKETFLOW_TRACE_PREP",
    "trace_exec": "POCKETFLOW_TRACE_EXEC",
    "trace_post": "POCKETFLOW_TRACE_POST",
    "trace_errors": "POCKETFLOW_TRACE_ERRORS",
    "session_id": "POCKETFLOW_SESSION_ID",
    "user_id": "POCKETFLOW_USER_ID",
    "store": "POCKETFLOW_TRACE_STORE",
    "value_limit": "POCKETFLOW_TRACE_VALUE_LIMIT",
    "redact": "POCKETFLOW_TRACE_REDACT",
    "redact_keys": "POCKETFLOW_TRACE_REDACT_KEYS",
    "trace_async_lifecycle": "POCKETFLOW_TRACE_ASYNC_LIFECYCLE",
    "trace_async_context": "POCKETFLOW_TRACE_ASYNC_CONTEXT",
    "trace_concurrent_flows": "POCKETFLOW_TRACE_CONCURRENT_FLOWS",
    "async_error_recovery": "POCKETFLOW_ASYNC_ERROR_RECOVERY",
    "performance_monitoring": "POCKETFLOW_PERFORMANCE_MONITORING",
    "slow_node_seconds": "POCKETFLOW_SLOW_NODE_SECONDS",
    "block_threshold_seconds": "POCKETFLOW_BLOCK_THRESHOLD_SECONDS",
    "sample_rate": "POCKETFLOW_TRACE_SAMPLE_RATE",
    "exporters": "POCKETFLOW_TRACE_EXPORTERS",
    "detail": "POCKETFLOW_TRACE_DETAIL",
}
"""The environment variable of each field."""

_SECRETS = frozenset(("langfuse_secret_key", "langfuse_public_key"))


@dataclass
class TracingConfig:
    """How runs are traced.

    Attributes:
        langfuse_secret_key: Secret key of a Langfuse project.
        langfuse_public_key: Public key of the project.
        langfuse_host: Base URL of the Langfuse server.
        debug: Whether tracing logs what it does.
        trace_inputs: Whether contents going in are recorded.
        trace_outputs: Whether contents coming out are recorded.
        trace_prep: Whether prep is a span of its own where traces are sent to. The local store
            always has it.
        trace_exec: The same for the attempts of exec.
        trace_post: The same for post.
        trace_errors: Whether errors are recorded with their message and lines, or as type only.
        session_id: Session that the traces belong to.
        user_id: User that the traces belong to.
        store: Where traces are kept: path of a SQLite file, "memory", or "off". Default: the
            environment's POCKETFLOW_TRACE_STORE, else a file in the user's data folder.
        value_limit: Largest size of one recorded content, in bytes of JSON; longer ones are cut.
        redact: Whether values under secret-looking keys are replaced before anything is written.
        redact_keys: More keys whose values are replaced.
        trace_async_lifecycle: Whether the states of recent node runs are kept in memory, for
            `AsyncLifecycleManager`.
        trace_async_context: Whether spans say in which asyncio task they ran, where that is not
            the task of the span around them.
        trace_concurrent_flows: Whether a run notes how many runs of its flow were under way when
            it began.
        async_error_recovery: Whether recovery strategies are run.
        performance_monitoring: Whether slow nodes and a blocked event loop are reported.
        slow_node_seconds: How long a node may run before it counts as slow, in seconds.
        block_threshold_seconds: How long the event loop may stand still, in seconds.
        sample_rate: The share of traces that are recorded, 0.0 to 1.0. Whole traces: what runs
            inside a trace that is left out is left out with it.
        exporters: Names of where traces are sent to.
        detail: "phases" or "nodes": whether prep, exec and post are spans where traces are sent
            to, or the node alone is one. The local store always has the phases.

    Raises:
        ValueError: A field has a value that cannot be; the message names it and its variable.
        TypeError: A field has a value of a wrong type; likewise.
    """

    langfuse_secret_key: str | None = None
    langfuse_public_key: str | None = None
    langfuse_host: str | None = None
    debug: bool = False
    trace_inputs: bool = True
    trace_outputs: bool = True
    trace_prep: bool = True
    trace_exec: bool = True
    trace_post: bool = True
    trace_errors: bool = True
    session_id: str | None = None
    user_id: str | None = None
    store: str | Path | None = None
    value_limit: int = 32_768
    redact: bool = True
    redact_keys: tuple[str, ...] = ()
    _: KW_ONLY
    trace_async_lifecycle: bool = True
    trace_async_context: bool = False
    trace_concurrent_flows: bool = True
    async_error_recovery: bool = True
    performance_monitoring: bool = False
    slow_node_seconds: float = 1.0
    block_threshold_seconds: float = 0.1
    sample_rate: float = 1.0
    exporters: tuple[str, ...] = ()
    detail: DETAILS = "phases"

    def __post_init__(self) -> None:
        for name in VARIABLES:
            setattr(self, name, check(name, VARIABLES[name], getattr(self, name), _default(name)))

    def __repr__(self) -> str:
        """Name what differs from the defaults; keys are not shown."""
        changed = {
            name: "***" if name in _SECRETS else getattr(self, name)
            for name in VARIABLES
            if getattr(self, name) != _default(name)
        }
        return f"TracingConfig({', '.join(f'{name}={value!r}' for name, value in changed.items())})"

    @classmethod
    def from_env(cls, env_file: str | Path | None = None) -> TracingConfig:
        """Build the settings from environment variables.

        Args:
            env_file: A `.env` file to read first; when left out, the `.env` of the working
                directory, or of the nearest folder above it that has one. Variables that are set
                already win. What the file sets stays in `os.environ`, as python-dotenv has it.

        Raises:
            ValueError: A variable has a value that cannot be; the message names it.
        """
        if env_file is None:
            _load_nearest()
        else:
            _load(env_file)
        given: dict[str, Any] = {}
        for name, variable in VARIABLES.items():
            text = os.environ.get(variable)
            if text is not None and text.strip():
                given[name] = parse(name, variable, text, _default(name))
        return cls(**given)

    def validate(self) -> bool:
        """Return whether the three settings of Langfuse are there; with `debug` log the others."""
        missing = [
            VARIABLES[name]
            for name in ("langfuse_secret_key", "langfuse_public_key", "langfuse_host")
            if not getattr(self, name)
        ]
        if missing and self.debug:
            logger.warning("Langfuse is not configured: %s missing", ", ".join(missing))
        return not missing

    def to_langfuse_kwargs(self) -> dict[str, Any]:
        """Return what a Langfuse client is made with; keys that are not set are left out."""
        kwargs: dict[str, Any] = {
            "secret_key": self.langfuse_secret_key,
            "public_key": self.langfuse_public_key,
            "host": self.langfuse_host,
        }
        kwargs = {name: value for name, value in kwargs.items() if value}
        if self.debug:
            kwargs["debug"] = True
        return kwargs


def _default(name: str) -> Any:
    return getattr(TracingConfig, name)


def _load(file: str | Path) -> None:
    from dotenv import load_dotenv  # noqa: PLC0415 (only for those who have a file)

    load_dotenv(file)


def _load_nearest() -> None:
    """Read the nearest `.env`; one that cannot be read is reported and passed over."""
    try:
        here = Path.cwd()
        for folder in (here, *here.parents):
            if (folder / ".env").is_file():
                _load(folder / ".env")
                return
    except (OSError, UnicodeDecodeError) as error:
        logger.warning("the .env file cannot be read: %s", error)
