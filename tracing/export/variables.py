"""What the standard variables of OpenTelemetry say, as fields of a `TracingConfig`.

As its specification wants it, a value that cannot be is reported and passed over, never an error;
an empty one is none. Messages never tell the value of a header.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, Final
from urllib.parse import unquote

from tracing.export.address import TRACES_PATH, below, has_path, is_grpc, is_header, is_url, told

logger = logging.getLogger(__name__)

GENERAL: Final = "OTEL_EXPORTER_OTLP_"
TRACES: Final = "OTEL_EXPORTER_OTLP_TRACES_"

_PROTOCOLS: Final = ("http/protobuf", "http/json", "grpc")
_ELSEWHERE: Final = frozenset(("console", "logging", "zipkin", "jaeger"))
"""Exporters that OpenTelemetry knows and that are not ours."""
_MOST: Final = 1000.0
"""Seconds; a larger timeout was meant as milliseconds, as the specification has it."""
_WITHOUT_SPACES: Final = re.compile(r"[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*")
_WITH_SPACES: Final = re.compile(r"[\x20\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*")
"""What W3C Baggage lets a value be, and the same with the spaces that people leave in."""


@cache  # each decorated flow reads the environment; one line a defect is enough
def warn(message: str) -> None:
    """Log *message*, once a process."""
    logger.warning("%s", message)


def read(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields that the standard variables in *environ* set."""
    found: dict[str, Any] = {}
    for name, (variables, reader) in _READERS.items():
        value = _first(environ, variables, reader)
        if value is not None:
            found[name] = value
    endpoint = _endpoint(environ, found.get("otlp_protocol", "http/protobuf"))
    if endpoint is not None:
        found["otlp_endpoint"] = endpoint
    return found | _sampling(environ)


def _first(
    environ: Mapping[str, str], variables: tuple[str, ...], reader: Callable[[str, str], Any]
) -> Any:
    """Return what the first of *variables* that can be read says."""
    for variable in variables:
        text = environ.get(variable, "").strip()
        if text and (value := reader(text, variable)) is not None:
            return value
    return None


def _endpoint(environ: Mapping[str, str], protocol: str) -> str | None:
    """Return where spans go: the traces' own endpoint as it is, or one below the general one."""
    if protocol == "grpc":
        address: str | None = _first(environ, _otlp_variables("ENDPOINT"), _grpc)
        return address
    own: str | None = _first(environ, (TRACES + "ENDPOINT",), _url)
    if own is not None:
        return own if has_path(own) else below(own, "/")
    general: str | None = _first(environ, (GENERAL + "ENDPOINT",), _url)
    return None if general is None else below(general, TRACES_PATH)


def _sampling(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return what the sampler says of the share and of whose decision counts."""
    text = environ.get("OTEL_TRACES_SAMPLER", "").strip()
    if not text:
        return {}
    by_parent, rest = text.lower().startswith("parentbased_"), text.lower()
    kind = rest.removeprefix("parentbased_")
    if kind == "traceidratio":
        rate = _first(environ, ("OTEL_TRACES_SAMPLER_ARG",), _share)
        return {"sample_rate": 1.0 if rate is None else rate, "sample_by_parent": by_parent}
    if kind in ("always_on", "always_off"):
        return {"sample_rate": float(kind == "always_on"), "sample_by_parent": by_parent}
    warn(f"OTEL_TRACES_SAMPLER: {text!r} is not known here; parentbased_always_on is used")
    return {"sample_rate": 1.0, "sample_by_parent": True}


def headers(text: str, variable: str) -> dict[str, str] | None:
    """Return the headers in *text*: `name=value` with commas between, percent-encoded.

    A value with plain spaces in it, such as `Basic abc`, is taken as it stands.
    """
    found: dict[str, str] = {}
    for number, part in _parts(text):
        name, equals, value = (piece.strip(" \t") for piece in part.partition("="))
        decoded = _header_value(value) if equals else None
        if decoded is None or not is_header(name, decoded):
            warn(f"{variable}: header {number} is not name=value, percent-encoded; it is left out")
        else:
            found[name.lower()] = decoded
    return found or None


def _header_value(value: str) -> str | None:
    if not _WITHOUT_SPACES.fullmatch(value):
        return value if _WITH_SPACES.fullmatch(value) else None
    return _decoded(value)


def attributes(text: str, variable: str) -> dict[str, str] | None:
    """Return the attributes in *text*: `name=value` with commas between, percent-encoded."""
    found: dict[str, str] = {}
    for number, part in _parts(text):
        name, equals, value = part.partition("=")
        key, said = _decoded(name.strip()), _decoded(value.strip())
        if not equals or not key or said is None:
            warn(f"{variable}: entry {number} is not name=value, percent-encoded; it is left out")
        else:
            found[key] = said
    return found or None


def _parts(text: str) -> Iterator[tuple[int, str]]:
    return ((at, part) for at, part in enumerate(text.split(","), 1) if part.strip())


def _decoded(text: str) -> str | None:
    try:
        return unquote(text, errors="strict").strip()
    except UnicodeDecodeError:
        return None


def _text(text: str, _: str) -> str:
    return text


def _url(text: str, variable: str) -> str | None:
    if is_url(text):
        return text
    warn(f"{variable} must be a URL with http:// or https://, not {told(text)!r}; it is ignored")
    return None


def _grpc(text: str, variable: str) -> str | None:
    if is_grpc(text):
        return text
    warn(f"{variable} must be host:port or a URL of it, not {told(text)!r}; it is ignored")
    return None


def _switch(text: str, variable: str) -> bool:
    if text.lower() not in ("true", "false"):
        warn(f"{variable} must be true or false, not {text!r}; it counts as false")
    return text.lower() == "true"


def _protocol(text: str, variable: str) -> str | None:
    if text.lower() in _PROTOCOLS:
        return text.lower()
    warn(f"{variable} must be one of {', '.join(_PROTOCOLS)}, not {text!r}; it is ignored")
    return None


def _compression(text: str, variable: str) -> str | None:
    if text.lower() in ("gzip", "none"):
        return text.lower()
    if text.lower() == "deflate":
        warn(f"{variable}=deflate is sent as gzip, which every receiver takes")
        return "gzip"
    warn(f"{variable} must be gzip or none, not {text!r}; it is ignored")
    return None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _timeout(text: str, variable: str) -> float | None:
    seconds = _number(text)
    if not 0 < seconds < math.inf:
        warn(f"{variable} must be a number of seconds above 0, not {text!r}; it is ignored")
        return None
    if seconds >= _MOST:
        warn(f"{variable}={text} is taken as milliseconds; write seconds")
        return seconds / 1000
    return seconds


def _share(text: str, variable: str) -> float | None:
    share = _number(text)
    if 0 <= share <= 1:
        return share
    warn(f"{variable} must be a share between 0.0 and 1.0, not {text!r}; 1.0 is used")
    return None


def _otlp(text: str, variable: str) -> bool | None:
    """Return whether a list of exporters wants OTLP; None: it says nothing that we know."""
    names = {part.strip().lower() for part in text.split(",") if part.strip()}
    ours = {name for name in names if name == "otlp" or name.startswith("otlp_proto_")}
    for name in sorted(names - ours - {"none"}):
        if name in _ELSEWHERE:
            logger.debug("%s: traces are not written to %r by us", variable, name)
        else:
            warn(f"{variable}: {name!r} is not known here; otlp and none are")
    return bool(ours) if names & (ours | _ELSEWHERE | {"none"}) else None


def _otlp_variables(word: str) -> tuple[str, ...]:
    return (TRACES + word, GENERAL + word)


_READERS: Final[dict[str, tuple[tuple[str, ...], Callable[[str, str], Any]]]] = {
    "otlp": (("OTEL_TRACES_EXPORTER",), _otlp),
    "otlp_protocol": (_otlp_variables("PROTOCOL"), _protocol),
    "otlp_headers": (_otlp_variables("HEADERS"), headers),
    "otlp_compression": (_otlp_variables("COMPRESSION"), _compression),
    "otlp_timeout": (_otlp_variables("TIMEOUT"), _timeout),
    "otlp_certificate": (_otlp_variables("CERTIFICATE"), _text),
    "otlp_client_certificate": (_otlp_variables("CLIENT_CERTIFICATE"), _text),
    "otlp_client_key": (_otlp_variables("CLIENT_KEY"), _text),
    "otlp_insecure": (_otlp_variables("INSECURE"), _switch),
    "service_name": (("OTEL_SERVICE_NAME",), _text),
    "resource_attributes": (("OTEL_RESOURCE_ATTRIBUTES",), attributes),
    "export_disabled": (("OTEL_SDK_DISABLED",), _switch),
}
"""Variables of each field, the one that wins first, and what reads them."""
