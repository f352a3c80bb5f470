"""`configured.route`: where the records of a config's runs go, and how they look there."""

import base64
import dataclasses
import gc
import logging

import pytest

from tracing.config import TracingConfig
from tracing.export import resource as resources
from tracing.export.configured import CLOUD, NAMES, route
from tracing.export.model import PHASES, Route, Target

KEYS = {"langfuse_public_key": "pk-lf-p", "langfuse_secret_key": "sk-lf-s3cret"}
SERVER = "http://collector:4318"


class Processor:
    """What is asked of a SpanProcessor, and nothing more."""

    def on_end(self, span):
        pass

    def force_flush(self, timeout_millis=30_000):
        return True


@dataclasses.dataclass
class Hashless(Processor):
    """Equal to others of its kind, and without a hash."""

    name: str = "same"


class Slotted:
    """One that no weak reference can be made of."""

    __slots__ = ()

    def on_end(self, span):
        pass

    def force_flush(self, timeout_millis=30_000):
        return True


def targets(**settings):
    found = route(TracingConfig(**settings))
    return () if found is None else found.targets


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({}, []),
        (KEYS, ["langfuse"]),
        ({"otlp_endpoint": SERVER}, ["otlp"]),
        ({**KEYS, "otlp_endpoint": SERVER}, ["langfuse", "otlp"]),
        ({"otlp": True}, ["otlp"]),
        ({**KEYS, "otlp": True}, ["langfuse", "otlp"]),
        ({"otlp": False, "otlp_endpoint": SERVER}, []),
        ({**KEYS, "langfuse_enabled": False}, []),
        ({"exporters": ("otlp",)}, ["otlp"]),
        ({**KEYS, "exporters": ("otlp",)}, ["otlp"]),
        ({**KEYS, "otlp_endpoint": SERVER, "exporters": ("langfuse",)}, ["langfuse"]),
        ({**KEYS, "exporters": ("otlp", "langfuse", "otlp")}, ["otlp", "langfuse"]),
        ({**KEYS, "exporters": ("langfuse",), "langfuse_enabled": False}, []),
        ({"exporters": ("otlp",), "otlp": False}, ["otlp"]),
        ({"exporters": ("otel",)}, ["otel"]),
        ({**KEYS, "exporters": ("none",)}, []),
        ({**KEYS, "exporters": ("none", "none")}, []),
        ({"exporters": (Target("mine", "http://h"), "otel")}, ["mine", "otel"]),
        ({"exporters": (Processor(),)}, ["Processor"]),
        ({**KEYS, "otlp_endpoint": SERVER, "export_disabled": True}, []),
    ],
)
def test_which_targets_there_are(settings, names):
    """By itself what is configured; with names just these, in their order, each once."""
    assert [target.name for target in targets(**settings)] == names


def test_off_is_another_thing_than_nowhere():
    """Switched off there is no route; without targets there is one, for a push later on."""
    assert route(TracingConfig(export_disabled=True)) is None
    found = route(TracingConfig())

    assert isinstance(found, Route)
    assert found.resource["service.name"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"exporters": ("jaeger",)}, [repr("jaeger"), *NAMES, "POCKETFLOW_TRACE_EXPORTERS"]),
        ({"exporters": ("none", "otlp")}, ["'none' stands alone", "POCKETFLOW_TRACE_EXPORTERS"]),
        ({"exporters": ("langfuse",)}, ["LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY"]),
        ({"exporters": ("langfuse",), "langfuse_public_key": "p"}, ["set: LANGFUSE_SECRET_KEY"]),
        ({**KEYS, "langfuse_host": "ftp://h"}, ["LANGFUSE_HOST", "ftp://h"]),
        ({**KEYS, "langfuse_host": "https://u:s3cret@h:x"}, ["LANGFUSE_HOST", "***@h:x"]),
        ({**KEYS, "langfuse_secret_key": "s3cret key"}, ["LANGFUSE_SECRET_KEY"]),
        ({"otlp_endpoint": "collector:4318"}, ["OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"]),
        ({"otlp_endpoint": "ftp://u:s3cret@h"}, ["OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://***@h"]),
        ({"otlp_endpoint": "ftp://h", "otlp_protocol": "grpc"}, ["OTEL_EXPORTER_OTLP_ENDPOINT"]),
    ],
)
def test_what_cannot_be_a_route(settings, words):
    """The message names the variables, what is wrong with them, and no secret."""
    with pytest.raises(ValueError) as caught:
        route(TracingConfig(**settings))
    assert all(word in str(caught.value) for word in words)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("given", KEYS)
def test_half_of_the_keys_is_a_mistake(given, caplog):
    """One without the other sends nothing, and the log says which is missing."""
    assert targets(**{given: KEYS[given]}) == ()
    assert (KEYS.keys() - {given}).pop().upper() in caplog.text

    caplog.clear()
    assert targets(**{given: KEYS[given]}, langfuse_enabled=False) == ()
    assert not caplog.records


def test_langfuse():
    """Its cloud, unless a host is given; the keys are in a header, the timeout is its own."""
    (cloud,) = targets(**KEYS, langfuse_timeout=3.0)
    (own,) = targets(**KEYS, langfuse_host="http://localhost:3000/")

    pair = base64.b64encode(b"pk-lf-p:sk-lf-s3cret").decode()
    assert cloud.endpoint == CLOUD + "/api/public/otel/v1/traces"
    assert (cloud.dialect, cloud.timeout) == ("langfuse", 3.0)
    assert cloud.headers["authorization"] == f"Basic {pair}"
    assert own.endpoint == "http://localhost:3000/api/public/otel/v1/traces"


@pytest.mark.parametrize(
    ("settings", "endpoint", "insecure"),
    [
        ({}, "http://localhost:4318/v1/traces", None),
        ({"otlp_protocol": "http/json"}, "http://localhost:4318/v1/traces", None),
        ({"otlp_protocol": "grpc"}, "http://localhost:4317", None),
        ({"otlp_endpoint": SERVER}, SERVER + "/v1/traces", None),
        ({"otlp_endpoint": SERVER + "/"}, SERVER + "/", None),
        ({"otlp_endpoint": SERVER + "/spans"}, SERVER + "/spans", None),
        ({"otlp_endpoint": SERVER, "otlp_protocol": "grpc"}, SERVER, None),
        ({"otlp_endpoint": SERVER, "otlp_protocol": "grpc", "otlp_insecure": False}, SERVER, None),
        ({"otlp_endpoint": "h:1", "otlp_protocol": "grpc"}, "h:1", False),
        ({"otlp_endpoint": "h:1", "otlp_protocol": "grpc", "otlp_insecure": True}, "h:1", True),
        ({"otlp_endpoint": "unix:/o", "otlp_protocol": "grpc"}, "unix:/o", True),
    ],
)
def test_where_otlp_goes(settings, endpoint, insecure):
    """Default endpoints of the specification; a scheme says by itself whether there is TLS."""
    (target,) = targets(**settings, exporters=("otlp",))

    assert (target.endpoint, target.insecure) == (endpoint, insecure)


def test_all_that_is_said_of_otlp_is_in_the_target():
    """Nothing is lost on the way."""
    (target,) = targets(
        otlp_endpoint="https://h/v1/traces",
        otlp_protocol="http/json",
        otlp_headers={"X-Team": "a"},
        otlp_compression="none",
        otlp_timeout=2.5,
        otlp_certificate="/ca.pem",
        otlp_client_certificate="/c.pem",
        otlp_client_key="/k.pem",
    )

    assert target == Target(
        "otlp",
        "https://h/v1/traces",
        "http/json",
        headers={"x-team": "a"},
        compression="none",
        timeout=2.5,
        certificate="/ca.pem",
        client_certificate="/c.pem",
        client_key="/k.pem",
    )


def test_a_password_in_the_endpoint_becomes_a_header():
    """The endpoint is shown and stored, so it has none; a header that is given wins."""
    endpoint = "https://user:s3%20cret@h/v1/traces"
    (target,) = targets(otlp_endpoint=endpoint)
    (other,) = targets(otlp_endpoint=endpoint, otlp_headers={"authorization": "Bearer b"})

    assert target.endpoint == other.endpoint == "https://h/v1/traces"
    assert base64.b64decode(target.headers["authorization"].split()[1]) == b"user:s3 cret"
    assert other.headers["authorization"] == "Bearer b"


def test_langfuse_behind_the_standard_variables_is_recognised():
    """Its endpoint gets its attributes and its header; with the keys as well it is one target."""
    pair = base64.b64encode(b"pk-lf-p:sk-lf-s3cret").decode()
    settings = {
        "otlp_endpoint": CLOUD + "/api/public/otel/v1/traces",
        "otlp_headers": {"authorization": f"Basic {pair}"},
    }
    (target,) = targets(**settings)

    assert (target.name, target.dialect) == ("otlp", "langfuse")
    assert target.headers["x-langfuse-ingestion-version"] == "4"
    assert [one.name for one in targets(**settings, **KEYS)] == ["langfuse"]
    other = {**KEYS, "langfuse_public_key": "pk-lf-q"}
    assert [one.name for one in targets(**settings, **other)] == ["langfuse", "otlp"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (KEYS, {**KEYS, "langfuse_public_key": "pk-lf-q"}),
        (KEYS, {**KEYS, "langfuse_host": "http://localhost:3000"}),
        ({"otlp_endpoint": SERVER}, {"otlp_endpoint": SERVER, "otlp_headers": {"x-team": "a"}}),
        ({"otlp_endpoint": SERVER}, {"otlp_endpoint": SERVER, "otlp_protocol": "http/json"}),
        (
            {"otlp_endpoint": SERVER, "otlp_headers": {"authorization": "a"}},
            {"otlp_endpoint": SERVER, "otlp_headers": {"authorization": "b"}},
        ),
        (
            {"otlp_endpoint": "http://u:p@h"},
            {"otlp_endpoint": "http://u:q@h"},
        ),
    ],
)
def test_other_credentials_are_another_target(one, other):
    """What is recorded for one account never goes to another; equal configs have one target."""
    (first,), (second,) = targets(**one), targets(**other)
    (again,) = targets(**one)

    assert first.key != second.key
    assert (first, first.key) == (again, again.key)


def test_another_secret_key_is_the_same_project():
    """What was recorded with a wrong secret key goes out once that has been corrected."""
    (wrong,) = targets(**{**KEYS, "langfuse_secret_key": "sk-lf-wrong"})
    (right,) = targets(**KEYS)

    assert wrong.key == right.key
    assert wrong != right


def test_the_case_of_a_header_is_no_difference():
    """HTTP knows none."""
    (one,) = targets(otlp_endpoint=SERVER, otlp_headers={"X-Team": "a"})
    (other,) = targets(otlp_endpoint=SERVER, otlp_headers={"x-team": "a"})

    assert one.key == other.key


@pytest.mark.parametrize("kind", [Processor, Hashless, Slotted])
def test_two_processors_of_one_class_are_two_targets(kind):
    """Each object has a key of its own, the same each time, and hands over itself."""
    one, other = kind(), kind()
    first, second = targets(exporters=(one, other, one))
    (again,) = targets(exporters=(one,))

    assert first.name == second.name == kind.__name__
    assert (first.processor, second.processor) == (one, other)
    assert first.processor is one
    assert first.protocol == "processor"
    assert again.key == first.key != second.key


def test_the_key_of_a_processor_is_not_given_again():
    """Not even when the object is gone and another is at its place in memory."""
    keys = []
    for _ in range(20):
        keys += [target.key for target in targets(exporters=(Processor(),))]
        gc.collect()

    assert len(set(keys)) == 20


def test_the_global_provider_is_found_later():
    """The target of `otel` has no processor yet."""
    (target,) = targets(exporters=("otel",))

    assert (target.name, target.protocol, target.processor) == ("otel", "processor", None)


def test_a_real_span_processor_is_one():
    """Those of the SDK are taken by what they can do."""
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

    processor = SimpleSpanProcessor(ConsoleSpanExporter())
    (target,) = targets(exporters=[processor])
    processor.shutdown()

    assert target.name == "SimpleSpanProcessor"


def test_no_secret_is_shown():
    """A config, its targets and its route may be logged."""
    config = TracingConfig(
        **KEYS,
        otlp_endpoint="https://user:s3cret@h/v1/traces",
        otlp_headers={"authorization": "Bearer s3cret", "x-other": "s3cret"},
        otlp_client_key="/run/s3cret.pem",
        exporters=("langfuse", "otlp"),
    )
    found = route(config)

    assert len(found.targets) == 2
    shown = f"{config!r} {config} {found!r} {found} {found.shape} {found.addressees}"
    pair = base64.b64encode(b"pk-lf-p:sk-lf-s3cret").decode()
    for secret in ("s3cret", "pk-lf-p", pair):
        assert secret not in shown


@pytest.mark.parametrize(
    ("settings", "shown"),
    [
        ({}, PHASES),
        ({"detail": "nodes"}, set()),
        ({"trace_prep": False}, PHASES - {"prep"}),
        ({"trace_post": False}, PHASES - {"post"}),
        ({"trace_exec": False}, {"prep", "post"}),
    ],
)
def test_which_phases_are_spans(settings, shown):
    """By `detail` and one switch each; fallback and suspensions go with exec."""
    assert route(TracingConfig(**settings)).shown == shown


def test_the_release_is_handed_on():
    """For Langfuse; the resource has the version."""
    found = route(TracingConfig(release="r1", version="1.2"))

    assert found.release == "r1"
    assert found.resource["service.version"] == "1.2"


@pytest.mark.parametrize(
    ("settings", "name", "value"),
    [
        ({}, "telemetry.sdk.name", "pocketflow-async"),
        ({}, "telemetry.sdk.language", "python"),
        ({}, "service.name", "unknown_service:shop"),
        ({}, "process.pid", None),
        ({}, "service.version", None),
        ({}, "deployment.environment.name", None),
        ({"resource_attributes": {"service.name": "a"}}, "service.name", "a"),
        ({"resource_attributes": {"service.name": ""}}, "service.name", "unknown_service:shop"),
        ({"resource_attributes": {"service.name": "a"}, "service_name": "b"}, "service.name", "b"),
        ({"resource_attributes": {"service.version": "1"}}, "service.version", "1"),
        ({"resource_attributes": {"service.version": "1"}, "version": "2"}, "service.version", "2"),
        ({"environment": "staging"}, "deployment.environment.name", "staging"),
        ({"resource_attributes": {"host.name": "h"}}, "host.name", "h"),
        ({"resource_attributes": {"n": 5, "l": ("a", "b")}}, "l", ["a", "b"]),
    ],
)
def test_what_is_said_of_the_program(settings, name, value):
    """A field of its own wins over an attribute, and both over what is found out."""
    found = route(TracingConfig(**settings), "/srv/shop.py")

    assert found.resource.get(name) == value
    assert Route.of_shape(found.shape).resource == found.resource


@pytest.mark.parametrize(
    ("program", "name"),
    [
        ("/srv/shop.py", "shop"),
        ("shop", "shop"),
        ("/usr/bin/gunicorn", "gunicorn"),
        ("/site/uvicorn/__main__.py", "uvicorn"),
        ("/site/app.pyz", "app"),
        ("", "python"),
        ("-c", "python"),
        ("-m", "python"),
        ("__main__.py", "python"),
        ("/srv/my.shop.py", "my.shop"),
    ],
)
def test_what_a_program_is_called(program, name):
    """As people call it: by script, module or command."""
    assert resources.program_name(program) == name


def test_our_own_version(monkeypatch):
    """That of the engine where it is loaded, else of the installed package, else none."""
    import pocketflow_async

    assert resources.own_version() == pocketflow_async.__version__
    monkeypatch.delitem(resources.sys.modules, "pocketflow_async")
    monkeypatch.setattr(resources, "NAME", "a-package-that-is-not-there")
    assert resources.own_version() == ""


def test_the_script_names_the_service_by_default(monkeypatch):
    """`sys.argv[0]`, which an embedded interpreter may not have."""
    monkeypatch.setattr("sys.argv", ["/srv/till.py"])
    assert route(TracingConfig()).resource["service.name"] == "unknown_service:till"
    monkeypatch.delattr("sys.argv")
    assert route(TracingConfig()).resource["service.name"] == "unknown_service:python"


def test_nothing_is_logged_where_all_is_well(caplog):
    """A config that sends is no news."""
    caplog.set_level(logging.DEBUG, "tracing")
    assert len(targets(**KEYS, otlp_endpoint=SERVER)) == 2
    assert not caplog.records


def test_a_langfuse_that_is_switched_off_is_mentioned(caplog):
    """For those who look for it."""
    caplog.set_level(logging.DEBUG, "tracing")
    assert targets(**KEYS, langfuse_enabled=False) == ()
    assert "langfuse_enabled" in caplog.text
