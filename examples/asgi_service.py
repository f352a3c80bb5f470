"""Serve flows over HTTP: each request continues its caller's trace and takes it further on.

    uvicorn asgi_service:app          # in examples/; then: curl 127.0.0.1:8000/answer

`/answer` asks `/facts`, which stands for another service; both are in one trace. Run as it is, it
serves both to itself once and shows that: python examples/asgi_service.py
"""

import asyncio
import importlib.util
import json
import socket
import urllib.request

from pocketflow_async import AsyncFlow, AsyncNode
from tracing import current_span, trace_flow
from tracing.otel import incoming, outgoing


class Look(AsyncNode):
    """Finds facts."""

    async def exec_async(self, prep_res):
        return {"facts": ["water is wet"], "trace": current_span().trace_id}

    async def post_async(self, shared, prep_res, found):
        shared["reply"] = found


class Ask(AsyncNode):
    """Asks the other service. With a client like httpx it is the same: `headers=outgoing()`."""

    async def prep_async(self, shared):
        return shared["service"]

    async def exec_async(self, service):
        request = urllib.request.Request(f"{service}/facts", headers=outgoing())
        return json.loads(await asyncio.to_thread(self.fetch, request))

    @staticmethod
    def fetch(request):
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.read()

    async def post_async(self, shared, service, found):
        here = current_span().trace_id
        shared["reply"] = {"answer": found["facts"], "trace": here, "theirs": found["trace"]}


FLOWS = {
    "/facts": trace_flow(flow_name="facts")(AsyncFlow(start=Look())),
    "/answer": trace_flow(flow_name="answer")(AsyncFlow(start=Ask())),
}


async def app(scope, receive, send):
    """Answer one request, as ASGI has it."""
    if scope["type"] != "http":
        return
    flow = FLOWS.get(scope["path"])
    shared = {"service": "http://{}:{}".format(*scope["server"]), "reply": {}}
    with incoming(scope["headers"]):
        if flow is not None:
            await flow.run_async(shared)
    status = 404 if flow is None else 200
    head = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": json.dumps(shared["reply"]).encode()})


async def main():
    import uvicorn  # noqa: PLC0415 (not needed by those who serve it otherwise)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/answer"
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        caller = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        request = urllib.request.Request(url, headers={"traceparent": caller})
        reply = json.loads(await asyncio.to_thread(Ask.fetch, request))
        server.should_exit = True
        await serving
    print(reply)
    assert reply["trace"] == reply["theirs"] == caller.split("-")[1]


if __name__ == "__main__":
    if importlib.util.find_spec("uvicorn"):
        asyncio.run(main())
    else:
        print("pip install uvicorn, to see it at work")
