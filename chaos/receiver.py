"""An OTLP receiver in a process of its own, so that it takes no turn of the flow's interpreter.

    python -m chaos.receiver PORT

It is told what to do by lines of JSON: a fault, or a file that all it took is to be written into.
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.tracing.wire_kit import Fault, HttpSink

_SIZE = struct.Struct("<I")


class Receiver:
    """The other end of such a process.

    Args:
        port: To listen on; 0: any free one.
        fault: What is wrong with it at first.
    """

    def __init__(self, port: int = 0, fault: dict[str, Any] | None = None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "chaos.receiver", str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.port = int(self._answer()["port"])
        self.url = f"http://127.0.0.1:{self.port}"
        self.misbehave(fault or {})

    def misbehave(self, fault: dict[str, Any]) -> None:
        """Answer like this from now on; an empty fault is none."""
        self._ask(fault=fault)

    def seen(self) -> tuple[int, int]:
        """Return how many requests have come, and how many spans were taken."""
        said = self._ask(seen=True)
        return said["requests"], said["spans"]

    def taken(self, file: Path) -> Iterator[ExportTraceServiceRequest]:
        """Return what it took, request after request; it goes through *file*."""
        self._ask(dump=str(file))
        return decoded(file)

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, **order: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        said: dict[str, Any] = json.loads(self._process.stdout.readline())
        return said


def decoded(file: Path) -> Iterator[ExportTraceServiceRequest]:
    """Yield the requests in a file of a receiver, decoded by the official decoder."""
    data = file.read_bytes()
    at = 0
    while at < len(data):
        (size,) = _SIZE.unpack_from(data, at)
        at += _SIZE.size
        yield ExportTraceServiceRequest.FromString(data[at : at + size])
        at += size


def _obey(sink: HttpSink, order: dict[str, Any]) -> dict[str, Any]:
    if "fault" in order:
        sink.fault = Fault(
            **{
                name: value.encode() if name == "body" else value
                for name, value in order["fault"].items()
            }
        )
    if "dump" in order:
        with open(order["dump"], "wb") as file:
            for request in [each for each in sink.requests if each.taken]:
                data = request.request.SerializeToString()
                file.write(_SIZE.pack(len(data)) + data)
    if "seen" in order:
        taken = [each for each in tuple(sink.requests) if each.taken]
        return {"requests": len(sink.requests), "spans": sum(len(each.spans) for each in taken)}
    return {}


def main() -> None:
    """Serve until the standard input ends."""
    with HttpSink(port=int(sys.argv[1])) as sink:
        said: dict[str, Any] = {"port": sink.port}
        while True:
            sys.stdout.write(json.dumps(said) + "\n")
            sys.stdout.flush()
            line = sys.stdin.readline()
            if not line:
                return
            said = _obey(sink, json.loads(line))


if __name__ == "__main__":
    main()
