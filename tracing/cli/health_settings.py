"""Which environment variables are set, and what is wrong with them."""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tracing.cli import masking
from tracing.cli.findings import Section
from tracing.config import OTHER_VARIABLES, VARIABLES, TracingConfig
from tracing.export import configured, variables
from tracing.export.model import Route

KNOWN: Final = frozenset(
    {
        *VARIABLES.values(),
        *(name for names in OTHER_VARIABLES.values() for name in names),
        "POCKETFLOW_TRACE_STORE",
    }
)
_OURS: Final = "POCKETFLOW_"
_NEAR: Final = ("LANGFUSE_", "OTEL_")
_PROXIES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


def look(environ: Mapping[str, str]) -> tuple[Section, Route | None]:
    """Return what is to be said about the settings, and the route that they stand for.

    Reads the `.env` file, whose variables are in `os.environ` afterwards.

    Args:
        environ: The environment, which may be `os.environ` itself.
    """
    section = Section("settings")
    before = set(environ)
    route: Route | None = None
    with _warnings() as said:
        try:
            config = TracingConfig.from_env()
            route = configured.route(config) or Route()
        except (ValueError, TypeError) as error:
            section.add("configuration", str(error), "wrong", "traced runs go untraced with this")
    _list(section, environ, before)
    for message in dict.fromkeys(said):
        section.add("warning", message, "wrong", "correct the variable, or unset it")
    _keys(section, environ)
    return section, route


def _list(section: Section, environ: Mapping[str, str], before: set[str]) -> None:
    names = sorted(name for name in environ if name.startswith((_OURS, *_NEAR)))
    names += sorted(name for name in environ if name.upper() in _PROXIES)
    for name in names:
        value = environ[name]
        if not value.strip():
            continue
        seen = masking.shown(name, value)
        origin = "" if name in before else "  (from .env)"
        if name.startswith(_OURS) and name not in KNOWN:
            close = difflib.get_close_matches(name, KNOWN, 1)
            fix = f"did you mean {close[0]}?" if close else "unset it"
            section.add(name, f"{seen}: no variable of that name is known", "warning", fix)
        else:
            section.add(name, f"{seen}{origin}", "note")
    if not names:
        section.add(
            "environment", "no variable of ours, Langfuse's or OpenTelemetry's is set", "note"
        )


def _keys(section: Section, environ: Mapping[str, str]) -> None:
    public = environ.get("LANGFUSE_PUBLIC_KEY", "").strip()
    secret = environ.get("LANGFUSE_SECRET_KEY", "").strip()
    if public.startswith("sk-") or secret.startswith("pk-"):
        fix = "put pk-lf-… in LANGFUSE_PUBLIC_KEY and sk-lf-… in LANGFUSE_SECRET_KEY"
        section.add("Langfuse keys", "the public and the secret key are swapped", "wrong", fix)
    elif bool(public) != bool(secret):
        missing = "LANGFUSE_SECRET_KEY" if public else "LANGFUSE_PUBLIC_KEY"
        fix = f"set {missing}, or unset the other one"
        section.add("Langfuse keys", f"{missing} is not set", "wrong", fix)
    for name in (
        "OTEL_EXPORTER_OTLP_CERTIFICATE",
        "OTEL_EXPORTER_OTLP_CLIENT_KEY",
        "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
    ):
        file = environ.get(name, "").strip()
        if file and not (Path(file).is_file() and os.access(file, os.R_OK)):
            section.add(name, f"{file} is no file that can be read", "wrong", "correct the path")


@contextmanager
def _warnings() -> Generator[list[str], None, None]:
    """Collect what tracing logs as a warning meanwhile, in place of the log."""
    found: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.getMessage())

    logger = logging.getLogger("tracing")
    handler, spread = Collect(logging.WARNING), logger.propagate
    variables.warn.cache_clear()  # each is said once a process, and may have been said
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield found
    finally:
        logger.removeHandler(handler)
        logger.propagate = spread
