"""The command `pocketflow-tracing-setup`: tell whether Langfuse is configured and answers.

Traces are kept in the local store without any of this; it is about the account they go to.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tracing.config import VARIABLES, TracingConfig
from tracing.export.configured import CLOUD
from tracing.utils.asking import Answer, ask

logger = logging.getLogger(__name__)

_KEYS = ("langfuse_secret_key", "langfuse_public_key")

_HELP = """\
Traces are kept in a local file and shown by `pocketflow-async`; nothing has to be set for that.

To send them to Langfuse too, name your project by these variables, or put them into a file named
.env in the folder you start from (variables that are set already win); `--test` asks the host
whether it knows the keys:

    LANGFUSE_SECRET_KEY=sk-lf-...
    LANGFUSE_PUBLIC_KEY=pk-lf-...
    LANGFUSE_HOST=https://cloud.langfuse.com

Both keys are on the page "API Keys" of your project's settings; the host is the one shown unless
you set another. LANGFUSE_BASE_URL is the same as LANGFUSE_HOST, and wins over it. Also:

    LANGFUSE_TRACING_ENABLED=true         false: send nothing to Langfuse
    LANGFUSE_TIMEOUT=10                   seconds that one request may take
    LANGFUSE_TRACING_ENVIRONMENT=         such as staging
    LANGFUSE_RELEASE=                     release of your program

To send them to any OpenTelemetry receiver (these are its standard variables; each with
OTEL_EXPORTER_OTLP_TRACES_ in place of OTEL_EXPORTER_OTLP_ wins over the one without):

    OTEL_EXPORTER_OTLP_ENDPOINT=          such as http://localhost:4318; /v1/traces is added
    OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf     or http/json, grpc
    OTEL_EXPORTER_OTLP_HEADERS=           name=value,name=value; values percent-encoded
    OTEL_EXPORTER_OTLP_COMPRESSION=gzip   or none
    OTEL_EXPORTER_OTLP_TIMEOUT=10         seconds that one request may take
    OTEL_EXPORTER_OTLP_CERTIFICATE=       file that the server's certificate is checked against
    OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE=        file of the client's certificate
    OTEL_EXPORTER_OTLP_CLIENT_KEY=        file of its key
    OTEL_EXPORTER_OTLP_INSECURE=false     for grpc without http:// or https://: no TLS
    OTEL_TRACES_EXPORTER=                 otlp: send even without an endpoint; none: do not
    OTEL_SERVICE_NAME=                    what your program is called
    OTEL_RESOURCE_ATTRIBUTES=             name=value,name=value; values percent-encoded
    OTEL_SDK_DISABLED=false               true: send nothing anywhere

What goes where and how:

    POCKETFLOW_TRACE_EXPORTERS=           langfuse, otlp, otel or none: just these
    POCKETFLOW_TRACE_DETAIL=phases        nodes: prep, exec and post are no spans of their own
    POCKETFLOW_TRACE_PREP=true            whether each of them is one
    POCKETFLOW_TRACE_EXEC=true
    POCKETFLOW_TRACE_POST=true
    POCKETFLOW_TRACE_VERSION=             version of your program

What is recorded (the values shown are the defaults):

    POCKETFLOW_TRACE_INPUTS=true          contents going in
    POCKETFLOW_TRACE_OUTPUTS=true         contents coming out
    POCKETFLOW_TRACE_ERRORS=true          messages and lines of errors, or their type only
    POCKETFLOW_TRACE_SAMPLE_RATE=1.0      the share of traces that are recorded
    POCKETFLOW_TRACE_SAMPLE_BY_PARENT=true    a trace begun elsewhere is recorded if it is there
    POCKETFLOW_TRACE_KEEP=                failed, slow, retried: sent whatever the share
    POCKETFLOW_TRACE_SLOW_TRACE_SECONDS=10    from when on a trace is slow
    POCKETFLOW_TRACE_REDACT=true          replace values under keys that look secret
    POCKETFLOW_TRACE_REDACT_PATTERNS=     regular expressions of what is secret, || between two
    POCKETFLOW_TRACE_REDACT_KEYS=         more keys whose values are secret, with commas between
    POCKETFLOW_TRACE_VALUE_LIMIT=32768    bytes of one content; longer ones are cut
    POCKETFLOW_TRACE_STORE=               a path, `memory` or `off`
    POCKETFLOW_SESSION_ID=                session and user of all traces
    POCKETFLOW_USER_ID=
    POCKETFLOW_TRACING_DEBUG=false        log what tracing does
    POCKETFLOW_TRACE_ASYNC_LIFECYCLE=true     lifecycles of node runs
    POCKETFLOW_TRACE_ASYNC_CONTEXT=false      say in which asyncio task a span ran
    POCKETFLOW_TRACE_CONCURRENT_FLOWS=true    say how many runs of a flow were under way
    POCKETFLOW_ASYNC_ERROR_RECOVERY=true      run registered recovery strategies
    POCKETFLOW_PERFORMANCE_MONITORING=false   find slow nodes and what blocks the event loop
    POCKETFLOW_SLOW_NODE_SECONDS=1        from when on a node is slow
    POCKETFLOW_BLOCK_THRESHOLD_SECONDS=0.1    how long the loop may stand still

LANGFUSE_SAMPLE_RATE and OTEL_TRACES_SAMPLER with OTEL_TRACES_SAMPLER_ARG count where
POCKETFLOW_TRACE_SAMPLE_RATE is not set, in this order.

Then check it:

    pocketflow-tracing-setup --test
"""


def setup_tracing(env_file: str | Path | None = None) -> TracingConfig:
    """Read the configuration, and make sure that Langfuse accepts it.

    Asks the host over the network: up to 10 seconds, and not for the event loop.

    Args:
        env_file: A `.env` file to read first; when left out, that of the working directory.

    Raises:
        RuntimeError: Something is missing or wrong; the message says what to do.
    """
    if env_file is not None and not Path(env_file).is_file():
        raise RuntimeError(
            f"there is no file {os.fspath(env_file)!r}: give the path of your .env file, "
            "or none to use the one in the working directory"
        )
    try:
        config = TracingConfig.from_env(env_file)
    except (OSError, ValueError) as error:
        raise RuntimeError(f"the configuration cannot be used: {error}") from error
    _require(config)
    if not config.langfuse_host:
        config = replace(config, langfuse_host=CLOUD)
    answer = ask(config)
    if not answer.is_ok:
        raise RuntimeError(_advice(config, answer))
    return config


def test_langfuse_connection(config: TracingConfig) -> bool:
    """Return whether the host answers and knows the keys.

    Asks it over the network, at most 5 seconds for each of two requests; on the event loop use
    `await asyncio.to_thread(test_langfuse_connection, config)`.
    """
    if not config.validate():
        return False
    answer = ask(config)
    if not answer.is_ok:
        logger.log(logging.WARNING if config.debug else logging.INFO, "%s", _advice(config, answer))
    return answer.is_ok


test_langfuse_connection.__test__ = False  # type: ignore[attr-defined]  # pytest: this is no test


def print_configuration_help() -> None:
    """Print which variables there are and what they do."""
    sys.stdout.write(_HELP)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code: 0, or 1 when something is not right."""
    parser = argparse.ArgumentParser(
        prog="pocketflow-tracing-setup",
        description="Check the configuration of tracing, and that Langfuse accepts it.",
    )
    parser.add_argument(
        "--test", action="store_true", help="ask Langfuse whether the keys are right"
    )
    parser.add_argument("--help-config", action="store_true", help="list the variables")
    parser.add_argument("--env-file", metavar="PATH", help="a .env file to read first")
    given = parser.parse_args(arguments)
    if given.help_config:
        print_configuration_help()
        return 0
    if not given.test:
        parser.print_help()
        return 0
    try:
        config = setup_tracing(given.env_file)
    except RuntimeError as error:
        sys.stderr.write(f"not ready: {error}\n")
        return 1
    sys.stdout.write(f"ready: {config.langfuse_host} answers and accepts the keys\n")
    return 0


def _require(config: TracingConfig) -> None:
    missing = [VARIABLES[name] for name in _KEYS if not getattr(config, name)]
    if missing:
        raise RuntimeError(
            f"not set: {', '.join(missing)}; for another host than {CLOUD} also LANGFUSE_HOST. "
            "Set them, or put them into a .env file; "
            "`pocketflow-tracing-setup --help-config` lists all variables"
        )


def _advice(config: TracingConfig, answer: Answer) -> str:
    host, variable = config.langfuse_host, _host_variable()
    match answer.status:
        case None:
            return f"{host} does not answer ({answer.reason}): check {variable} and the network"
        case 401 | 403:
            return (
                f"{host} refuses the keys (status {answer.status}): check LANGFUSE_PUBLIC_KEY and "
                "LANGFUSE_SECRET_KEY, and that they are of a project on this host"
            )
        case 404:
            return f"{host} is no Langfuse server (status 404): check {variable}"
        case status if 300 <= status < 400:
            return f"{host} sends elsewhere (status {status}): put that address in {variable}"
        case status:
            return f"{host} is in trouble (status {status}, {answer.reason}): try again later"


def _host_variable() -> str:
    """Return the variable that says where Langfuse is: of the two that can, the one in force."""
    names = ("LANGFUSE_BASE_URL", "LANGFUSE_HOST")
    return next((name for name in names if os.environ.get(name, "").strip()), names[0])


if __name__ == "__main__":
    sys.exit(main())
