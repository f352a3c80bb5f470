"""The standard variables of OpenTelemetry and Langfuse, as `TracingConfig.from_env` reads them."""

import itertools
import logging
import string
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.resources import OTELResourceDetector
from opentelemetry.util.re import parse_env_headers

from tracing.config import OTHER_VARIABLES, VARIABLES, TracingConfig
from tracing.export import variables
from tracing.export.configured import route

OTLP = "OTEL_EXPORTER_OTLP_"
TRACES = "OTEL_EXPORTER_OTLP_TRACES_"
SERVER = "http://collector:4318"


@pytest.fixture(autouse=True)
def _clean(monkeypatch, tmp_path):
    """Start without any variable, in a folder without `.env`, with nothing said yet."""
    for variable in {*VARIABLES.values(), *itertools.chain(*OTHER_VARIABLES.values())}:
        monkeypatch.setenv(variable, "")
        monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)
    variables.warn.cache_clear()


@pytest.fixture
def said(monkeypatch):
    """Return what a config says when the environment says this."""

    def said(environ):
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        return TracingConfig.from_env()

    return said


@pytest.mark.parametrize(
    ("environ", "field", "expected"),
    [
        # endpoints: the general one is a base, the traces' own is taken as it is
        ({OTLP + "ENDPOINT": SERVER}, "otlp_endpoint", SERVER + "/v1/traces"),
        ({OTLP + "ENDPOINT": SERVER + "/"}, "otlp_endpoint", SERVER + "/v1/traces"),
        ({OTLP + "ENDPOINT": SERVER + "/a/b/"}, "otlp_endpoint", SERVER + "/a/b/v1/traces"),
        ({OTLP + "ENDPOINT": SERVER + "/a?b=c"}, "otlp_endpoint", SERVER + "/a/v1/traces?b=c"),
        ({OTLP + "ENDPOINT": f"  {SERVER} "}, "otlp_endpoint", SERVER + "/v1/traces"),
        ({TRACES + "ENDPOINT": SERVER + "/spans"}, "otlp_endpoint", SERVER + "/spans"),
        ({TRACES + "ENDPOINT": SERVER}, "otlp_endpoint", SERVER + "/"),
        (
            {TRACES + "ENDPOINT": SERVER + "/s", OTLP + "ENDPOINT": "http://h"},
            "otlp_endpoint",
            SERVER + "/s",
        ),
        (
            {TRACES + "ENDPOINT": " ", OTLP + "ENDPOINT": "http://h"},
            "otlp_endpoint",
            "http://h/v1/traces",
        ),
        (
            {OTLP + "ENDPOINT": "http://h:4317", OTLP + "PROTOCOL": "grpc"},
            "otlp_endpoint",
            "http://h:4317",
        ),
        ({OTLP + "ENDPOINT": "h:4317", TRACES + "PROTOCOL": "grpc"}, "otlp_endpoint", "h:4317"),
        (
            {OTLP + "ENDPOINT": "unix:///run/o", OTLP + "PROTOCOL": "grpc"},
            "otlp_endpoint",
            "unix:///run/o",
        ),
        # protocols
        ({OTLP + "PROTOCOL": "GRPC "}, "otlp_protocol", "grpc"),
        (
            {OTLP + "PROTOCOL": "grpc", TRACES + "PROTOCOL": "http/json"},
            "otlp_protocol",
            "http/json",
        ),
        ({}, "otlp_protocol", "http/protobuf"),
        # headers
        (
            {OTLP + "HEADERS": "Authorization=Bearer%20a%2Cb"},
            "otlp_headers",
            {"authorization": "Bearer a,b"},
        ),
        (
            {OTLP + "HEADERS": "authorization=Basic YTpi=="},
            "otlp_headers",
            {"authorization": "Basic YTpi=="},
        ),
        ({OTLP + "HEADERS": " a = b ,, c=d%3D,"}, "otlp_headers", {"a": "b", "c": "d="}),
        ({OTLP + "HEADERS": "a=b", TRACES + "HEADERS": "c=d"}, "otlp_headers", {"c": "d"}),
        ({OTLP + "HEADERS": "empty="}, "otlp_headers", {"empty": ""}),
        # how it is sent
        ({OTLP + "COMPRESSION": "None"}, "otlp_compression", "none"),
        (
            {OTLP + "COMPRESSION": "none", TRACES + "COMPRESSION": "gzip"},
            "otlp_compression",
            "gzip",
        ),
        ({OTLP + "TIMEOUT": "2.5"}, "otlp_timeout", 2.5),
        ({OTLP + "TIMEOUT": "3", TRACES + "TIMEOUT": "4"}, "otlp_timeout", 4.0),
        ({OTLP + "CERTIFICATE": "/a.pem"}, "otlp_certificate", "/a.pem"),
        ({OTLP + "CERTIFICATE": "/a", TRACES + "CERTIFICATE": "/b"}, "otlp_certificate", "/b"),
        ({OTLP + "CLIENT_CERTIFICATE": "/c.pem"}, "otlp_client_certificate", "/c.pem"),
        ({TRACES + "CLIENT_KEY": "/k.pem"}, "otlp_client_key", "/k.pem"),
        ({OTLP + "INSECURE": "True"}, "otlp_insecure", True),
        ({OTLP + "INSECURE": "true", TRACES + "INSECURE": "false"}, "otlp_insecure", False),
        ({}, "otlp_insecure", None),
        # what goes out at all
        ({"OTEL_TRACES_EXPORTER": "otlp"}, "otlp", True),
        ({"OTEL_TRACES_EXPORTER": "console, OTLP"}, "otlp", True),
        ({"OTEL_TRACES_EXPORTER": "otlp_proto_http"}, "otlp", True),
        ({"OTEL_TRACES_EXPORTER": "none"}, "otlp", False),
        ({"OTEL_TRACES_EXPORTER": "console"}, "otlp", False),
        ({"OTEL_TRACES_EXPORTER": " "}, "otlp", None),
        ({"OTEL_SDK_DISABLED": "TRUE"}, "export_disabled", True),
        ({"OTEL_SDK_DISABLED": "false"}, "export_disabled", False),
        # the program
        ({"OTEL_SERVICE_NAME": " shop "}, "service_name", "shop"),
        (
            {"OTEL_RESOURCE_ATTRIBUTES": "a=b, c%3Dd = e%2Cf%20g"},
            "resource_attributes",
            {"a": "b", "c=d": "e,f g"},
        ),
        ({"OTEL_RESOURCE_ATTRIBUTES": "a=b=c,"}, "resource_attributes", {"a": "b=c"}),
        ({"LANGFUSE_TRACING_ENVIRONMENT": "staging"}, "environment", "staging"),
        ({"LANGFUSE_RELEASE": "2026.11"}, "release", "2026.11"),
        # Langfuse
        ({"LANGFUSE_TRACING_ENABLED": "False"}, "langfuse_enabled", False),
        ({"LANGFUSE_TIMEOUT": "7"}, "langfuse_timeout", 7.0),
        ({"LANGFUSE_SECRET_KEY": "sk-lf-1\n"}, "langfuse_secret_key", "sk-lf-1"),
        ({"LANGFUSE_HOST": "http://a"}, "langfuse_host", "http://a"),
        ({"LANGFUSE_BASE_URL": "http://b"}, "langfuse_host", "http://b"),
        (
            {"LANGFUSE_HOST": "http://a", "LANGFUSE_BASE_URL": "http://b"},
            "langfuse_host",
            "http://b",
        ),
        ({"LANGFUSE_HOST": "http://a", "LANGFUSE_BASE_URL": " "}, "langfuse_host", "http://a"),
        # redaction
        (
            {"POCKETFLOW_TRACE_REDACT_PATTERNS": "a|b\n c{1,2} \n"},
            "redact_patterns",
            ("a|b", "c{1,2}"),
        ),
    ],
)
def test_what_a_variable_sets(environ, field, expected, said, caplog):
    """Case, space, percent-encoding and precedence; and nothing is complained of."""
    assert getattr(said(environ), field) == expected
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize(
    ("sampler", "argument", "expected"),
    [
        ("always_on", "", (1.0, False)),
        ("always_off", "", (0.0, False)),
        ("traceidratio", "0.25", (0.25, False)),
        ("TraceIdRatio", " 0.25 ", (0.25, False)),
        ("traceidratio", "", (1.0, False)),
        ("parentbased_always_on", "", (1.0, True)),
        ("parentbased_always_off", "0.5", (0.0, True)),
        ("parentbased_traceidratio", "0.1", (0.1, True)),
        ("", "0.1", (1.0, True)),
    ],
)
def test_samplers(sampler, argument, expected, said, caplog):
    """The names of the specification, in any case; an argument alone says nothing."""
    config = said({"OTEL_TRACES_SAMPLER": sampler, "OTEL_TRACES_SAMPLER_ARG": argument})

    assert (config.sample_rate, config.sample_by_parent) == expected
    assert not caplog.records


def test_whose_share_counts(said):
    """Ours, then that of Langfuse, then OpenTelemetry's, which still says whose parent counts."""
    environ = {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.1"}
    assert said(environ).sample_rate == 0.1
    assert said({"LANGFUSE_SAMPLE_RATE": "0.2"}).sample_rate == 0.2
    config = said({"POCKETFLOW_TRACE_SAMPLE_RATE": "0.3"})
    assert (config.sample_rate, config.sample_by_parent) == (0.3, False)

    assert said({"POCKETFLOW_TRACE_SAMPLE_BY_PARENT": "yes"}).sample_by_parent is True


@pytest.mark.parametrize(
    ("environ", "field", "expected"),
    [
        ({OTLP + "ENDPOINT": "collector:4318"}, "otlp_endpoint", None),
        ({OTLP + "ENDPOINT": "ftp://collector"}, "otlp_endpoint", None),
        ({OTLP + "ENDPOINT": "http://h:port"}, "otlp_endpoint", None),
        ({OTLP + "ENDPOINT": "http://[::1"}, "otlp_endpoint", None),
        ({OTLP + "ENDPOINT": "ftp://h", OTLP + "PROTOCOL": "grpc"}, "otlp_endpoint", None),
        (
            {TRACES + "ENDPOINT": "x", OTLP + "ENDPOINT": SERVER},
            "otlp_endpoint",
            SERVER + "/v1/traces",
        ),
        ({OTLP + "PROTOCOL": "http"}, "otlp_protocol", "http/protobuf"),
        ({TRACES + "PROTOCOL": "h2", OTLP + "PROTOCOL": "grpc"}, "otlp_protocol", "grpc"),
        ({OTLP + "HEADERS": "nothing"}, "otlp_headers", None),
        ({OTLP + "HEADERS": "a=b,c;d=e,f=x%0Ag,h=i;j"}, "otlp_headers", {"a": "b"}),
        ({OTLP + "HEADERS": "a=%ff,b=c"}, "otlp_headers", {"b": "c"}),
        ({OTLP + "COMPRESSION": "zstd"}, "otlp_compression", "gzip"),
        ({OTLP + "COMPRESSION": "deflate", TRACES + "COMPRESSION": ""}, "otlp_compression", "gzip"),
        ({OTLP + "TIMEOUT": "soon"}, "otlp_timeout", 10.0),
        ({OTLP + "TIMEOUT": "-1"}, "otlp_timeout", 10.0),
        ({OTLP + "TIMEOUT": "inf"}, "otlp_timeout", 10.0),
        ({OTLP + "TIMEOUT": "0"}, "otlp_timeout", 10.0),
        ({OTLP + "TIMEOUT": "5000"}, "otlp_timeout", 5.0),
        ({OTLP + "INSECURE": "1"}, "otlp_insecure", False),
        ({"OTEL_SDK_DISABLED": "yes"}, "export_disabled", False),
        ({"OTEL_TRACES_EXPORTER": "carrier-pigeon"}, "otlp", None),
        ({"OTEL_TRACES_SAMPLER": "jaeger_remote"}, "sample_rate", 1.0),
        ({"OTEL_TRACES_SAMPLER": "xray"}, "sample_by_parent", True),
        (
            {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "2"},
            "sample_rate",
            1.0,
        ),
        (
            {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "x"},
            "sample_rate",
            1.0,
        ),
        ({"OTEL_RESOURCE_ATTRIBUTES": "a=b,c"}, "resource_attributes", {"a": "b"}),
        ({"OTEL_RESOURCE_ATTRIBUTES": "a=b,=c,d=%ff"}, "resource_attributes", {"a": "b"}),
    ],
)
def test_what_cannot_be_is_reported_and_passed_over(environ, field, expected, said, caplog):
    """As the specification has it: a warning that names the variable, and the next best value."""
    assert getattr(said(environ), field) == expected
    warned = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert warned
    assert all(any(name in record.getMessage() for name in environ) for record in warned)


def test_the_same_defect_is_reported_once(said, caplog):
    """Each decorated flow reads the environment; the log has one line."""
    said({OTLP + "PROTOCOL": "smoke"})
    said({})

    assert len(caplog.records) == 1


def test_a_console_exporter_is_mentioned_for_those_who_look(said, caplog):
    """It is no defect: a line for debugging."""
    caplog.set_level(logging.DEBUG, "tracing")
    said({"OTEL_TRACES_EXPORTER": "console"})

    assert [record.levelno for record in caplog.records] == [logging.DEBUG]
    assert "console" in caplog.text


def test_two_hosts_that_differ_are_mentioned(said, caplog):
    """The log for debugging says which one counts; equal ones are not worth a line."""
    caplog.set_level(logging.DEBUG, "tracing")
    said({"LANGFUSE_HOST": "http://a", "LANGFUSE_BASE_URL": "http://a"})
    assert not caplog.records
    said({"LANGFUSE_BASE_URL": "http://b"})

    assert "LANGFUSE_BASE_URL and LANGFUSE_HOST differ" in caplog.text


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("LANGFUSE_SAMPLE_RATE", "2"),
        ("LANGFUSE_SAMPLE_RATE", "half"),
        ("LANGFUSE_TIMEOUT", "-1"),
        ("LANGFUSE_TRACING_ENABLED", "perhaps"),
    ],
)
def test_an_error_names_the_variable_that_was_set(variable, text, said):
    """Not another one that sets the same field."""
    with pytest.raises(ValueError, match=variable):
        said({variable: text})


@pytest.mark.parametrize(
    "environ",
    [
        {OTLP + "HEADERS": "authorization=s3cret;x,s3cret,a=s3cret%0A"},
        {OTLP + "ENDPOINT": "https://user:s3cret@h:port"},
        {OTLP + "ENDPOINT": "user:s3cret@h"},
        {OTLP + "ENDPOINT": "ftp://user:s3cret@h/?s3cret"},
        {OTLP + "ENDPOINT": "user:s3cret@h", OTLP + "PROTOCOL": "grpc"},
        {OTLP + "ENDPOINT": "http://[s3cret"},
    ],
)
def test_no_secret_is_in_the_log(environ, said, caplog):
    """Headers are told by number, addresses without what may be a password."""
    said(environ)

    assert caplog.records
    assert "s3cret" not in caplog.text


TOKEN = st.text(string.ascii_letters + string.digits + "!#$&'*+-.^_`|~", min_size=1)
PRINTABLE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E))


@given(st.dictionaries(TOKEN.map(str.lower), PRINTABLE, min_size=1))
def test_encoded_headers_come_back(headers):
    """Whatever HTTP can carry, percent-encoded, is read as it was meant."""
    text = ",".join(f"{name}={quote(value, safe='')}" for name, value in headers.items())

    assert variables.headers(text, "V") == headers


@given(st.text(string.ascii_letters + string.digits + ' ,=%-_.:/;"\t'))
def test_headers_are_those_that_the_official_exporter_sends(text):
    """Any text: the same headers as from its own parser; a `%` in a name is the one exception."""
    theirs = parse_env_headers(text, liberal=True)
    if any("%" in part.partition("=")[0] for part in text.split(",")):
        return
    ours = variables.headers(text, "V") or {}

    clean = {n: v for n, v in theirs.items() if "\ufffd" not in v and v.isprintable()}
    assert ours.items() >= clean.items()
    assert ours.keys() <= theirs.keys()


@given(st.text())
def test_no_text_of_headers_breaks_anything(text):
    """Any text at all is read, and what comes out can be sent."""
    for name, value in (variables.headers(text, "V") or {}).items():
        assert name == name.lower()
        assert value == value.strip()
        assert not set(name + value) & set("\r\n\0")


@given(st.dictionaries(st.text(min_size=1), st.text(), min_size=1))
def test_encoded_attributes_come_back(attributes):
    """Any names and values, percent-encoded; space around them is not kept."""
    wanted = {k.strip(): v.strip() for k, v in attributes.items() if k.strip() and _encodes(k + v)}
    text = ",".join(f" {quote(k)} = {quote(v)} " for k, v in wanted.items())

    assert (variables.attributes(text, "V") or {}) == wanted


def _encodes(text):
    return not any(0xD800 <= ord(one) <= 0xDFFF for one in text)


STANDARD = sorted(
    name
    for name in {*VARIABLES.values(), *itertools.chain(*OTHER_VARIABLES.values())}
    if name.startswith("OTEL_")
)
ODD = st.sampled_from(["grpc", "http://h", "1e400", "nan", "true", "-0", "a=b", "://", "[", "@"])


@given(st.dictionaries(st.sampled_from(STANDARD), st.text() | ODD))
def test_no_environment_of_opentelemetry_is_an_error(environ):
    """Whatever the standard variables hold, a config is made, and a route of it."""
    config = TracingConfig(**variables.read(environ))

    found = route(config)
    assert found is None or len(found.targets) <= 1


@given(st.text(string.ascii_letters + "%20,= ."))
def test_attributes_are_those_that_the_official_sdk_has(text):
    """Any text: the same as from its own detector; it leaves a `%` in a name as it is."""
    if any("%" in part.partition("=")[0] for part in text.split(",")):
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_RESOURCE_ATTRIBUTES", text)
        patch.delenv("OTEL_SERVICE_NAME", raising=False)
        theirs = OTELResourceDetector().detect().attributes

    ours = variables.attributes(text, "V") or {}
    wanted = {name: value.strip() for name, value in theirs.items() if name}
    assert ours == {name: value for name, value in wanted.items() if "\ufffd" not in value}
