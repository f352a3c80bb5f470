"""The route that a `TracingConfig` stands for: its targets, and how spans are to look there."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit
from weakref import ref

from tracing.export.address import TRACES_PATH, below, has_path, is_grpc, is_url, told, without_user
from tracing.export.model import Route, Target
from tracing.export.resource import resource
from tracing.export.variables import read

if TYPE_CHECKING:
    from tracing.config import TracingConfig

logger = logging.getLogger(__name__)

NAMES: Final = ("langfuse", "none", "otel", "otlp")
CLOUD: Final = "https://cloud.langfuse.com"

_DEFAULTS: Final = {
    "grpc": "http://localhost:4317",
    "http/protobuf": "http://localhost:4318" + TRACES_PATH,
    "http/json": "http://localhost:4318" + TRACES_PATH,
}
_NAMING: Final = ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES")
_LANGFUSE_PATH: Final = "/api/public/otel"
_EXPORTERS: Final = "exporters (POCKETFLOW_TRACE_EXPORTERS)"
_SEEN: Final[dict[int, tuple[Callable[[], Any], int]]] = {}
_COUNTS: Final[dict[type, Iterator[int]]] = {}


def route(
    config: TracingConfig,
    program: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Route | None:
    """Return where the records of a config's runs go, and how they are to look there.

    Args:
        config: The settings; where it goes to only they say.
        environ: Says what the program is called where the settings do not.
        program: What was started, for the name of a service that has none; default: `sys.argv[0]`.

    Returns:
        The route. Without targets, or None where sending is off as a whole: nothing goes out.

    Raises:
        ValueError: A name in `exporters` is unknown, or something that it needs is missing.
    """
    if config.export_disabled:
        return None
    called = _called(environ)
    found: dict[tuple[str | None, ...], Target] = {}
    for target in _targets(config):
        found.setdefault(_place(target), target)
    return Route(
        tuple(found.values()),
        resource(
            {**called.get("resource_attributes", {}), **(config.resource_attributes or {})},
            config.service_name or called.get("service_name"),
            config.version,
            config.environment,
            _program() if program is None else program,
        ),
        shown(config),
        config.release,
    )


def shown(config: TracingConfig) -> frozenset[str]:
    """Return the kinds of phases that are spans of their own where traces are sent to."""
    if config.detail == "nodes":
        return frozenset()
    switches = {
        "prep": config.trace_prep,
        "exec": config.trace_exec,
        "fallback": config.trace_exec,
        "suspended": config.trace_exec,
        "post": config.trace_post,
    }
    return frozenset(kind for kind, on in switches.items() if on)


def _place(target: Target) -> tuple[str | None, ...]:
    """Return what two targets share that are the same, even if one was given in other words."""
    if target.dialect == "langfuse":
        return (target.endpoint, target.headers.get("authorization"))
    return (target.key,)


def _called(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return what the environment says the program is called."""
    return read(environ) if any(name in environ for name in _NAMING) else {}


def _program() -> str:
    return sys.argv[0] if getattr(sys, "argv", None) else ""


def _targets(config: TracingConfig) -> Iterator[Target]:
    if not config.exporters:
        yield from _automatic(config)
        return
    if "none" in config.exporters and set(config.exporters) != {"none"}:
        raise ValueError(f"{_EXPORTERS}: 'none' stands alone")
    for one in config.exporters:
        if isinstance(one, Target):
            yield one
        elif isinstance(one, str):
            yield from _named(one, config)
        else:
            yield _processor(one)


def _automatic(config: TracingConfig) -> Iterator[Target]:
    missing = _missing_keys(config)
    if not missing:
        yield from _langfuse(config)
    elif len(missing) == 1 and config.langfuse_enabled:
        logger.warning("nothing is sent to Langfuse: %s is not set", missing[0])
    if config.otlp or (config.otlp is None and config.otlp_endpoint):
        yield _otlp(config)


def _named(name: str, config: TracingConfig) -> Iterator[Target]:
    match name:
        case "langfuse":
            yield from _langfuse(config)
        case "otlp":
            yield _otlp(config)
        case "otel":
            yield Target("otel", "the global TracerProvider", "processor")
        case "none":
            pass
        case _:
            raise ValueError(f"{_EXPORTERS}: {name!r} is not known; known are {', '.join(NAMES)}")


def _missing_keys(config: TracingConfig) -> list[str]:
    keys = {
        "LANGFUSE_PUBLIC_KEY": config.langfuse_public_key,
        "LANGFUSE_SECRET_KEY": config.langfuse_secret_key,
    }
    return [variable for variable, key in keys.items() if not key]


def _langfuse(config: TracingConfig) -> Iterator[Target]:
    if not config.langfuse_enabled:
        logger.debug("nothing is sent to Langfuse: langfuse_enabled is False")
        return
    public_key, secret_key = config.langfuse_public_key, config.langfuse_secret_key
    if not public_key or not secret_key:
        missing = ", ".join(_missing_keys(config))
        raise ValueError(
            f"{_EXPORTERS}: 'langfuse' needs langfuse_public_key (LANGFUSE_PUBLIC_KEY) and "
            f"langfuse_secret_key (LANGFUSE_SECRET_KEY); not set: {missing}"
        )
    from tracing.export.langfuse import target  # noqa: PLC0415 (only for those who send there)

    host = config.langfuse_host or CLOUD
    try:
        yield target(host, public_key, secret_key, config.langfuse_timeout)
    except ValueError as error:
        said = str(error).replace(repr(host), repr(told(host)))
        raise ValueError(
            "langfuse_host (LANGFUSE_HOST or LANGFUSE_BASE_URL), langfuse_public_key "
            "(LANGFUSE_PUBLIC_KEY) or langfuse_secret_key (LANGFUSE_SECRET_KEY) cannot be used: "
            f"{said}"
        ) from None


def _otlp(config: TracingConfig) -> Target:
    endpoint, headers, insecure = _address(config)
    langfuse = config.otlp_protocol != "grpc" and _LANGFUSE_PATH in urlsplit(endpoint).path
    if langfuse:  # without it Langfuse shows a trace only after minutes
        headers = {"x-langfuse-ingestion-version": "4", **headers}
    return Target(
        "otlp",
        endpoint,
        config.otlp_protocol,
        "langfuse" if langfuse else "otlp",
        headers,
        config.otlp_compression,
        config.otlp_timeout,
        config.otlp_certificate,
        config.otlp_client_certificate,
        config.otlp_client_key,
        insecure,
    )


def _address(config: TracingConfig) -> tuple[str, dict[str, str], bool | None]:
    """Return endpoint, headers and whether to go without TLS (None: as the endpoint says)."""
    endpoint = config.otlp_endpoint or _DEFAULTS[config.otlp_protocol]
    headers = dict(config.otlp_headers or {})
    is_one, wanted = is_url, "a URL with http:// or https://"
    if config.otlp_protocol == "grpc":
        is_one, wanted = is_grpc, "host:port or a URL of it"
    if not is_one(endpoint):
        raise ValueError(
            f"otlp_endpoint (OTEL_EXPORTER_OTLP_ENDPOINT) must be {wanted}, not {told(endpoint)!r}"
        )
    if not is_url(endpoint):
        said = config.otlp_insecure  # a socket of this machine needs no TLS
        return endpoint, headers, endpoint.startswith("unix:") if said is None else said
    endpoint, authorization = without_user(endpoint)
    if authorization is not None:  # the endpoint is shown and stored; the header is not
        headers.setdefault("authorization", authorization)
    if config.otlp_protocol != "grpc" and not has_path(endpoint):
        endpoint = below(endpoint, TRACES_PATH)
    return endpoint, headers, None


def _processor(processor: Any) -> Target:
    kind = type(processor)
    endpoint = f"{kind.__module__}.{kind.__qualname__}#{_number(processor)}"
    return Target(kind.__name__, endpoint, "processor", processor=processor)


def _number(processor: Any) -> int:
    """Return the number that tells *processor* from others of its class, for as long as it lives.

    They are given in the order in which the objects are first seen, which a program that is started
    again repeats, and never twice: what was recorded for one object goes to no other.
    """
    place, kind = id(processor), type(processor)
    entry = _SEEN.get(place)
    if entry is None:  # no lock, which a fork could leave locked: `setdefault` is one step
        number = next(_COUNTS.setdefault(kind, count(1)))
        entry = _SEEN.setdefault(place, (_reference(processor), number))
    return entry[1]


def _reference(processor: Any) -> Callable[[], Any]:
    """Return what gives *processor*, and ends its entry with it (by id: it may have no hash)."""
    place = id(processor)
    try:
        return ref(processor, lambda _: _SEEN.pop(place, None))
    except TypeError:  # it has slots and can only be held
        return lambda: processor
