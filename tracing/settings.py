"""What a `trace_flow` was told, and the recorder that follows from it."""

from __future__ import annotations

import logging
import os
from typing import Any

from tracing.config import TracingConfig
from tracing.recorder import Recorder
from tracing.run import Run, Untraced

logger = logging.getLogger(__name__)

_UNTRACED = Untraced()


class Settings:
    """The choices of one `trace_flow`; its recorder is made when the first run needs it.

    Plain data: it pickles, without the recorder.

    Args:
        config: The user's own settings, or None for the environment's.
        name: Name of the traces, or None for that of what is traced.
        session_id: Session, or None for the config's.
        user_id: User, or None for the config's.
        tags: Tags of the traces.
        metadata: Facts about the traces.
    """

    def __init__(
        self,
        config: TracingConfig | None,
        name: str | None = None,
        session_id: str | None = None,
        user_id: str | None = None,
        tags: tuple[str, ...] = (),
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self.config = config
        self.name = name
        self.session_id = session_id
        self.user_id = user_id
        self.tags = tags
        self.metadata = metadata or {}
        self._made: tuple[object, TracingConfig, Recorder | None] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_made": None}

    def start(self, kind: str, label: str, source: object, value: Any) -> Run:
        """Open the span of a run; one that notes nothing when tracing is off, or cannot be."""
        try:
            config, recorder = self._recorder()
            if recorder is None:
                return _UNTRACED
            return Run(
                recorder,
                kind,
                self.name or label,
                source,
                value,
                session_id=self.session_id or config.session_id,
                user_id=self.user_id or config.user_id,
                tags=self.tags,
                metadata=self.metadata,
            )
        except Exception:
            logger.exception("this run of %s is not traced", label)
            return _UNTRACED

    def _recorder(self) -> tuple[TracingConfig, Recorder | None]:
        """Return the settings and the recorder, made anew when the environment says otherwise."""
        said = os.environ.get("POCKETFLOW_TRACE_STORE")
        made = self._made
        if (
            made is None
            or (made[0] != said and self._follows_environment())
            or (made[2] is not None and made[2].sink.is_closed)
        ):
            config = TracingConfig.from_env() if self.config is None else self.config
            made = self._made = (said, config, _build(config))
        return made[1], made[2]

    def _follows_environment(self) -> bool:
        return self.config is None or self.config.store is None


def _build(config: TracingConfig) -> Recorder | None:
    from tracing.store import open_store  # noqa: PLC0415 (SQLite, when the first run needs it)

    store = open_store(config.store, redact=config.redact, redact_keys=config.redact_keys)
    if store is None:
        return None
    return Recorder(store, config.trace_inputs, config.trace_outputs, config.value_limit)
