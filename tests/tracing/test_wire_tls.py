"""TLS: the right certificate is taken, the wrong one told, over HTTP and gRPC."""

from __future__ import annotations

import select
import shutil
import socket
import socketserver
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.tracing.wire_kit import Fault, GrpcSink, HttpSink, out_span
from tracing.export.model import Answer, Target
from tracing.export.transport import connect


@dataclass
class Pair:
    certificate: str
    key: str


def _made(folder: Path, name: str) -> Pair:
    pair = Pair(str(folder / f"{name}.pem"), str(folder / f"{name}.key"))
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
        "-subj /CN=localhost -addext subjectAltName=IP:127.0.0.1,DNS:localhost "
        f"-keyout {pair.key} -out {pair.certificate}"
    )
    subprocess.run(command.split(), check=True, capture_output=True)
    return pair


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Pair] | None:
    """Return what gives a self-signed certificate, the same for the same name."""
    if shutil.which("openssl") is None:
        return None
    folder, made = tmp_path_factory.mktemp("tls"), dict[str, Pair]()

    def pair(name: str) -> Pair:
        if name not in made:
            made[name] = _made(folder, name)
        return made[name]

    return pair


@pytest.fixture
def pair(
    require: Callable[[object, str], None], pairs: Callable[[str], Pair] | None
) -> Callable[[str], Pair]:
    require(pairs, "openssl is not installed")
    assert pairs is not None
    return pairs


def send(endpoint: str, timeout: float = 20, **options: Any) -> Answer:
    transport = connect(Target("here", endpoint, **options))
    try:
        return transport.send(transport.content([out_span("secret")], {}), timeout)
    finally:
        transport.close()


def test_https(pair, monkeypatch):
    """With the file of its certificate a server is trusted, whatever the environment says."""
    ours = pair("server")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", pair("other").certificate)
    with HttpSink((ours.certificate, ours.key)) as sink:
        assert send(sink.url, certificate=ours.certificate) == Answer(200)
        assert sink.names == ["secret"]


@pytest.mark.parametrize("trusted", [None, "other"])
def test_https_with_a_stranger(pair, trusted):
    """Without it nothing is sent, and the words name the setting."""
    ours = pair("server")
    certificate = trusted and pair(trusted).certificate
    with HttpSink((ours.certificate, ours.key)) as sink:
        answer = send(sink.url, certificate=certificate)

        assert answer.status is None
        assert answer.said.startswith(f"the certificate of {sink.url} is not trusted: self")
        assert "OTEL_EXPORTER_OTLP_CERTIFICATE" in answer.said
        assert sink.requests == []


def test_https_with_a_client_certificate(pair):
    """A server that asks who we are is shown it; without one it cuts us off."""
    ours, client = pair("server"), pair("client")
    with HttpSink((ours.certificate, ours.key), client_ca=client.certificate) as sink:
        known = send(
            sink.url,
            certificate=ours.certificate,
            client_certificate=client.certificate,
            client_key=client.key,
        )
        unknown = send(sink.url, certificate=ours.certificate)

        assert known == Answer(200)
        assert unknown.status is None
        assert unknown.said
        assert len(sink.requests) == 1


class _Tunnel(socketserver.BaseRequestHandler):
    """A proxy that connects its client to the address it names."""

    def handle(self) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.request.recv(1)
        self.server.asked.append(head.split()[1].decode())  # type: ignore[attr-defined]
        host, port = self.server.asked[-1].split(":")  # type: ignore[attr-defined]
        with socket.create_connection((host, int(port))) as server:
            self.request.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
            ends = {self.request: server, server: self.request}
            while True:
                for end in select.select(list(ends), [], [])[0]:
                    if not (data := end.recv(65536)):
                        return
                    ends[end].sendall(data)


def test_https_over_a_proxy(pair, monkeypatch):
    """A proxy of the environment is asked for a tunnel, and sees nothing of what goes through."""
    ours = pair("server")
    monkeypatch.delenv("no_proxy", raising=False)
    with (
        HttpSink((ours.certificate, ours.key)) as sink,
        socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Tunnel) as proxy,
    ):
        proxy.asked = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=proxy.serve_forever, args=(0.02,))
        thread.start()
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.server_address[1]}")

        assert send(sink.url, certificate=ours.certificate) == Answer(200)
        assert sink.names == ["secret"]
        assert proxy.asked == [f"127.0.0.1:{sink.port}"]  # type: ignore[attr-defined]
        proxy.shutdown()
        thread.join()


def test_https_in_time(pair):
    """A drip over TLS is bounded as well."""
    ours = pair("server")
    with HttpSink((ours.certificate, ours.key)) as sink:
        for fault in (
            Fault(hang=True),
            Fault(drip_head=0.05),
            Fault(drip_body=0.05, body=b"x" * 900),
        ):
            sink.fault = fault
            start = time.monotonic()
            answer = send(sink.url, certificate=ours.certificate, timeout=0.4)
            assert time.monotonic() - start < 2
            assert answer == Answer(None, f"no whole answer from {sink.url} within 0.4 s")


def test_missing_files_are_told(pair):
    """A file that is not there is an answer, not an exception."""
    answer = send("https://127.0.0.1:1/v1/traces", certificate="/nowhere/ca.pem")

    assert answer.status is None
    assert "/nowhere/ca.pem" in answer.said


def test_https_on_a_port_that_speaks_http():
    """The words say so."""
    with HttpSink() as sink:
        answer = send(sink.url.replace("http:", "https:"))

        assert answer.status is None
        assert "does the port speak https?" in answer.said


@pytest.mark.parametrize("trusted", ["server", "other"])
def test_grpc(pair, trusted):
    """The same over gRPC."""
    pytest.importorskip("grpc")
    ours = pair("server")
    content = Path(ours.key).read_bytes(), Path(ours.certificate).read_bytes()
    with GrpcSink(content) as sink:
        answer = send(sink.url, protocol="grpc", certificate=pair(trusted).certificate)

        if trusted == "server":
            assert answer == Answer(200)
            assert sink.names == ["secret"]
        else:
            assert answer.status == 503
            assert answer.said.startswith(f"the certificate of {sink.url} is not trusted")
            assert sink.requests == []


def test_grpc_without_a_scheme(pair):
    """`host:port` means TLS unless the target says insecure, as OpenTelemetry has it."""
    pytest.importorskip("grpc")
    ours = pair("server")
    content = Path(ours.key).read_bytes(), Path(ours.certificate).read_bytes()
    with GrpcSink(content) as sink:
        endpoint = f"127.0.0.1:{sink.port}"
        trusted = {"protocol": "grpc", "certificate": ours.certificate}

        assert send(endpoint, **trusted) == Answer(200)
        assert send(endpoint, **trusted, insecure=True).status != 200
