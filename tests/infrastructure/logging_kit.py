"""A root logger that nobody has configured, and what was written to it."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest
import structlog

from pocketflow_async.infrastructure.logging import clear_context, configure_logging, reset_logging


class Written(io.StringIO):
    """What was written."""

    @property
    def lines(self) -> list[str]:
        return self.getvalue().splitlines()

    @property
    def entries(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]

    @property
    def last(self) -> dict[str, Any]:
        return self.entries[-1]


@contextmanager
def bare_root() -> Generator[logging.Logger, None, None]:
    """Take pytest's handlers off the root logger, and put all back as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = []
    try:
        yield root
    finally:
        reset_logging()
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.reset_defaults()


@contextmanager
def logs(
    level: str = "DEBUG", format: str = "json", **options: Any
) -> Generator[Written, None, None]:
    """Configure logs into a text that the test reads."""
    written = Written()
    with bare_root():
        assert configure_logging(level, format, stream=written, **options)
        yield written


@pytest.fixture(autouse=True)
def _no_context() -> Generator[None, None, None]:
    clear_context()
    structlog.contextvars.clear_contextvars()
    yield
    clear_context()
    structlog.contextvars.clear_contextvars()
