"""Ask a service that limits and fails, politely, and keep what it said in a database.

What is looked up is real: the packages of this very environment. The service runs on this machine;
it refuses whoever asks too fast, with Retry-After, and breaks down now and then. Guards around the
calls keep to its limit, try again, and ask for each licence once. The trace shows what each of them
did: `pocketflow-async show`.

    python examples/guarded_calls.py
"""

import asyncio
import itertools
import json
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from threading import Thread
from typing import ClassVar

from pocketflow_async import AsyncFlow, AsyncNode, AsyncParallelBatchNode
from pocketflow_async.resilience import (
    Bulkhead,
    CacheAside,
    CircuitBreaker,
    RateLimiter,
    Retry,
    Timeout,
)
from pocketflow_async.resources import (
    DatabasePoolFactory,
    HttpClientFactory,
    ResourceRegistry,
    get_resource,
)
from tracing import trace_flow

PER_SECOND = 50


class Licences(BaseHTTPRequestHandler):
    """Says what a licence is called in short; every seventh time it has a bad moment."""

    requests = itertools.count(1)
    moments: ClassVar[list[float]] = []

    def do_GET(self):
        now = time.monotonic()
        self.moments[:] = [moment for moment in self.moments if moment > now - 1] + [now]
        if len(self.moments) > PER_SECOND:
            self.answer(429, {"Retry-After": "1"})
        elif next(self.requests) % 7 == 0:
            self.answer(503)
        else:
            name = self.path.rpartition("/")[2]
            self.answer(200, body={"short": name.split("-")[0].upper() or "UNKNOWN"})

    def answer(self, status, headers=(), body=None):
        content = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {**dict(headers), "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


class Packages(AsyncNode):
    """Finds the packages and what they say of their licence."""

    async def exec_async(self, _):
        found = {dist.name: dist.metadata for dist in metadata.distributions()}  # each name once
        return sorted(
            (name, (about.get("License-Expression") or about.get("License") or "unknown")[:40])
            for name, about in found.items()
            if name
        )

    async def post_async(self, shared, _, packages):
        shared["packages"] = packages


class Ask(AsyncParallelBatchNode):
    """Asks the service about each; the guards are shared by all items."""

    async def prep_async(self, shared):
        return shared["packages"]

    async def exec_async(self, package):
        word = "".join(c if c.isalnum() else "-" for c in package[1]).lower()
        client = await get_resource("licences")
        response = await client.get(f"/licence/{word}")
        response.raise_for_status()
        return (await response.json())["short"]

    async def post_async(self, shared, packages, answers):
        names = [name for name, _ in packages]
        shared["answers"] = list(zip(names, answers, strict=True))


class Keep(AsyncNode):
    """Writes all answers, or none, into the database, and counts them there."""

    async def prep_async(self, shared):
        return shared["answers"]

    async def exec_async(self, answers):
        db = await get_resource("db")
        await db.execute("CREATE TABLE packages (name TEXT PRIMARY KEY, licence TEXT)")
        await db.executemany("INSERT INTO packages VALUES (?, ?)", answers)
        return await db.fetch(
            "SELECT licence, count(*) AS many FROM packages GROUP BY licence ORDER BY many DESC"
        )

    async def post_async(self, shared, _, rows):
        shared["licences"] = {row["licence"]: row["many"] for row in rows}


def guarded():
    """Return the guards, from the outside in."""
    return [
        CacheAside({}, key="{package[1]}", ttl=None),
        Retry(6, base=0.05),
        RateLimiter.window(PER_SECOND, 1.05),
        Bulkhead(8),
        CircuitBreaker("licences", failure_threshold=20),
        Timeout(5),
    ]


async def main():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Licences)
    Thread(target=server.serve_forever, daemon=True).start()
    registry = ResourceRegistry()
    registry.register_factory(
        "licences", HttpClientFactory(base_url=f"http://127.0.0.1:{server.server_port}")
    )
    registry.register_factory("db", DatabasePoolFactory("sqlite", database=":memory:"))

    start = Packages()
    start >> Ask(policies=guarded()) >> Keep()
    shared = {}
    try:
        async with registry:
            await trace_flow(AsyncFlow(start, name="Licences")).run_async(shared)
    finally:
        await asyncio.to_thread(server.shutdown)
        server.server_close()
    for licence, many in shared["licences"].items():
        print(f"{many:4}  {licence}")


if __name__ == "__main__":
    asyncio.run(main())
