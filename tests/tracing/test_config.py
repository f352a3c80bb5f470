"""`TracingConfig`: its fields, its environment variables, and what it refuses."""

import copy
import dataclasses
import itertools
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from tracing.config import OTHER_VARIABLES, VARIABLES, TracingConfig
from tracing.export.model import Target

CONTRACT = [
    "langfuse_secret_key",
    "langfuse_public_key",
    "langfuse_host",
    "debug",
    "trace_inputs",
    "trace_outputs",
    "trace_prep",
    "trace_exec",
    "trace_post",
    "trace_errors",
    "session_id",
    "user_id",
]


@pytest.fixture(autouse=True)
def _clean(monkeypatch, tmp_path):
    """Start without any variable, in a folder of its own; forget what a `.env` has set."""
    for variable in {*VARIABLES.values(), *itertools.chain(*OTHER_VARIABLES.values())}:
        monkeypatch.setenv(variable, "")  # so that it is put back as it was
        monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)


def test_the_first_twelve_fields_are_those_of_pocketflow_tracing():
    """Their order is API: they may be given by place."""
    names = [field.name for field in dataclasses.fields(TracingConfig)]

    assert names[:12] == CONTRACT
    config = TracingConfig("s", "p", "h", True, False, True, True, True, True, True, "S", "U")
    assert (config.langfuse_host, config.trace_inputs, config.user_id) == ("h", False, "U")


def test_the_defaults_of_the_contract():
    """Contents and errors are recorded, nothing is sent."""
    config = TracingConfig()

    assert [getattr(config, name) for name in CONTRACT] == (
        [None] * 3 + [False] + [True] * 6 + [None] * 2
    )


def test_the_five_options_of_the_guide_are_keywords():
    """They are there, and no further argument is positional."""
    config = TracingConfig(
        trace_async_lifecycle=True,
        trace_async_context=True,
        trace_concurrent_flows=True,
        async_error_recovery=True,
        performance_monitoring=True,
    )

    assert config.performance_monitoring
    with pytest.raises(TypeError):
        TracingConfig(*[None] * 3, *[True] * 7, None, None, None, 32_768, True, (), True)


def test_all_fields_but_the_function_have_a_variable():
    """A function cannot be written in the environment; all else can."""
    names = {field.name for field in dataclasses.fields(TracingConfig)}

    assert names - VARIABLES.keys() == {"redact_function"}
    assert VARIABLES.keys() <= names
    assert OTHER_VARIABLES.keys() <= names


@pytest.mark.parametrize("name", VARIABLES)
def test_every_field_has_its_variable(name, monkeypatch):
    """Each field can be set from the environment."""
    default = getattr(TracingConfig, name)
    text, expected = {
        "value_limit": ("999", 999),
        "slow_node_seconds": ("2.5", 2.5),
        "block_threshold_seconds": ("0.25", 0.25),
        "sample_rate": ("0.5", 0.5),
        "redact_keys": ("a, b", ("a", "b")),
        "exporters": ("otlp,langfuse", ("otlp", "langfuse")),
        "detail": ("nodes", "nodes"),
        "langfuse_timeout": ("7.5", 7.5),
        "slow_trace_seconds": ("60", 60.0),
        "keep": ("Failed, slow", ("failed", "slow")),
        "redact_patterns": (r"a\d+ || b,c", (r"a\d+", "b,c")),
        "otlp": ("otlp", True),
        "otlp_endpoint": ("http://h:4318", "http://h:4318/v1/traces"),
        "otlp_protocol": ("http/json", "http/json"),
        "otlp_headers": ("a=b%20c", {"a": "b c"}),
        "otlp_compression": ("none", "none"),
        "otlp_timeout": ("2.5", 2.5),
        "otlp_insecure": ("true", True),
        "resource_attributes": ("a=b%20c", {"a": "b c"}),
    }.get(name, (str(not default), not default) if isinstance(default, bool) else ("text", "text"))
    monkeypatch.setenv(VARIABLES[name], text)

    assert getattr(TracingConfig.from_env(), name) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *((word, True) for word in ("TRUE", "1", "yes", " On ")),
        *((word, False) for word in ("False", "0", "no", "off")),
    ],
)
def test_words_for_true_and_false(text, expected, monkeypatch):
    """Those of the contract and those that people use, in any case."""
    monkeypatch.setenv("POCKETFLOW_TRACE_INPUTS", text)
    monkeypatch.setenv("POCKETFLOW_TRACING_DEBUG", text)
    config = TracingConfig.from_env()

    assert config.trace_inputs is config.debug is expected


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("debug", "perhaps"),
        ("value_limit", "much"),
        ("value_limit", "1"),
        ("sample_rate", "half"),
        ("sample_rate", "1.5"),
        ("sample_rate", "nan"),
        ("slow_node_seconds", "0"),
        ("slow_node_seconds", "inf"),
        ("block_threshold_seconds", "-1"),
        ("detail", "everything"),
        ("exporters", "OTLP"),
        ("langfuse_enabled", "maybe"),
        ("langfuse_timeout", "soon"),
        ("langfuse_timeout", "0"),
        ("sample_by_parent", "perhaps"),
        ("keep", "good"),
        ("slow_trace_seconds", "-1"),
        ("redact_patterns", "a("),
        ("redact_patterns", "a*"),
    ],
)
def test_a_wrong_variable_is_named(name, text, monkeypatch):
    """The message names the variable and the field, and shows the text."""
    monkeypatch.setenv(VARIABLES[name], text)

    with pytest.raises(ValueError, match=VARIABLES[name]) as caught:
        TracingConfig.from_env()
    assert name in str(caught.value)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("trace_inputs", "false", TypeError),
        ("trace_async_context", None, TypeError),
        ("langfuse_host", 5, TypeError),
        ("store", 5, TypeError),
        ("redact_keys", "key", TypeError),
        ("redact_keys", (5,), TypeError),
        ("exporters", "otlp", TypeError),
        ("exporters", ("Not A Name",), ValueError),
        ("value_limit", True, ValueError),
        ("sample_rate", -0.1, ValueError),
        ("sample_rate", True, ValueError),
        ("slow_node_seconds", "1", ValueError),
        ("detail", "all", ValueError),
        ("langfuse_timeout", 0, ValueError),
        ("environment", 5, TypeError),
        ("otlp", "yes", ValueError),
        ("otlp_endpoint", b"http://h", TypeError),
        ("otlp_protocol", "http", ValueError),
        ("otlp_headers", "a=b", TypeError),
        ("otlp_headers", {"a": 5}, TypeError),
        ("otlp_headers", {"a b": "c"}, ValueError),
        ("otlp_headers", {"a": "b\r\nc: d"}, ValueError),
        ("otlp_compression", "deflate", ValueError),
        ("otlp_timeout", float("inf"), ValueError),
        ("otlp_insecure", 1, ValueError),
        ("resource_attributes", "a=b", TypeError),
        ("resource_attributes", {5: "b"}, TypeError),
        ("resource_attributes", {"a": {"b": 1}}, TypeError),
        ("resource_attributes", {"a": 2**63}, TypeError),
        ("resource_attributes", {"a": [1, "b"]}, TypeError),
        ("exporters", (5,), TypeError),
        ("exporters", 5, TypeError),
        ("exporters", Target("t", "http://h"), TypeError),
        ("exporters", (Target,), TypeError),
        ("keep", "failed", TypeError),
        ("keep", ("good",), ValueError),
        ("redact_patterns", "a", TypeError),
        ("redact_patterns", ("[",), ValueError),
    ],
)
def test_a_wrong_argument_is_named(name, value, error):
    """The same for arguments."""
    with pytest.raises(error, match=rf"{name} \({VARIABLES[name]}\)"):
        TracingConfig(**{name: value})


def test_lists_and_paths_are_taken():
    """Names may come as a list, the store as a path, and 1 counts as true."""
    config = TracingConfig(redact_keys=["a"], exporters=["otlp"], store=Path("x.db"), debug=1)

    assert (config.redact_keys, config.exporters, config.debug) == (("a",), ("otlp",), True)


def test_an_empty_variable_is_no_variable(monkeypatch):
    """As a shell leaves it: the default stays."""
    monkeypatch.setenv("POCKETFLOW_TRACE_INPUTS", " ")

    assert TracingConfig.from_env().trace_inputs is True


def test_the_env_file_of_the_working_directory_is_found(tmp_path, monkeypatch):
    """In the folder itself and from folders below it (defect 28)."""
    (tmp_path / ".env").write_text("POCKETFLOW_SESSION_ID=from-file\n")
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    assert TracingConfig.from_env().session_id == "from-file"
    monkeypatch.delenv("POCKETFLOW_SESSION_ID")
    monkeypatch.chdir(below)

    assert TracingConfig.from_env().session_id == "from-file"


def test_variables_that_are_set_win_over_the_file(tmp_path, monkeypatch):
    """An `.env` fills in; it overrides nothing."""
    file = tmp_path / "other.env"
    file.write_text("POCKETFLOW_SESSION_ID=from-file\nPOCKETFLOW_USER_ID=file-user\n")
    monkeypatch.setenv("POCKETFLOW_SESSION_ID", "from-shell")
    config = TracingConfig.from_env(str(file))

    assert (config.session_id, config.user_id) == ("from-shell", "file-user")


def test_an_env_file_that_cannot_be_read_is_passed_over(tmp_path, caplog):
    """One found by itself and full of bytes is reported; the run goes on."""
    (tmp_path / ".env").write_bytes(b"A=\xff\xfe")

    assert TracingConfig.from_env() == TracingConfig()
    assert ".env" in caplog.text


def test_validate_says_whether_langfuse_is_configured(caplog):
    """All three are needed; what is missing is logged with `debug` only."""
    caplog.set_level(logging.DEBUG)
    assert TracingConfig("s", "p", "h").validate() is True
    assert TracingConfig("s", "p").validate() is False
    assert not caplog.records
    assert TracingConfig("s", "", "h", debug=True).validate() is False
    assert "LANGFUSE_PUBLIC_KEY" in caplog.text


def test_kwargs_of_the_langfuse_client():
    """Only what is set is in them."""
    assert TracingConfig("s", "p", "h").to_langfuse_kwargs() == {
        "secret_key": "s",
        "public_key": "p",
        "host": "h",
    }
    assert TracingConfig(langfuse_host="h", debug=True).to_langfuse_kwargs() == {
        "host": "h",
        "debug": True,
    }


def test_repr_keeps_the_keys_to_itself():
    """A config may be logged: keys are masked, and only what differs is shown."""
    assert repr(TracingConfig("sk-1", "pk-1", debug=True)) == (
        "TracingConfig(langfuse_secret_key='***', langfuse_public_key='***', debug=True)"
    )


def test_nothing_secret_is_told():
    """Neither by repr and str nor by what is raised; names of headers and hosts are."""
    headers = {"authorization": "Basic s3cret", "x-team": "s3cret"}
    config = TracingConfig(
        langfuse_host="https://user:s3cret@langfuse.example",
        otlp_endpoint="https://user:s3cret@otlp.example/v1/traces?token=s3cret",
        otlp_headers=headers,
        otlp_client_key="/run/s3cret.pem",
        exporters=("otlp", Target("own", "http://h", headers=headers), Secretive()),
    )

    assert "s3cret" not in f"{config!r} {config}"
    assert "{'authorization': '***', 'x-team': '***'}" in repr(config)
    assert "https://***@otlp.example/v1/traces?***" in repr(config)
    assert "exporters=('otlp', Target, Secretive)" in repr(config)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("langfuse_secret_key", b"s3cret"),
        ("langfuse_public_key", ["s3cret"]),
        ("otlp_client_key", Path("s3cret")),
        ("otlp_headers", "authorization=s3cret"),
        ("otlp_headers", {"authorization": b"s3cret"}),
        ("otlp_headers", {"authorization": "s3cret\n"}),
    ],
)
def test_no_secret_is_in_an_error(name, value):
    """The message names the field and the variable, and the type at most."""
    with pytest.raises((TypeError, ValueError), match=rf"{name} \({VARIABLES[name]}\)") as caught:
        TracingConfig(**{name: value})
    assert "s3cret" not in str(caught.value)


def test_a_function_that_redacts():
    """Anything that can be called, and nothing else."""
    assert TracingConfig(redact_function=str.upper).redact_function("a") == "A"
    with pytest.raises(TypeError, match="redact_function must be a function or None"):
        TracingConfig(redact_function="upper")


def test_mappings_are_copied():
    """Headers get small names; what the caller does to the mapping later does not show."""
    headers, attributes = {"X-Team": "a"}, {"host.name": "h", "list": (1, 2)}
    config = TracingConfig(otlp_headers=headers, resource_attributes=attributes)
    headers.clear()
    attributes.clear()

    assert config.otlp_headers == {"x-team": "a"}
    assert config.resource_attributes == {"host.name": "h", "list": [1, 2]}


class Secretive:
    """A processor whose repr tells too much."""

    def __repr__(self):
        return "Secretive(key='s3cret')"

    def on_end(self, span):
        pass

    def force_flush(self, timeout_millis=30_000):
        return True


def test_a_config_stays_a_plain_dataclass():
    """It can be changed, compared, copied and replaced."""
    config = TracingConfig(session_id="S")
    twin = copy.deepcopy(config)
    config.session_id = "T"

    assert dataclasses.replace(config, session_id="S") == twin != config


def test_reading_the_environment_needs_no_package(child_env):
    """Without a `.env` python-dotenv is not even imported, nor is what sending needs."""
    code = (
        "import sys; from tracing.config import TracingConfig; TracingConfig.from_env();"
        "print(any(name in sys.modules for name in ('dotenv', 'orjson', 'opentelemetry')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=child_env, capture_output=True, text=True, check=True
    )

    assert done.stdout == "False\n"
