"""One run, sent to a real Phoenix and read back from it: `make phoenix`.

    python -m chaos.phoenix [FOLDER]

Phoenix is installed into FOLDER (default .venv-phoenix) the first time: 850 MB from the package
registry. It runs on free ports of this machine, without telemetry, in a temporary folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
import venv
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import tracing
from chaos.comparing import Told, finished
from pocketflow_async import AsyncFlow, AsyncNode
from tests.tracing.wire_kit import free_port

UP = 120.0
"""Seconds that Phoenix may take to start, and to show what it was sent."""
SESSION, USER, TAGS = "phoenix-session", "phoenix-user", ["phoenix", "check"]
QUERY = """
{ projects { edges { node { name spans(first: 1000) { edges { node {
    name spanId parentId spanKind statusCode statusMessage startTime userId attributes
    tokenCountPrompt tokenCountCompletion
    input { value mimeType } output { value mimeType }
    events { name message } trace { traceId session { sessionId } }
} } } } } } }
"""


@tracing.traced(name="look up", kind="tool")
def look_up(query: str) -> list[str]:
    """Do what a tool does."""
    return [f"a page on {query}", "another page"]


class Search(AsyncNode):
    """A node that works the second time."""

    async def prep_async(self, shared: dict[str, Any]) -> str:
        """Ask."""
        return str(shared["question"])

    async def exec_async(self, question: str) -> list[str]:
        """Fail once."""
        if not self.cur_retry:
            raise TimeoutError("the index is not ready")
        return look_up(question)

    async def post_async(self, shared: dict[str, Any], asked: str, found: list[str]) -> None:
        """Keep."""
        shared["pages"] = found


class Answer(AsyncNode):
    """A node that asks a model."""

    async def prep_async(self, shared: dict[str, Any]) -> dict[str, Any]:
        """Collect."""
        return {"question": shared["question"], "pages": shared["pages"]}

    async def exec_async(self, asked: dict[str, Any]) -> str:
        """Answer."""
        messages = [{"role": "user", "content": asked["question"]}]
        with tracing.generation("chat", model="some-model", input=messages) as said:
            said.update(output="42, “naturally”", usage={"input": 12, "output": 3})
        return "42"

    async def post_async(self, shared: dict[str, Any], asked: object, said: str) -> None:
        """Keep."""
        shared["answer"] = said


class Check(AsyncNode):
    """A node that fails for good, and the flow with it."""

    async def exec_async(self, given: object) -> None:
        """Fail."""
        raise ValueError("the answer has no unit")


def record(endpoint: str, store: Path) -> None:
    """Run the flow and send what it recorded.

    Raises:
        SystemExit: Not all of it was taken.
    """
    search, answer = Search(max_retries=2), Answer()
    _ = search >> answer >> Check()
    config = tracing.TracingConfig(
        otlp_endpoint=endpoint, store=store, service_name="phoenix-check"
    )
    traced = tracing.trace_flow(
        config=config, flow_name="Research", session_id=SESSION, user_id=USER, tags=TAGS
    )(AsyncFlow(start=search))
    with contextlib.suppress(ValueError):
        asyncio.run(traced.run_async({"question": "what is six times seven?"}))
    counts = tracing.flush(30)
    if not counts.sent or counts.sent != counts.stored:
        raise SystemExit(f"phoenix: not everything was sent: {counts}")


@contextlib.contextmanager
def phoenix(python: Path) -> Iterator[tuple[str, Path]]:
    """Serve Phoenix on a free port; yield its address and its folder."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="phoenix-") as folder:
        environ = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("PHOENIX_", "OTEL_"))},
            "PHOENIX_HOST": "127.0.0.1",
            "PHOENIX_PORT": str(port),
            "PHOENIX_GRPC_PORT": str(free_port()),
            "PHOENIX_WORKING_DIR": folder,
            "PHOENIX_TELEMETRY_ENABLED": "false",
        }
        log = Path(folder, "server.log")
        with log.open("wb") as output:
            server = subprocess.Popen(
                [str(python.with_name("phoenix")), "serve"],
                env=environ,
                stdout=output,
                stderr=output,
            )
        address = f"http://127.0.0.1:{port}"
        try:
            _wait_for(address, server, log)
            yield address, Path(folder)
        finally:
            server.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(10)
            server.kill()
            server.wait()


def _wait_for(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + UP
    while time.monotonic() < until and server.poll() is None:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"{address}/healthz", timeout=2).close()
            return
        time.sleep(0.2)
    raise SystemExit(f"phoenix: it did not start:\n{log.read_text(errors='replace')[-3000:]}")


def shown(address: str, expected: int) -> dict[tuple[bytes, bytes], dict[str, Any]]:
    """Return what Phoenix has, by trace and span id, once it has as many spans as *expected*."""
    until = time.monotonic() + UP
    while True:
        request = urllib.request.Request(
            f"{address}/graphql",
            json.dumps({"query": QUERY}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            said = json.load(response)
        if said.get("errors"):
            raise SystemExit(f"phoenix: {said['errors']}")
        spans = [
            edge["node"]
            for project in said["data"]["projects"]["edges"]
            for edge in project["node"]["spans"]["edges"]
        ]
        if len(spans) >= expected or time.monotonic() > until:
            return {
                (bytes.fromhex(one["trace"]["traceId"]), bytes.fromhex(one["spanId"])): one
                for one in spans
            }
        time.sleep(0.2)


def told(one: dict[str, Any]) -> Told:
    """Return what Phoenix says about a span, in the words of the store; times in whole µs."""
    session, given, made = one["trace"]["session"], one["input"], one["output"]
    start = datetime.fromisoformat(one["startTime"]).timestamp()
    return Told(
        bytes.fromhex(one["parentId"] or ""),
        one["name"],
        round(start * 1e6),
        0,
        given["value"] if given else None,
        made["value"] if made else None,
        session["sessionId"] if session else None,
        one["userId"],
    )


def differences(
    ours: dict[tuple[bytes, bytes], Told], theirs: dict[tuple[bytes, bytes], dict[str, Any]]
) -> list[str]:
    """Return where Phoenix shows something else than the store, in words."""
    found = [f"{one.name} is missing" for key, one in ours.items() if key not in theirs]
    found += [f"{one['name']} is not ours" for key, one in theirs.items() if key not in ours]
    for key in ours.keys() & theirs.keys():
        here, there = ours[key], told(theirs[key])
        if abs(here.start_ns // 1000 - there.start_ns) > 1:
            found.append(f"{here.name} begins at another time")
        here = here._replace(start_ns=0, end_ns=0)
        there = there._replace(start_ns=0, end_ns=0)
        if here != there:
            found.append(f"{there} is {here} here")
        tags = json.loads(theirs[key]["attributes"]).get("tag", {}).get("tags")
        if tags != TAGS:
            found.append(f"{here.name} has the tags {tags}")
    return found + _special(theirs)


def _special(theirs: dict[tuple[bytes, bytes], dict[str, Any]]) -> list[str]:
    """Hold what is particular about single spans against what the flow did."""
    wanted = {
        ("Research", "statusCode"): "ERROR",
        ("Research", "statusMessage"): "ValueError: the answer has no unit",
        ("Search", "statusCode"): "OK",
        ("Check", "statusCode"): "ERROR",
        ("Check", "spanKind"): "chain",
        ("chat", "spanKind"): "llm",
        ("chat", "tokenCountPrompt"): 12,
        ("chat", "tokenCountCompletion"): 3,
        ("look up", "spanKind"): "tool",
    }
    by_name = {one["name"]: one for one in theirs.values()}
    found = []
    for (name, key), value in wanted.items():
        said = by_name.get(name, {}).get(key)
        if said != value:
            found.append(f"{name}: {key} is {said!r} instead of {value!r}")
    failed = [event["name"] for event in by_name.get("Check.exec", {}).get("events", ())]
    if failed != ["exception"]:
        found.append(f"Check.exec has the events {failed}")
    return found


def tree(theirs: dict[tuple[bytes, bytes], dict[str, Any]]) -> Iterator[str]:
    """Yield the spans as Phoenix has them, line by line, each with its contents below."""
    below: dict[str | None, list[dict[str, Any]]] = {}
    ids = {one["spanId"] for one in theirs.values()}
    for one in sorted(theirs.values(), key=lambda one: str(one["startTime"])):
        below.setdefault(one["parentId"] if one["parentId"] in ids else None, []).append(one)

    def lines(parent: str | None, depth: int) -> Iterator[str]:
        for one in below.get(parent, ()):
            said = told(one)
            pad = "  " * depth
            message = f" ({one['statusMessage']})" if one["statusMessage"] else ""
            yield (
                f"{pad}{said.name}  [{one['spanKind']}] {one['statusCode']}{message}"
                f"  session={said.session} user={said.user}"
            )
            if said.input is not None:
                yield f"{pad}    in:  {said.input[:100]}"
            if said.output is not None:
                yield f"{pad}    out: {said.output[:100]}"
            yield from lines(one["spanId"], depth + 1)

    return lines(None, 0)


def installed(folder: Path) -> Path:
    """Return the interpreter of a virtual environment that has Phoenix; make it if need be."""
    python = folder / "bin" / "python"
    if not python.with_name("phoenix").exists():
        say(f"phoenix: installing arize-phoenix into {folder} (850 MB, once)")
        uv = shutil.which("uv")
        if uv:
            version = f"{sys.version_info[0]}.{sys.version_info[1]}"
            subprocess.run([uv, "venv", "-q", "--python", version, str(folder)], check=True)
            command = [uv, "pip", "install", "-q", "--python", str(python)]
        else:
            venv.create(folder, with_pip=True)
            command = [str(python), "-m", "pip", "install", "-q"]
        subprocess.run([*command, "arize-phoenix"], check=True)
    return python


def picture(address: str, trace_id: bytes, file: Path) -> None:
    """Take a screenshot of the trace, where there is a browser for it."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if browser is None:
        say("phoenix: no chromium here, so there is no picture")
        return
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1600,1000"]
    command += ["--virtual-time-budget=15000", f"--screenshot={file}"]
    url = f"{address}/redirects/traces/{trace_id.hex()}"
    subprocess.run([*command, url], check=False, capture_output=True, timeout=90)
    say(f"phoenix: {file}" if file.exists() else "phoenix: chromium took no picture")


def say(text: str) -> None:
    """Write a line."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> int:
    """Compare; return the exit code."""
    python = installed(Path(sys.argv[1] if len(sys.argv) > 1 else ".venv-phoenix").absolute())
    with phoenix(python) as (address, folder):
        store = folder / "traces.db"
        record(address, store)
        ours = finished(store)
        theirs = shown(address, len(ours))
        for line in tree(theirs):
            say(line)
        found = differences(ours, theirs)
        say(f"\nphoenix: {len(theirs)} spans there, {len(ours)} here, {len(found)} differences")
        for one in found:
            say(f"  {one}")
        picture(address, next(iter(ours))[0], Path("phoenix.png").absolute())
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
