"""A model's HTTP server, a receiver of OTLP and providers of OpenTelemetry, for tests beside it."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


class Server(ThreadingHTTPServer):
    """Answers as a model of OpenAI does and, under another path, takes OTLP."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.headers: list[dict[str, str]] = []
        """Those of each request to the model, by name in small letters."""
        self.spans: list[tuple[str, object]] = []
        """Scope and span of all that came by OTLP."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.reply({"ok": True})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        if self.path.endswith("/traces"):
            request = ExportTraceServiceRequest.FromString(body)
            for resource in request.resource_spans:
                for scope in resource.scope_spans:
                    self.server.spans += [(scope.scope.name, span) for span in scope.spans]
            return self.reply({})
        self.server.headers.append({name.lower(): value for name, value in self.headers.items()})
        asked = json.loads(body)
        usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
        if "input" in asked:
            data = [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}]
            return self.reply({"object": "list", "data": data, "model": "e", "usage": usage})
        text = f"answer to {asked['messages'][0]['content']}"
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        answer = {"id": "1", "object": "chat.completion", "created": 1, "model": "m-1"}
        return self.reply({**answer, "choices": [choice], "usage": usage})

    def reply(self, value: object) -> None:
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def serving() -> Generator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def provider(*processors: object) -> tuple[TracerProvider, InMemorySpanExporter]:
    """Return a provider of its own with *processors*, and what it has exported."""
    exporter = InMemorySpanExporter()
    made = TracerProvider(shutdown_on_exit=False)
    for processor in processors:
        made.add_span_processor(processor)  # type: ignore[arg-type]
    made.add_span_processor(SimpleSpanProcessor(exporter))
    return made, exporter


def hexed(number: int, digits: int = 16) -> str:
    return f"{number:0{digits}x}"
