"""`doctor` against real servers on loopback, real stores, and settings that are right or wrong."""

from __future__ import annotations

import json
import os
import re
import socket
import sqlite3
import threading
import time
from contextlib import closing

import pytest
from typer.testing import CliRunner

from tests.tracing.langfuse_kit import PUBLIC, SECRET, Langfuse, answers, webpage
from tests.tracing.wire_kit import Fault, GrpcSink, HttpSink, free_port
from tracing.cli import health_clock, health_store, health_versions
from tracing.cli.app import app
from tracing.cli.findings import Section
from tracing.cli.health_targets import Asked
from tracing.export.model import Answer, Target
from tracing.store import TraceStore
from tracing.store.schema import connect

KEY = "very-secret-token-0123456789"
TOKEN = "another-token-that-nobody-may-see"


@pytest.fixture
def doctor(plain_env, monkeypatch, tmp_path):
    """Run the command with these variables, in a folder without a `.env`."""
    for name in list(os.environ):
        if (
            name.startswith(("LANGFUSE_", "OTEL_", "POCKETFLOW_"))
            and name != "POCKETFLOW_TRACE_STORE"
        ):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)

    def doctor(*args, **env):
        with monkeypatch.context() as patch:
            for name, value in env.items():
                patch.setenv(name, value)
            return CliRunner().invoke(app, ["doctor", *args])

    return doctor


@pytest.fixture
def otlp(doctor):
    """Ask one OTLP endpoint; return the exit code and the lines about it as one text."""

    def otlp(endpoint, protocol="http/protobuf", **env):
        base = endpoint.removesuffix("/v1/traces")
        env |= {"OTEL_EXPORTER_OTLP_ENDPOINT": base, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}
        result = doctor("--json", **env)
        return result.exit_code, about(result, "otlp")

    return otlp


def findings(result, title):
    (section,) = [one for one in json.loads(result.stdout)["sections"] if one["title"] == title]
    return section["findings"]


def about(result, label, title="targets"):
    (found,) = [one for one in findings(result, title) if one["label"] == label]
    return f"{found['level']}: {found['text']} -> {found['fix']}"


# -- targets -----------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["http/protobuf", "http/json", "grpc"])
def test_a_target_really_gets_a_span(otlp, protocol):
    """What the server received is one small span that says who sent it."""
    with GrpcSink() if protocol == "grpc" else HttpSink() as sink:
        code, said = otlp(sink.url, protocol)

    assert code == 0, said
    assert re.match(r"ok: .*took a span in \S+ .?s ->", said)
    assert sink.names == ["pocketflow-async doctor"]


def test_langfuse_gets_a_span_with_its_keys(doctor):
    """Keys, path and headers are right, and the trace has a name there."""
    with Langfuse() as server:
        env = {"LANGFUSE_PUBLIC_KEY": PUBLIC, "LANGFUSE_SECRET_KEY": SECRET}
        result = doctor("--json", LANGFUSE_HOST=server.url, **env)

    assert result.exit_code == 0, result.stdout
    assert [one.name for one in server.observations] == ["pocketflow-async doctor"]
    assert "took a span" in about(result, "langfuse")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (answers(401), "check LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY"),
        (answers(404), "the host is no Langfuse"),
        (answers(413), "raise its limit"),
        (answers(429), "takes no more for now"),
        (answers(503), "is in trouble"),
        (webpage, "takes no traces, such as a web page"),
    ],
)
def test_what_langfuse_refuses_is_explained(doctor, fault, words):
    """The exit code is 1, and the advice fits what came back."""
    with Langfuse() as server:
        server.fault = fault
        env = {"LANGFUSE_PUBLIC_KEY": PUBLIC, "LANGFUSE_SECRET_KEY": SECRET}
        result = doctor("--json", LANGFUSE_BASE_URL=server.url, **env)

    assert result.exit_code == 1
    assert words in about(result, "langfuse")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(status=401), "set OTEL_EXPORTER_OTLP_HEADERS"),
        (Fault(status=404), "no traces are taken at /v1/traces"),
        (Fault(status=415), "takes no OTLP over HTTP here"),
        (Fault(status=302, headers={"Location": "/login"}), "redirects are not followed"),
        (Fault(partial=(1, "too old")), "refused the span"),
        (Fault(hang=True), "does not answer, or a firewall drops"),
    ],
)
def test_what_a_server_refuses_is_explained(otlp, fault, words):
    """Each answer has its own advice."""
    with HttpSink() as sink:
        sink.fault = fault
        code, said = otlp(sink.url, OTEL_EXPORTER_OTLP_TIMEOUT="1")

    assert code == 1
    assert said.startswith("wrong: ")
    assert words in said


def test_a_server_without_json(otlp):
    """Only who sends JSON is told to send protobuf."""
    with HttpSink() as sink:
        sink.fault = Fault(status=415)
        _, said = otlp(sink.url, "http/json")

    assert "takes no JSON, as Phoenix" in said


def test_an_endpoint_for_traces_without_its_path(doctor):
    """The variable for traces is taken as it is, which is easily forgotten."""
    with HttpSink() as sink:
        sink.fault = Fault(status=404)
        host = sink.url.removesuffix("/v1/traces")
        result = doctor("--json", OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=host)

    assert "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is taken as it is" in about(result, "otlp")


def test_nobody_listens(otlp):
    """A refused connection, over HTTP and gRPC, says to start the server."""
    for protocol in ("http/protobuf", "grpc"):
        code, said = otlp(
            f"http://127.0.0.1:{free_port()}", protocol, OTEL_EXPORTER_OTLP_TIMEOUT="2"
        )
        assert code == 1
        assert "start the server, or correct host and port" in said
        assert "inside a container localhost is the container itself" in said


def test_a_host_without_an_address(otlp):
    """A name that is nobody's says to check it."""
    code, said = otlp("http://nowhere.invalid:4318", OTEL_EXPORTER_OTLP_TIMEOUT="5")

    assert code == 1
    assert "check the name of the host" in said


def test_tls_where_there_is_none(otlp):
    """https:// to a server without TLS says to write http://."""
    with HttpSink() as sink:
        code, said = otlp(sink.url.replace("http://", "https://"))

    assert code == 1
    assert "write http:// in the endpoint" in said


def test_each_protocol_at_the_others_port(otlp):
    """A gRPC client at an HTTP server, and the other way round, are recognised."""
    with HttpSink() as sink:
        _, said = otlp(sink.url, "grpc", OTEL_EXPORTER_OTLP_TIMEOUT="3")
    assert "may be an HTTP port" in said
    with GrpcSink() as sink:
        address = sink.url.rpartition("/")[2]
        _, said = otlp(f"http://{address}", OTEL_EXPORTER_OTLP_TIMEOUT="3")
    assert "may be a gRPC port" in said


HTTP2 = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # an empty SETTINGS frame
NEWER = b"HTTP/1.1 505 HTTP Version Not Supported\r\ncontent-length: 0\r\n\r\n"
OTHER = b"HTTP/1.1 415 Unsupported Media Type\r\ncontent-length: 0\r\n\r\n"


@pytest.mark.parametrize("answer", [b"", HTTP2, NEWER, OTHER])
def test_http_to_what_speaks_grpc_alone(otlp, answer):
    """On any port: it cuts the connection, answers in HTTP/2, or wants another format."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            connection, _ = server.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        code, said = otlp(f"http://127.0.0.1:{server.getsockname()[1]}")
        thread.join()

    assert code == 1
    assert "may be a gRPC port" in said
    assert "set OTEL_EXPORTER_OTLP_PROTOCOL=grpc" in said


def test_the_path_for_traces_twice(doctor):
    """It is added to the general variable, and not to the one for traces."""
    with HttpSink() as sink:
        sink.fault = Fault(status=404)
        result = doctor("--json", OTEL_EXPORTER_OTLP_ENDPOINT=sink.url)

        unasked = doctor("--json", "--offline", OTEL_EXPORTER_OTLP_ENDPOINT=sink.url)

    for said in (about(result, "otlp"), about(unasked, "otlp")):
        assert "leave out /v1/traces in OTEL_EXPORTER_OTLP_ENDPOINT" in said


@pytest.mark.parametrize(
    ("env", "named"),
    [
        ({}, "LANGFUSE_BASE_URL"),
        ({"LANGFUSE_HOST": "http://other"}, "LANGFUSE_BASE_URL"),
        ({"LANGFUSE_BASE_URL": "", "LANGFUSE_HOST": None}, "LANGFUSE_HOST"),
    ],
)
@pytest.mark.parametrize("status", [401, 404])
def test_the_variable_in_force_is_named_for_langfuse(doctor, env, named, status):
    """Of two variables for the same the one that counts is the one to correct."""
    with Langfuse() as server:
        server.fault = answers(status)
        keys = {"LANGFUSE_PUBLIC_KEY": PUBLIC, "LANGFUSE_SECRET_KEY": SECRET}
        env = {name: server.url if value is None else value for name, value in env.items()}
        result = doctor("--json", **{"LANGFUSE_BASE_URL": server.url, **keys, **env})

    assert re.findall(r"LANGFUSE_(?:HOST|BASE_URL)", about(result, "langfuse")) == [named]


def test_the_variable_in_force_is_named_for_otlp(doctor):
    """Those for traces win over the general ones; and Langfuse by OTLP has OTLP's variables."""
    with HttpSink() as sink:
        sink.fault = Fault(status=401)
        env = {"OTEL_EXPORTER_OTLP_TRACES_HEADERS": "authorization=x"}
        for path in ("/v1/traces", "/api/public/otel/v1/traces"):
            url = sink.url.replace("/v1/traces", path)
            said = doctor("--json", OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=url, **env)
            assert "in OTEL_EXPORTER_OTLP_TRACES_HEADERS" in about(said, "otlp")
    result = doctor("--json", "--offline", OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE="/nowhere.pem")
    (wrong,) = [one for one in findings(result, "settings") if one["level"] == "wrong"]
    assert wrong["label"] == "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE"


def test_offline_sends_nothing(doctor):
    """The target is named, with what looks wrong with it, and not asked."""
    with HttpSink() as sink:
        result = doctor("--json", "--offline", OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=sink.url)
        assert sink.requests == []
    assert result.exit_code == 0
    assert "not asked" in about(result, "otlp")
    result = doctor("--json", "--offline", OTEL_EXPORTER_OTLP_ENDPOINT="http://h:4317")
    assert "port 4317 is usually gRPC" in about(result, "otlp")


def test_several_targets_are_judged_each(doctor):
    """One that is down does not hide one that is well."""
    with Langfuse() as server:
        result = doctor(
            "--json",
            LANGFUSE_HOST=server.url,
            LANGFUSE_PUBLIC_KEY=PUBLIC,
            LANGFUSE_SECRET_KEY=SECRET,
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{free_port()}",
        )

    assert result.exit_code == 1
    assert about(result, "langfuse").startswith("ok")
    assert about(result, "otlp").startswith("wrong")


# -- secrets -----------------------------------------------------------------------------------


@pytest.mark.parametrize("args", [[], ["--json"]])
def test_no_secret_is_printed(doctor, args):
    """Not from a variable, not from a URL, not from a server that repeats it."""
    with HttpSink() as sink:
        echo = f"bad token Bearer {TOKEN}, not sk-lf-{KEY}".encode()
        sink.fault = Fault(status=403, body=echo)
        host = sink.url.removeprefix("http://")
        result = doctor(
            *args,
            LANGFUSE_PUBLIC_KEY="pk-lf-0123456789abcdefwxyz",
            LANGFUSE_SECRET_KEY=f"sk-lf-{KEY}",
            LANGFUSE_HOST=f"http://{host.split('/')[0]}",
            OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"http://user:{KEY}@{host}?key={KEY}",
            OTEL_EXPORTER_OTLP_HEADERS=f"authorization=Bearer%20{TOKEN},x-team=a",
            HTTPS_PROXY=f"http://user:{KEY}@127.0.0.1:9",
        )

    assert result.exit_code == 1, result.stdout
    assert "bad token" in result.stdout
    assert KEY not in result.stdout + result.stderr
    assert TOKEN not in result.stdout + result.stderr
    assert "pk-lf-…wxyz" in result.stdout
    assert "sk-lf-…6789" in result.stdout
    assert "authorization=…, x-team=…" in result.stdout


def test_a_password_in_a_wrong_address_is_not_printed(doctor):
    """Not even where the setting is refused because of it."""
    keys = {"LANGFUSE_PUBLIC_KEY": "pk-lf-1", "LANGFUSE_SECRET_KEY": "sk-lf-1"}

    for host in (f"http://user:{KEY}@h", f"ftp://user:{KEY}@h", f"user:{KEY}@h"):
        result = doctor("--offline", LANGFUSE_HOST=host, **keys)
        assert KEY not in result.stdout + result.stderr


# -- settings ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "label", "words"),
    [
        ({"POCKETFLOW_TRACE_IMPUTS": "1"}, "POCKETFLOW_TRACE_IMPUTS", "POCKETFLOW_TRACE_INPUTS?"),
        ({"POCKETFLOW_TRACE_SAMPLE_RATE": "7"}, "configuration", "between 0.0 and 1.0"),
        ({"POCKETFLOW_TRACE_EXPORTERS": "jaegr"}, "configuration", "'jaegr' is not known"),
        ({"OTEL_EXPORTER_OTLP_COMPRESSION": "zip"}, "warning", "OTEL_EXPORTER_OTLP_COMPRESSION"),
        ({"LANGFUSE_PUBLIC_KEY": "pk-lf-1"}, "Langfuse keys", "LANGFUSE_SECRET_KEY is not set"),
        (
            {"LANGFUSE_PUBLIC_KEY": "sk-lf-1", "LANGFUSE_SECRET_KEY": "pk-lf-1"},
            "Langfuse keys",
            "are swapped",
        ),
        (
            {"OTEL_EXPORTER_OTLP_CERTIFICATE": "/nowhere.pem"},
            "OTEL_EXPORTER_OTLP_CERTIFICATE",
            "no file that can be read",
        ),
    ],
)
def test_wrong_settings_are_named(doctor, env, label, words):
    """A misspelt name, a value that cannot be, keys that do not fit."""
    result = doctor("--json", "--offline", **env)

    said = [one for one in findings(result, "settings") if one["label"] == label]
    assert any(words in one["text"] + one["fix"] and one["level"] != "note" for one in said)
    assert result.exit_code == (0 if "IMPUTS" in label else 1)


@pytest.mark.parametrize(
    ("env", "effect"),
    [
        ({"POCKETFLOW_TRACE_EXPORTERS": "jaegr"}, "sent nowhere"),
        ({"LANGFUSE_PUBLIC_KEY": "sk-lf-1", "LANGFUSE_SECRET_KEY": "pk-lf-1"}, "sent nowhere"),
        ({"LANGFUSE_PUBLIC_KEY": "pk lf 1", "LANGFUSE_SECRET_KEY": "sk-lf-1"}, "sent nowhere"),
        ({"LANGFUSE_PUBLIC_KEY": "pk-lf-1"}, "nothing is sent to Langfuse"),
        ({"POCKETFLOW_TRACE_SAMPLE_RATE": "7"}, "go untraced"),
    ],
)
def test_what_a_wrong_setting_does(doctor, env, effect):
    """Where to send to is one thing, what to record another; and each mistake counts once."""
    result = doctor("--json", "--offline", **env)

    wrong = [one for one in findings(result, "settings") if one["level"] == "wrong"]
    assert len(wrong) == 1
    assert effect in wrong[0]["text"] + wrong[0]["fix"]
    assert json.loads(result.stdout)["wrong"] == 1


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("LANGFUSE_PUBLICKEY", "LANGFUSE_PUBLIC_KEY"),
        ("LANGFUSE_BASEURL", "LANGFUSE_BASE_URL"),
        ("LANGFUSE_ENVIRONMENT", "LANGFUSE_TRACING_ENVIRONMENT"),
        ("LANGFUSE_FLUSH_INTERVAL", None),
        ("LANGFUSE_DEBUG", None),
        ("LANGFUSE_MEDIA_UPLOAD_ENABLED", None),
        ("LANGFUSE_INIT_PROJECT_PUBLIC_KEY", None),
    ],
)
def test_a_misspelt_variable_of_langfuse(doctor, name, meant):
    """Close to one that we read is a mistake; one that Langfuse itself reads is not."""
    said = about(doctor("--json", "--offline", **{name: "x"}), name, "settings")

    assert said.startswith("note" if meant is None else "warning")
    assert meant is None or f"did you mean {meant}?" in said


@pytest.mark.parametrize("exporter", ["jaeger", "console", "zipkin", "none", "console,otlp"])
def test_an_exporter_that_is_not_ours_silences_an_endpoint(doctor, exporter):
    """With an endpoint set that is hardly meant, unless it says `none`."""
    ends = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h:4318"}

    for env in ({}, ends, {**ends, "POCKETFLOW_TRACE_EXPORTERS": "otlp"}):
        result = doctor("--json", "--offline", OTEL_TRACES_EXPORTER=exporter, **env)
        said = [
            one
            for one in findings(result, "settings")
            if (one["label"], one["level"]) == ("OTEL_TRACES_EXPORTER", "warning")
        ]
        assert bool(said) is (env is ends and exporter in ("jaeger", "console", "zipkin"))
    assert result.exit_code == 0


def test_variables_of_a_file_are_told_apart(doctor, tmp_path, monkeypatch):
    """What comes from `.env` counts, and is said to come from there."""
    monkeypatch.setenv("POCKETFLOW_USER_ID", "")  # so that it is unset again afterwards
    monkeypatch.delenv("POCKETFLOW_USER_ID")
    (tmp_path / ".env").write_text("POCKETFLOW_USER_ID=ada\n")

    result = doctor("--json", "--offline")

    assert "ada  (from .env)" in about(result, "POCKETFLOW_USER_ID", "settings")


# -- store -------------------------------------------------------------------------------------


def test_a_store_that_is_not_there_is_not_made(doctor, store_path):
    """It can be made, which is all that is needed."""
    result = doctor("--json", "--offline")

    assert "the first traced run makes the file" in about(result, "writable", "store")
    assert not store_path.exists()


def test_a_row_is_written_and_undone(doctor, store_path):
    """The probe leaves nothing behind."""
    connect(str(store_path)).close()

    result = doctor("--json", "--offline")

    assert "written, read back and undone" in about(result, "writable", "store")
    with closing(sqlite3.connect(store_path)) as connection:
        assert connection.execute("SELECT count(*) FROM owners").fetchone() == (0,)


def test_another_programs_file(doctor, store_path):
    """A file that is no store has to be moved away."""
    store_path.write_text("just some notes\n" * 100)

    result = doctor("--json", "--offline")

    assert result.exit_code == 1
    assert about(result, "readable", "store").startswith("wrong: cannot read the trace store")


@pytest.mark.parametrize("location", ["off", "memory", "memory:one"])
def test_no_store_in_a_file_is_no_fault(doctor, location):
    """Who turned the store off wanted that."""
    result = doctor("--json", "--offline", POCKETFLOW_TRACE_STORE=location)

    assert result.exit_code == 0
    assert about(result, "path", "store").startswith(f"note: {location.partition(':')[0]}")


def test_a_store_that_is_locked(doctor, store_path, monkeypatch):
    """Another process that holds the file is a warning: it will let go."""
    monkeypatch.setattr(health_store, "_PATIENCE", 0.05)
    connect(str(store_path)).close()
    with closing(sqlite3.connect(store_path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        result = doctor("--json", "--offline")

    assert result.exit_code == 0
    assert about(result, "writable", "store").startswith("warning: not within")


def test_what_waits_and_what_was_set_aside(doctor, store_path):
    """Per target: what is to be sent, whether anybody here can, and what the server refused."""
    target = Target("otlp", "http://127.0.0.1:9/v1/traces")
    hour = time.time_ns() - 3_700 * 10**9
    with closing(connect(str(store_path))) as connection:
        rows = [
            (1, target.key, "otlp", target.endpoint),
            (2, "gone", "old", "http://gone/v1/traces"),
        ]
        connection.executemany("INSERT INTO targets VALUES (?, ?, ?, ?)", rows)
        parcel = "INSERT INTO parcels (target, owner, records, done, count, made_ns, reason)"
        for values in (
            (1, 1, b"", 2, 10, hour, None),
            (1, 1, b"", 0, 5, hour, None),
            (1, 1, b"", 0, 3, hour, "HTTP 400: bad id"),
            (2, 1, b"", 0, 1, hour, None),
        ):
            connection.execute(f"{parcel} VALUES (?, ?, ?, ?, ?, ?, ?)", values)
        connection.execute("INSERT INTO owners VALUES (1, 't', 1, 'h', '', 0, 1, 7)")

    result = doctor("--json", "--offline", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")

    said = [f"{one['level']}: {one['text']}" for one in findings(result, "store")]
    assert (
        "note: 13 records to be sent to http://127.0.0.1:9/v1/traces, the oldest 1h old; "
        "`traces push` sends them now" in said
    )
    assert "warning: 3 records set aside: HTTP 400: bad id" in said
    said = about(result, "for old", "store")
    assert "not configured here" in said
    assert "`traces push --to otlp`" in said
    assert "`traces push --forget`" in said
    assert "7 records could not be kept" in about(result, "dropped", "store")
    assert result.exit_code == 0


def test_a_file_of_no_bytes(doctor, store_path):
    """It is said to be one, and stays one; nothing is wrong with it."""
    store_path.touch()

    result = doctor("--json", "--offline")

    assert result.exit_code == 0, result.output
    assert "the file is empty" in about(result, "holds", "store")
    assert store_path.stat().st_size == 0
    assert doctor("--offline").exit_code == 0


def test_what_a_running_process_is_to_send(doctor, store_path):
    """It sends that itself; `push` is for what others have left beside it."""
    target = Target("otlp", "http://127.0.0.1:9/v1/traces")
    store = TraceStore(store_path)
    mine = store.sign()
    parcel = "INSERT INTO parcels (target, owner, records, count, made_ns) VALUES (1, ?, ?, ?, 1)"
    with closing(connect(str(store_path))) as connection:
        connection.execute(
            "INSERT INTO targets VALUES (1, ?, 'otlp', ?)", (target.key, target.endpoint)
        )
        connection.execute(parcel, (mine, b"", 4))
        alone = doctor("--json", "--offline", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")
        connection.execute(parcel, (mine + 1, b"", 3))
        both = doctor("--json", "--offline", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")
        other = doctor("--json", "--offline")
    store.close()

    assert "; the process that still runs sends them" in about(alone, "for otlp", "store")
    assert "traces push" not in about(alone, "for otlp", "store")
    assert "sends 4 of them; `traces push` sends the others now" in about(both, "for otlp", "store")
    assert about(other, "for otlp", "store").startswith("warning")


# -- clocks and versions -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ahead", "level"), [(0, "ok"), (4, "ok"), (6, "warning"), (-60, "warning")]
)
def test_clocks_are_compared(ahead, level):
    """Five seconds are forgiven; more than that is a warning with its direction."""
    asked = [Asked(Target("otlp", "http://h"), Answer(200))]

    section = health_clock.look(
        asked, lambda target: 2e9 - ahead, lambda: 2e9 + time.perf_counter() * 0, lambda _: None
    )

    (found,) = [one for one in section.findings if one.label == "otlp"]
    assert found.level == level
    if level == "warning":
        assert ("ahead of" if ahead > 0 else "behind") in found.text


def test_a_clock_that_stands_in_the_past():
    """A machine that believes in 1970 is told to set its clock."""
    found = health_clock.look([], None, lambda: 1e6, lambda _: None).findings[0]

    assert found.level == "wrong"


def test_a_real_server_tells_its_time(doctor):
    """The Date header is asked for without the keys."""
    with HttpSink() as sink:
        target = Target("otlp", sink.url, headers={"authorization": KEY})
        said = health_clock.date(target)

    assert said is not None
    assert abs(said - time.time()) < 5


def test_versions_that_do_not_fit():
    """What is missing, too old, or of different releases is named, with what mends it."""
    known = {
        "opentelemetry-sdk": "1.45.2",
        "opentelemetry-api": "1.45.2",
        "opentelemetry-exporter-otlp-proto-http": "1.20.0",
        "langfuse": "3.1",
    }

    section: Section = health_versions.look(known.get)

    said = {one.label: one for one in section.findings}
    assert (said["orjson"].level, said["orjson"].text) == ("wrong", "not installed")
    assert said["opentelemetry-exporter-otlp-proto-http"].text == "1.20.0, too old"
    assert said["langfuse"].level == "warning"
    assert "of different versions" in said["opentelemetry"].text
    assert said["opentelemetry-sdk"].level == "ok"


# -- the page ----------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_the_page_fits_its_screen(command, columns):
    """No line is wider, but for paths and addresses, which have no blanks to break at."""
    result = command(
        "doctor",
        COLUMNS=str(columns),
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{free_port()}",
        POCKETFLOW_TRACE_IMPUTS="1",
    )

    assert result.returncode == 1
    lines = result.stdout.splitlines()
    assert "1 thing to fix, 1 warning." in lines[-1]
    assert [line for line in lines if line in ("versions", "store", "settings", "targets")]
    too_wide = [line for line in lines if len(line) > columns and len(line.strip()) > 60]
    assert columns == 40 or not too_wide


def test_the_page_without_unicode(command):
    """Where the screen has no signs, marks are letters."""
    result = command("doctor", "--offline", PYTHONIOENCODING="ascii")

    assert result.returncode == 0
    assert re.search(r"^  \+ python", result.stdout, re.M)
    assert result.stdout.isascii()
