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
from tracing.cli.advice import in_force
from tracing.cli.findings import Finding, Section
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
_LANGFUSE: Final = "LANGFUSE_"
_NEAR: Final = (_LANGFUSE, "OTEL_")
_CLOSE: Final = 0.7
_EXPORTER: Final = "OTEL_TRACES_EXPORTER"
_KEPT: Final = "traces are kept in the local store and sent nowhere with this"
_PROXIES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


def look(environ: Mapping[str, str]) -> tuple[Section, Route | None]:
    """Return what is to be said about the settings, and the route that they stand for.

    Reads the `.env` file, whose variables are in `os.environ` afterwards.

    Args:
        environ: The environment, which may be `os.environ` itself.
    """
    section = Section("settings")
    before = set(environ)
    config: TracingConfig | None = None
    route: Route | None = None
    wrong = fix = ""
    with _warnings() as said:
        try:
            config = TracingConfig.from_env()
        except (ValueError, TypeError) as error:
            wrong, fix = str(error), "traced runs go untraced with this"
        else:
            try:
                route = configured.route(config) or Route()
            except (ValueError, TypeError) as error:
                wrong, fix = str(error), _KEPT
    keys = _keys(environ)
    if wrong and not (keys and "LANGFUSE_PUBLIC_KEY" in wrong):  # that is said once
        section.add("configuration", wrong, "wrong", fix)
    _list(section, environ, before)
    for message in dict.fromkeys(said):
        if not (keys and message.startswith("nothing is sent to Langfuse")):
            section.add("warning", message, "wrong", "correct the variable, or unset it")
    section.findings += keys
    _files(section, environ)
    if config is not None:
        _silenced(section, environ, config)
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
        elif close_one := _meant(name):
            said = f"{seen}: no variable of that name is known here"
            section.add(name, said, "warning", f"did you mean {close_one}?")
        else:
            section.add(name, f"{seen}{origin}", "note")
    if not names:
        section.add(
            "environment", "no variable of ours, Langfuse's or OpenTelemetry's is set", "note"
        )


def _meant(name: str) -> str:
    """Return the variable of Langfuse's that *name* is a misspelling of; empty if it is none.

    Langfuse's own SDK and server read more variables than we do, so it has to be close.
    """
    if name in KNOWN or not name.startswith(_LANGFUSE):
        return ""
    known = [one.removeprefix(_LANGFUSE) for one in KNOWN if one.startswith(_LANGFUSE)]
    close = difflib.get_close_matches(name.removeprefix(_LANGFUSE), known, 1, _CLOSE)
    return _LANGFUSE + close[0] if close else ""


def _keys(environ: Mapping[str, str]) -> list[Finding]:
    """Return what is wrong with the keys of Langfuse, if anything is."""
    public = environ.get("LANGFUSE_PUBLIC_KEY", "").strip()
    secret = environ.get("LANGFUSE_SECRET_KEY", "").strip()
    if public.startswith("sk-") or secret.startswith("pk-"):
        fix = f"put pk-lf-… in LANGFUSE_PUBLIC_KEY and sk-lf-… in LANGFUSE_SECRET_KEY; {_KEPT}"
        said = "the public and the secret key are swapped"
    elif bool(public) != bool(secret):
        missing = "LANGFUSE_SECRET_KEY" if public else "LANGFUSE_PUBLIC_KEY"
        fix = f"set {missing}, or unset the other one"
        said = f"{missing} is not set: nothing is sent to Langfuse"
    else:
        return []
    return [Finding("Langfuse keys", said, "wrong", fix)]


def _files(section: Section, environ: Mapping[str, str]) -> None:
    for word in ("CERTIFICATE", "CLIENT_KEY", "CLIENT_CERTIFICATE"):
        name = in_force(variables.GENERAL + word, environ)
        file = environ.get(name, "").strip()
        if file and not (Path(file).is_file() and os.access(file, os.R_OK)):
            section.add(name, f"{file} is no file that can be read", "wrong", "correct the path")


def _silenced(section: Section, environ: Mapping[str, str], config: TracingConfig) -> None:
    """Warn where an exporter that is not ours keeps spans from an endpoint that is set."""
    named = environ.get(_EXPORTER, "").strip()
    if config.otlp is not False or not config.otlp_endpoint or config.exporters:
        return
    if named.lower() != "none":
        endpoint = in_force(f"{variables.GENERAL}ENDPOINT", environ)
        said = f"{named}: nothing is sent to {endpoint}, for this asks for another exporter"
        section.add(_EXPORTER, said, "warning", "set it to otlp, or unset it")


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
