"""Settings of tracing: from arguments, or from the environment."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tracing.checking import DETAILS, KEPT, SECRETS, Processor, check, parse
from tracing.export import variables
from tracing.export.address import told

if TYPE_CHECKING:
    from tracing.export.model import Target

logger = logging.getLogger(__name__)

VARIABLES = {
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
    "redact": "POCKETFLOW_TRACE_REDACT",
    "redact_keys": "POCKETFLOW_TRACE_REDACT_KEYS",
    "trace_async_lifecycle": "POCKETFLOW_TRACE_ASYNC_LIFECYCLE",
    "trace_async_context": "POCKETFLOW_TRACE_ASYNC_CONTEXT",
    "trace_concurrent_flows": "POCKETFLOW_TRACE_CONCURRENT_FLOWS",
    "async_error_recovery": "POCKETFLOW_ASYNC_ERROR_RECOVERY",
    "performance_monitoring": "POCKETFLOW_PERFORMANCE_MONITORING",
    "slow_node_seconds": "POCKETFLOW_SLOW_NODE_SECONDS",
    "block_threshold_seconds": "POCKETFLOW_BLOCK_THRESHOLD_SECONDS",
    "sample_rate": "POCKETFLOW_TRACE_SAMPLE_RATE",
    "exporters": "POCKETFLOW_TRACE_EXPORTERS",
    "detail": "POCKETFLOW_TRACE_DETAIL",
    "langfuse_enabled": "LANGFUSE_TRACING_ENABLED",
    "langfuse_timeout": "LANGFUSE_TIMEOUT",
    "environment": "LANGFUSE_TRACING_ENVIRONMENT",
    "release": "LANGFUSE_RELEASE",
    "version": "POCKETFLOW_TRACE_VERSION",
    "otlp": "OTEL_TRACES_EXPORTER",
    "otlp_endpoint": "OTEL_EXPORTER_OTLP_ENDPOINT",
    "otlp_protocol": "OTEL_EXPORTER_OTLP_PROTOCOL",
    "otlp_headers": "OTEL_EXPORTER_OTLP_HEADERS",
    "otlp_compression": "OTEL_EXPORTER_OTLP_COMPRESSION",
    "otlp_timeout": "OTEL_EXPORTER_OTLP_TIMEOUT",
    "otlp_certificate": "OTEL_EXPORTER_OTLP_CERTIFICATE",
    "otlp_client_certificate": "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
    "otlp_client_key": "OTEL_EXPORTER_OTLP_CLIENT_KEY",
    "otlp_insecure": "OTEL_EXPORTER_OTLP_INSECURE",
    "service_name": "OTEL_SERVICE_NAME",
    "resource_attributes": "OTEL_RESOURCE_ATTRIBUTES",
    "export_disabled": "OTEL_SDK_DISABLED",
    "sample_by_parent": "POCKETFLOW_TRACE_SAMPLE_BY_PARENT",
    "keep": "POCKETFLOW_TRACE_KEEP",
    "slow_trace_seconds": "POCKETFLOW_TRACE_SLOW_TRACE_SECONDS",
    "redact_patterns": "POCKETFLOW_TRACE_REDACT_PATTERNS",
}
"""The environment variable of each field that has one."""

OTHER_VARIABLES = {
    "langfuse_host": ("LANGFUSE_BASE_URL",),
    "sample_rate": ("LANGFUSE_SAMPLE_RATE", "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"),
    "sample_by_parent": ("OTEL_TRACES_SAMPLER",),
    **{
        name: (variable.replace(variables.GENERAL, variables.TRACES),)
        for name, variable in VARIABLES.items()
        if variable.startswith(variables.GENERAL)
    },
}
"""More variables that set a field."""

_OWN = (
    ("sample_rate", "LANGFUSE_SAMPLE_RATE"),
    *((name, variable) for name, variable in VARIABLES.items() if not variable.startswith("OTEL_")),
    ("langfuse_host", "LANGFUSE_BASE_URL"),
)
"""Fields and variables that are read here, the one that wins last."""


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
        trace_async_lifecycle: Whether the states of recent node runs are kept in memory, for
            `AsyncLifecycleManager`.
        trace_async_context: Whether spans say in which asyncio task they ran, where that is not
            the task of the span around them.
        trace_concurrent_flows: Whether a run notes how many runs of its flow were under way when
            it began.
        async_error_recovery: Whether recovery strategies are run.
        performance_monitoring: Whether slow nodes and a blocked event loop are reported.
        slow_node_seconds: How long a node may run before it counts as slow, in seconds.
        block_threshold_seconds: How long the event loop may stand still, in seconds.
        sample_rate: The share of traces that are recorded, 0.0 to 1.0. Whole traces: what runs
            inside a trace that is left out is left out with it. With `keep` all are recorded, and
            the share is that of the traces that are sent.
        exporters: Where traces are sent to: names ("langfuse", "otlp", "otel" for the processors
            of the global TracerProvider, "none"), `tracing.export.model.Target` objects and
            OpenTelemetry SpanProcessors. Empty: Langfuse if its keys are given, and OTLP if
            `otlp_endpoint` is.
        detail: "phases" or "nodes": whether prep, exec and post are spans where traces are sent
            to, or the node alone is one. The local store always has the phases.
        langfuse_enabled: Whether anything is sent to Langfuse.
        langfuse_timeout: How long one request to Langfuse may take, in seconds.
        environment: Where the program runs, such as "staging".
        release: Release of the program, as Langfuse shows it.
        version: Version of the program; `service.version` of OpenTelemetry.
        otlp: Whether traces are sent by OTLP; None: if `otlp_endpoint` is given.
        otlp_endpoint: URL that traces are sent to by OTLP; one without a path gets `/v1/traces`.
            For gRPC `host:port`, or a URL of it.
        otlp_protocol: "http/protobuf", "http/json" or "grpc".
        otlp_headers: Headers of the requests, such as those that say who is sending.
        otlp_compression: "gzip" or "none".
        otlp_timeout: How long one request may take, in seconds.
        otlp_certificate: File of certificates that the server's is checked against.
        otlp_client_certificate: File of the client's own certificate.
        otlp_client_key: File of its key.
        otlp_insecure: For gRPC to an address without http:// or https://, whether to connect
            without TLS; None: with TLS.
        service_name: What the program is called; without it, `unknown_service:` and its script.
        resource_attributes: More attributes of the program, by OpenTelemetry's names.
        export_disabled: Whether nothing is sent anywhere; the local store stays.
        sample_by_parent: Whether a trace that another system began is recorded if, and only if,
            that one records it, whatever the `sample_rate`.
        keep: Which traces are sent although the `sample_rate` left them out: "failed" ones,
            "slow" ones, and those in which something was "retried".
        slow_trace_seconds: How long a trace may take before it counts as slow, in seconds.
        redact_patterns: Regular expressions; what they match in any text is replaced before
            anything is written. In the variable there is `||` or a line break between two.
        redact_function: Called with each content before it is written; its result is written.

    Raises:
        ValueError: A field has a value that cannot be; the message names it and its variable.
        TypeError: A field has a value of a wrong type; likewise.
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
    _: KW_ONLY
    trace_async_lifecycle: bool = True
    trace_async_context: bool = False
    trace_concurrent_flows: bool = True
    async_error_recovery: bool = True
    performance_monitoring: bool = False
    slow_node_seconds: float = 1.0
    block_threshold_seconds: float = 0.1
    sample_rate: float = 1.0
    exporters: tuple[str | Target | Processor, ...] = ()
    detail: DETAILS = "phases"
    langfuse_enabled: bool = True
    langfuse_timeout: float = 10.0
    environment: str | None = None
    release: str | None = None
    version: str | None = None
    otlp: bool | None = None
    otlp_endpoint: str | None = None
    otlp_protocol: Literal["http/protobuf", "http/json", "grpc"] = "http/protobuf"
    otlp_headers: Mapping[str, str] | None = None
    otlp_compression: Literal["gzip", "none"] = "gzip"
    otlp_timeout: float = 10.0
    otlp_certificate: str | None = None
    otlp_client_certificate: str | None = None
    otlp_client_key: str | None = None
    otlp_insecure: bool | None = None
    service_name: str | None = None
    resource_attributes: Mapping[str, Any] | None = None
    export_disabled: bool = False
    sample_by_parent: bool = True
    keep: tuple[KEPT, ...] = ()
    slow_trace_seconds: float = 10.0
    redact_patterns: tuple[str, ...] = ()
    redact_function: Callable[[Any], Any] | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            name, value = field.name, getattr(self, field.name)
            setattr(self, name, check(name, VARIABLES.get(name), value, field.default))

    def __repr__(self) -> str:
        """Name what differs from the defaults; keys are not shown."""
        changed = [
            f"{field.name}={_shown(field.name, getattr(self, field.name))}"
            for field in fields(self)
            if getattr(self, field.name) != field.default
        ]
        return f"TracingConfig({', '.join(changed)})"

    @classmethod
    def from_env(cls, env_file: str | Path | None = None) -> TracingConfig:
        """Build the settings from environment variables.

        Those of OpenTelemetry count where ours and Langfuse's say nothing; what they say and
        cannot be is reported in the log and passed over.

        Args:
            env_file: A `.env` file to read first; when left out, the `.env` of the working
                directory, or of the nearest folder above it that has one. Variables that are set
                already win. What the file sets stays in `os.environ`, as python-dotenv has it.

        Raises:
            ValueError: A variable of ours or of Langfuse has a value that cannot be; the message
                names it.
        """
        if env_file is None:
            _load_nearest()
        else:
            _load(env_file)
        given = variables.read(os.environ)
        for name, variable in _OWN:
            text = os.environ.get(variable, "")
            if text.strip():
                default = getattr(cls, name)
                value = check(name, variable, parse(name, variable, text, default), default)
                if variable == "LANGFUSE_BASE_URL" and given.get(name, value) != value:
                    logger.debug("LANGFUSE_BASE_URL and LANGFUSE_HOST differ: the first one counts")
                given[name] = value
        return cls(**given)

    def validate(self) -> bool:
        """Return whether the three settings of Langfuse are there; with `debug` log the others."""
        missing = [
            VARIABLES[name]
            for name in ("langfuse_secret_key", "langfuse_public_key", "langfuse_host")
            if not getattr(self, name)
        ]
        if missing and self.debug:
            logger.warning("Langfuse is not configured: %s missing", ", ".join(missing))
        return not missing

    def to_langfuse_kwargs(self) -> dict[str, Any]:
        """Return what a Langfuse client is made with; keys that are not set are left out."""
        kwargs: dict[str, Any] = {
            "secret_key": self.langfuse_secret_key,
            "public_key": self.langfuse_public_key,
            "host": self.langfuse_host,
        }
        kwargs = {name: value for name, value in kwargs.items() if value}
        if self.debug:
            kwargs["debug"] = True
        return kwargs


def _shown(name: str, value: Any) -> str:
    """Return *value* for the repr: keys and what headers say are `***`."""
    if name == "otlp_headers" and value:
        return repr(dict.fromkeys(value, "***"))
    if name in SECRETS:
        return "'***'" if value else repr(value)
    if name in ("langfuse_host", "otlp_endpoint") and isinstance(value, str):
        return repr(told(value))
    if name == "exporters":  # a processor's own repr may tell anything
        told_of = [repr(one) if isinstance(one, str) else type(one).__name__ for one in value]
        return f"({', '.join(told_of)}{',' * (len(told_of) == 1)})"
    return repr(value)


def _load(file: str | Path) -> None:
    from dotenv import load_dotenv  # noqa: PLC0415 (only for those who have a file)

    load_dotenv(file)


def _load_nearest() -> None:
    """Read the nearest `.env`; one that cannot be read is reported and passed over."""
    try:
        here = Path.cwd()
        for folder in (here, *here.parents):
            if (folder / ".env").is_file():
                _load(folder / ".env")
                return
    except (OSError, UnicodeDecodeError) as error:
        logger.warning("the .env file cannot be read: %s", error)
