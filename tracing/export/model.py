"""What is sent and where to, as plain data: targets, routes, spans ready for the wire, answers."""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, Literal, TypeAlias

import orjson

Protocol: TypeAlias = Literal["http/protobuf", "http/json", "grpc", "processor"]
Compression: TypeAlias = Literal["gzip", "none"]
Dialect: TypeAlias = Literal["otlp", "langfuse"]

PHASES: Final = frozenset({"prep", "exec", "fallback", "post", "suspended"})
"""Kinds of phases; a route says which of them are spans of their own."""

INTERNAL: Final = 1
SERVER: Final = 2
CLIENT: Final = 3
PRODUCER: Final = 4
CONSUMER: Final = 5
"""Kinds of spans, numbered as in OTLP."""

UNSET: Final = 0
OK: Final = 1
ERROR: Final = 2
"""Status codes, numbered as in OTLP."""


_PROCESS: Final = secrets.token_hex(8)


@dataclass(frozen=True)
class Target:
    """One place that traces are sent to.

    Attributes:
        name: What it is called in messages, such as `langfuse` or `otlp`.
        endpoint: Full URL of the traces endpoint; for gRPC `host:port` or a URL of one.
        protocol: How spans travel; `processor` hands them to an OpenTelemetry SpanProcessor.
        dialect: Whose attributes are added to those that everybody gets.
        headers: Sent with every request, by name in small letters; they may be secret.
        compression: Of the request's body.
        timeout: Seconds that one request may take in all.
        certificate: File of certificates that the server's is checked against.
        client_certificate: File of the client's own certificate.
        client_key: File of its key.
        insecure: For gRPC, whether to connect without TLS; None: as the endpoint's scheme says.
        processor: The SpanProcessor itself, where the protocol is `processor`.
    """

    name: str
    endpoint: str
    protocol: Protocol = "http/protobuf"
    dialect: Dialect = "otlp"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    compression: Compression = "gzip"
    timeout: float = 10.0
    certificate: str | None = None
    client_certificate: str | None = None
    client_key: str | None = field(default=None, repr=False)
    insecure: bool | None = None
    processor: Any = field(default=None, repr=False, compare=False)

    @property
    def key(self) -> str:
        """Identify the target over processes, without telling its secrets.

        Two targets at one address with different credentials have different keys, so that what was
        recorded for one account is never sent with the credentials of another.
        """
        said = [self.protocol, self.dialect, self.endpoint]
        headers = self._identity() if self.dialect == "langfuse" else self.headers
        said += [f"{name.lower()}={value}" for name, value in sorted(headers.items())]
        if self.client_certificate is not None:  # it too may be all that says who is sending
            said.append(f"certificate={self.client_certificate}")
        if self.protocol == "processor":
            said.append(self.name)
        if self.processor is not None:
            said.append(_PROCESS)  # an object of this process: no other one can know that it is it
        return hashlib.sha256("\n".join(said).encode("utf-8", "replace")).hexdigest()[:16]

    def _identity(self) -> dict[str, str]:
        """Return the headers with the public key alone: it names the project.

        So what was recorded with a wrong secret key goes out once that has been corrected.
        """
        found = {name.lower(): value for name, value in self.headers.items()}
        scheme, _, coded = found.get("authorization", "").partition(" ")
        if scheme.lower() == "basic":
            with suppress(ValueError):
                public = base64.b64decode(coded, validate=True).partition(b":")[0]
                found["authorization"] = public.decode("utf-8", "replace")
        return found


@dataclass(frozen=True)
class Route:
    """Where the records of a run go and how they are to look there.

    Attributes:
        targets: All of them; none: the records stay in the store.
        resource: Attributes of the program that recorded, as OpenTelemetry's resource has them:
            `service.name`, `service.version`, `deployment.environment.name` and others.
        shown: Kinds of phases that are spans of their own; the others fold into their node.
        release: Release of the program, for Langfuse; None: not said.
    """

    targets: tuple[Target, ...] = ()
    resource: Mapping[str, Any] = field(default_factory=dict)
    shown: frozenset[str] = PHASES
    release: str | None = None

    @cached_property
    def addressees(self) -> tuple[tuple[str, str, str], ...]:
        """Key, name and endpoint of each target: what the store may know of it."""
        return tuple((target.key, target.name, target.endpoint) for target in self.targets)

    @cached_property
    def shape(self) -> str:
        """All but the targets, as JSON: what another process needs to send the records as meant."""
        said = {
            "resource": dict(self.resource),
            "shown": sorted(self.shown),
            "release": self.release,
        }
        return orjson.dumps(said, option=orjson.OPT_SORT_KEYS).decode()

    @classmethod
    def of_shape(cls, shape: str) -> Route:
        """Undo `shape`; the route that comes back has no targets."""
        if not shape:  # of a store that has lost it
            return cls()
        said = orjson.loads(shape)
        return cls((), said["resource"], frozenset(said["shown"]), said["release"])


@dataclass(slots=True)
class SpanEvent:
    """Something that happened at one moment of a span."""

    name: str
    at_ns: int
    attributes: Mapping[str, Any]


@dataclass(slots=True)
class SpanLink:
    """A span of the same or another trace that a span has to do with."""

    trace_id: bytes
    span_id: bytes
    attributes: Mapping[str, Any]


@dataclass(slots=True)
class OutSpan:
    """One span as it goes over the wire; every value in it is one that OTLP knows.

    Attribute values are str, bool, int (64 bits), float, bytes, or lists of one of these.
    """

    trace_id: bytes
    """16 bytes."""
    span_id: bytes
    """8 bytes."""
    parent_id: bytes | None
    name: str
    start_ns: int
    """Unix time in nanoseconds."""
    end_ns: int
    attributes: Mapping[str, Any]
    """Its own."""
    shared: Mapping[str, Any]
    """Those of its whole trace: one object for all spans of a batch that have the same, so that it
    need be encoded only once. A name is never in both."""
    status: int = UNSET
    message: str = ""
    """Words for the status."""
    kind: int = INTERNAL
    events: Sequence[SpanEvent] = ()
    links: Sequence[SpanLink] = ()
    scope: tuple[str, str] = ("pocketflow-async", "")
    """Name and version of what made the span."""
    state: str = ""
    """W3C tracestate."""
    is_remote: bool = False
    """Whether its parent is in another process."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for one request.

    Attributes:
        status: HTTP status, or the gRPC code's HTTP counterpart; None: there was no answer.
        said: What came back, or what went wrong, in one line of at most 300 characters.
        retry_after: Seconds that the server asks to wait; None: it did not.
        rejected: Spans that the server refused for good while it took the rest.
        valid: Whether a positive answer is one that an OTLP receiver would give.
    """

    status: int | None
    said: str = ""
    retry_after: float | None = None
    rejected: int = 0
    valid: bool = True
