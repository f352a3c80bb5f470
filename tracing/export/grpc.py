"""OTLP over gRPC: the bytes of our own encoder, through a channel that is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import grpc  # type: ignore[import-untyped]

from tracing.export import protobuf
from tracing.export.model import Answer, OutSpan, Target
from tracing.export.transport import Words, agent, authority, partial, shown, unobserved

_METHOD: Final = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"

_HTTP: Final[dict[grpc.StatusCode, int | None]] = {
    grpc.StatusCode.CANCELLED: None,
    grpc.StatusCode.DEADLINE_EXCEEDED: None,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.UNIMPLEMENTED: 404,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.ABORTED: 503,
    grpc.StatusCode.OUT_OF_RANGE: 503,
    grpc.StatusCode.UNAVAILABLE: 503,
}
"""What HTTP would say; 500 for the rest."""

_OPTIONS: Final = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.enable_retries", 0),  # we try again ourselves, and from the disk
    ("grpc.initial_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 5_000),  # 2 minutes otherwise: a receiver is back sooner
)

_TOO_LARGE: Final = ("larger than max", "message length too large")
"""How servers in C, Go and Rust say it, under codes that mean other things as well."""

_NO_ADDRESS: Final = ("errors resolving", "DNS resolution", "address lookup", "ame resolution")


class GrpcTransport:
    """A way to a target over gRPC.

    Args:
        target: Where to, and how.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._words = Words(target)
        self._channel: Any = None
        self._metadata = tuple((name.lower(), value) for name, value in target.headers.items())
        gzip = target.compression == "gzip"
        self._compression = grpc.Compression.Gzip if gzip else grpc.Compression.NoCompression

    def content(self, spans: Sequence[OutSpan], resource: Mapping[str, Any]) -> bytes:
        """Encode a request, not yet compressed."""
        return protobuf.encode(spans, resource)

    def send(self, body: bytes, timeout: float) -> Answer:
        """Send one request and return what came of it.

        Args:
            body: From `content`.
            timeout: Seconds for all of it.
        """
        if not all(value.isascii() and value.isprintable() for _, value in self._metadata):
            said = "a header cannot be sent: look for line breaks and letters beyond ASCII"
            return Answer(None, self._words.failed(said))
        try:
            with unobserved():
                said = self._export()(
                    body, timeout=timeout, metadata=self._metadata, compression=self._compression
                )
        except grpc.RpcError as error:
            return self._refusal(error, timeout)
        except Exception as error:  # noqa: BLE001 (whatever it is, the spans must be kept)
            return Answer(None, self._words.failed(f"{type(error).__name__}: {error}"))
        try:
            rejected, message = partial(said)
        except ValueError:
            return Answer(200, self._words.failed("an answer that is not OTLP's"), valid=False)
        return Answer(200, self._words.line(message), rejected=rejected)

    def close(self) -> None:
        """Close the channel; the next request opens another."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

    def _export(self) -> Any:
        if self._channel is None:
            self._channel = self._open()
        return self._channel.unary_unary(_METHOD)  # without serializers: bytes in, bytes out

    def _open(self) -> Any:
        address = _address(self._target.endpoint)
        options = (*_OPTIONS, ("grpc.primary_user_agent", agent()))
        if _insecure(self._target):
            return grpc.insecure_channel(address, options)
        return grpc.secure_channel(address, _tls(self._target), options)

    def _refusal(self, error: Any, timeout: float) -> Answer:
        code, details = error.code(), error.details() or ""
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return self._words.late(timeout)
        status = 413 if _too_large(details) else _HTTP.get(code, 500)
        said = self._say(code, details)
        return Answer(status, said, _retry_delay(error.trailing_metadata()))

    def _say(self, code: grpc.StatusCode, details: str) -> str:
        if code is grpc.StatusCode.UNAVAILABLE:
            if "onnection refused" in details:
                return self._words.refused()
            if any(words in details for words in _NO_ADDRESS):
                return self._words.unknown()
            if "SETTINGS frame" in details:
                return self._words.failed("no gRPC is spoken there; is it a port for HTTP?")
            if "CERTIFICATE_VERIFY_FAILED" in details:
                return self._words.distrusted("it fails verification")
        return self._words.line(f"gRPC {code.name}: {details} ({shown(self._target.endpoint)})")


def _insecure(target: Target) -> bool:
    scheme = urlsplit(target.endpoint).scheme if "://" in target.endpoint else ""
    if scheme == "https" or target.insecure is None:
        return scheme in ("http", "unix")
    return target.insecure


def _address(endpoint: str) -> str:
    """Return *endpoint* in gRPC's own words: without scheme and path."""
    if endpoint.startswith("unix:") or "://" not in endpoint:
        return endpoint
    return authority(endpoint)


def _tls(target: Target) -> grpc.ChannelCredentials:
    def content(file: str | None) -> bytes | None:
        return Path(file).read_bytes() if file else None

    return grpc.ssl_channel_credentials(
        root_certificates=content(target.certificate),
        private_key=content(target.client_key),
        certificate_chain=content(target.client_certificate),
    )


def _too_large(details: str) -> bool:
    return any(words in details for words in _TOO_LARGE)


def _retry_delay(trailing: Any) -> float | None:
    """Find the seconds of a `google.rpc.RetryInfo` among the details of an error."""
    for name, value in trailing or ():
        if name == "grpc-status-details-bin":
            try:
                return _delay(value)
            except (ValueError, TypeError):  # a server's slip: then it asks for nothing
                return None
    return None


def _delay(status: bytes) -> float | None:
    """Read details (3), an Any of type (1) and value (2), with a delay (1) of seconds and nanos."""
    for number, detail in protobuf.fields(status):
        found = _message(detail) if number == 3 else {}
        if b"google.rpc.RetryInfo" in bytes(found.get(1, b"")):
            delay = _message(_message(found.get(2, b"")).get(1, b""))
            return float(delay.get(1, 0)) + float(delay.get(2, 0)) / 1e9
    return None


def _message(data: Any) -> dict[int, Any]:
    return dict(protobuf.fields(data))
