"""What to do about an answer of a target. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from tracing.export.model import Answer, Target
from tracing.export.variables import GENERAL, TRACES

_TAKEN: Final = 200
_GRPC_PORT: Final = 4317
_HTTP_PORT: Final = 4318
_PATH: Final = "/v1/traces"
_NOT_HTTP: Final = re.compile(
    r"gRPC|BadStatusLine|RemoteDisconnected|aborted|reset|InvalidChunk|was cut", re.I
)
_NO_TLS: Final = re.compile(
    r"WRONG_VERSION|wrong version|record layer|UNEXPECTED_EOF|http request", re.I
)
_TLS: Final = re.compile(r"certificate|SSL|TLS", re.I)
_GRPC: Final = (
    f"this may be a gRPC port: HTTP is usually port {_HTTP_PORT}; or set "
    "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"
)
_PERHAPS_GRPC: Final = (415, 426, 505)
_SETTING: Final = re.compile(r"LANGFUSE_HOST|OTEL_EXPORTER_OTLP_(?!TRACES_|ENDPOINT)[A-Z_]+")
"""Variables that another may win over; where one for endpoints is named, so is the other."""
_WINNERS: Final = {"LANGFUSE_HOST": "LANGFUSE_BASE_URL"}
_LATE: Final = re.compile(r"within [\d.]+ s|timed out|deadline", re.I)


def advise(target: Target, answer: Answer, environ: Mapping[str, str] | None = None) -> str:
    """Return what to do about *answer*; empty if all is well.

    Args:
        target: Who answered.
        answer: What it said.
        environ: Says which of two variables for the same is in force, and so is the one to name.
    """
    said = _advice(target, answer)
    return said if environ is None else _SETTING.sub(lambda it: in_force(it[0], environ), said)


def in_force(variable: str, environ: Mapping[str, str]) -> str:
    """Return *variable*, or the one that says the same and wins over it where that is set."""
    winner = _WINNERS.get(variable) or variable.replace(GENERAL, TRACES)
    return winner if environ.get(winner, "").strip() else variable


def _advice(target: Target, answer: Answer) -> str:
    if target.protocol == "grpc" and "langfuse" in target.endpoint and answer.status != _TAKEN:
        return "Langfuse has no gRPC: set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"
    if answer.status is None or (target.protocol == "grpc" and answer.status == 503):
        return _silent(target, answer.said)
    if 200 <= answer.status < 300:
        return _accepted(target, answer)
    if answer.status in _PERHAPS_GRPC and target.protocol != "grpc":
        return _perhaps_grpc(target, answer.status)
    return _refused(target, answer.status)


def _silent(target: Target, said: str) -> str:
    port = _port(target)
    if "no address" in said or "DNS" in said or "name resolution" in said:
        return "check the name of the host in the endpoint, and the DNS and VPN of this machine"
    if _LATE.search(said):
        grpc = "" if target.protocol == "grpc" else ", the protocol (is it a gRPC port?)"
        return (
            "the server is there but does not answer, or a firewall drops what is sent: check the "
            f"port{grpc}, proxies (HTTPS_PROXY, NO_PROXY) and the timeout of {target.timeout:g} s"
        )
    if _NO_TLS.search(said):
        return "the server speaks no TLS on this port: write http:// in the endpoint"
    if target.protocol == "grpc":
        return _silent_grpc(target, said, port)
    if _TLS.search(said):
        return (
            "name the file of your own authority's certificate in OTEL_EXPORTER_OTLP_CERTIFICATE, "
            "or correct the host name; do not turn the check off"
        )
    if port == _GRPC_PORT or _NOT_HTTP.search(said):
        return _GRPC
    return f"start the server, or correct host and port{_in_a_container(target)}"


def _silent_grpc(target: Target, said: str, port: int | None) -> str:
    if port == _HTTP_PORT or "port for HTTP" in said:
        return (
            f"this may be an HTTP port: gRPC is usually port {_GRPC_PORT}; or set "
            "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"
        )
    if _TLS.search(said) or "handshake" in said.lower():
        return (
            "if the server speaks no TLS write http:// in the endpoint or set "
            "OTEL_EXPORTER_OTLP_INSECURE=true; if it does, name its certificate in "
            "OTEL_EXPORTER_OTLP_CERTIFICATE"
        )
    return (
        "start the server, or correct host and port; if it speaks no TLS write http:// in the "
        f"endpoint{_in_a_container(target)}"
    )


def _in_a_container(target: Target) -> str:
    if urlsplit(target.endpoint).hostname in ("localhost", "127.0.0.1", "::1"):
        return "; inside a container localhost is the container itself"
    return ""


def _accepted(target: Target, answer: Answer) -> str:
    if not answer.valid:
        return (
            "something answers there that takes no traces, such as a web page: correct host, port "
            f"and path (usually {_PATH})"
        )
    if answer.rejected:
        return "the server took the request and refused the span: see what it said"
    return ""


def _refused(target: Target, status: int) -> str:
    if status in (401, 403):
        return _credentials(target, status)
    if status in (404, 405):
        return _path(target)
    if 300 <= status < 400:
        return "write the address that it points to in the endpoint: redirects are not followed, so that no key goes elsewhere"  # noqa: E501 (one sentence)
    if status in _SAID:
        return _SAID[status]
    if status >= 500:
        return "the server, or a proxy before it, is in trouble: see its log; what waits is kept"
    return "see what the server said, and its log"


def _perhaps_grpc(target: Target, status: int) -> str:
    """Return what to do where a server wants another media type or version of HTTP."""
    if target.protocol == "http/json" and status == 415:
        return _SAID[415]
    return f"the server takes no OTLP over HTTP here: {_GRPC}"


_SAID: Final = {
    400: "the server does not understand the request: is the endpoint one for traces?",
    408: "the server was too slow; what waits is kept, and sent again",
    413: "even one small span is too large for the server or a proxy before it: raise its limit",
    415: "the server takes no JSON, as Phoenix: set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf",
    429: "the server takes no more for now; what waits is kept, and sent at its pace",
}


def _credentials(target: Target, status: int) -> str:
    if target.name == "langfuse":  # else it is configured by the variables of OTLP
        return (
            "check LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY, and that LANGFUSE_HOST is the "
            "region or server of their project"
        )
    if "authorization" in target.headers:
        return "the server does not accept the Authorization in OTEL_EXPORTER_OTLP_HEADERS"
    said = "wants credentials" if status == 401 else "refuses"
    return (
        f"the server {said}: set OTEL_EXPORTER_OTLP_HEADERS, such as "
        "authorization=Bearer%20YOUR-KEY"
    )


def _path(target: Target) -> str:
    if target.protocol == "grpc":
        return "the server has no OTLP traces service on this port: correct host and port"
    path = urlsplit(target.endpoint).path
    if path.endswith(_PATH * 2):
        return (
            f"leave out {_PATH} in OTEL_EXPORTER_OTLP_ENDPOINT: it is added (only "
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is taken as it is)"
        )
    if not path.endswith(_PATH):
        return (
            f"the path is usually {_PATH}: OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is taken as it is, "
            f"and only OTEL_EXPORTER_OTLP_ENDPOINT gets {_PATH} added"
        )
    if target.name == "langfuse":
        return "the host is no Langfuse, or one older than 3.22: correct LANGFUSE_HOST"
    return f"no traces are taken at {path}: correct host, port and path"


def _port(target: Target) -> int | None:
    parts = urlsplit(target.endpoint if "://" in target.endpoint else f"//{target.endpoint}")
    try:
        return parts.port
    except ValueError:
        return None
