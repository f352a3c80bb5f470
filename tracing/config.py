"""Settings of tracing: from arguments, or from the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_LEAST: Final = 256  # bytes; less shows nothing of use
_ENVIRONMENT = {
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
    "redact_keys": "POCKETFLOW_TRACE_REDACT_KEYS",
}


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

    def __post_init__(self) -> None:
        _check_limit(self.value_limit)
        self.redact_keys = _keys(self.redact_keys)

    @classmethod
    def from_env(cls, env_file: str | Path | None = None) -> TracingConfig:
        """Build the settings from environment variables.

        Args:
            env_file: A `.env` file to read first; variables that are set already win.

        Raises:
            ValueError: A variable has a value that cannot be; the message names it.
        """
        if env_file is not None:
            from dotenv import load_dotenv  # noqa: PLC0415 (only for those who have a file)

            load_dotenv(env_file)
        given: dict[str, object] = {}
        for name, variable in _ENVIRONMENT.items():
            text = os.environ.get(variable)
            if text is not None and text != "":
                given[name] = _parsed(cls, name, variable, text)
        return cls(**given)  # type: ignore[arg-type]  # each was parsed by its field's default


def _check_limit(value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < _LEAST:
        raise ValueError(
            f"value_limit (POCKETFLOW_TRACE_VALUE_LIMIT) must be a whole number of bytes of at "
            f"least {_LEAST}, not {value!r}"
        )


def _keys(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        raise TypeError(f"redact_keys is a tuple of keys: redact_keys=({value!r},)")
    return tuple(value)


def _parsed(cls: type[TracingConfig], name: str, variable: str, text: str) -> object:
    default = getattr(cls, name)
    if isinstance(default, bool):
        return text.strip().lower() == "true"
    if isinstance(default, tuple):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if isinstance(default, int):
        try:
            return int(text)
        except ValueError:
            raise ValueError(f"{variable} must be a whole number, not {text!r}") from None
    return text
