"""The HTTP client, with each back end, against servers that behave and that do not."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import weakref

import pytest

from pocketflow_async.needing import need
from pocketflow_async.resilience import Retry, is_transient
from pocketflow_async.resources.http_errors import (
    HttpConnectionError,
    HttpError,
    HttpStatusError,
    HttpTimeoutError,
)
from pocketflow_async.resources.http_factory import HttpClientFactory
from tests.resources.http_kit import Answer, CutError, echo, serving, untrusted
from tests.service_kit import free_port

BACKENDS = ["httpx", "aiohttp"]
NOWHERE = "no-such-host.invalid"


@pytest.fixture(params=BACKENDS)
def backend(request):
    return request.param


@pytest.fixture
def make(backend):
    """Return what makes a client; for `async with`."""

    class made:
        def __init__(self, url=None, **options):
            self._factory = HttpClientFactory(backend, url, **{"trust_env": False, **options})

        async def __aenter__(self):
            self.client = await self._factory.create()
            return self.client

        async def __aexit__(self, *_):
            await self._factory.close(self.client)

    return made


async def test_the_uses_of_the_guides(make):
    """`await` gives a response whose body is read by `await`; so does `async with`."""
    payload = {"a": [1, None, "ü"]}
    async with serving(echo) as server, make(server.url) as api_client:
        response = await api_client.post("/x", json=payload)
        assert response.status == response.status_code == 200
        result = await response.json()
        async with api_client.get("/users", params={"page": 2}) as resp:
            assert resp.status == 200
            assert resp.ok
            said = await resp.json()
        response = await api_client.get("/unstable-endpoint")
        result = {"status": response.status, "data": await response.json()}

    assert result["status"] == 200
    asked = server.asked[0]
    assert (asked.method, asked.target) == ("POST", "/x")
    assert asked.headers["content-type"] == "application/json"
    assert asked.body == '{"a":[1,null,"ü"]}'.encode()
    assert said["query"] == "page=2"


async def test_both_back_ends_send_the_same(make):
    """Params, forms, texts, bytes, streams and headers arrive alike, whatever is underneath."""

    async def parts():
        yield b"one,"
        yield b"two"

    async with serving(echo) as server, make(server.url, headers={"X-Own": "1"}) as client:
        await client.get("/a b/ü?x=1", params={"q": "a b&c", "l": [1, 2], "n": None, "t": True})
        await client.post("/f", data={"name": "a b", "n": 5, "l": ["x", "y"]})
        await client.put("/b", data=b"\x00\xff")
        await client.patch("/t", data="ü", headers={"X-Own": "2", "x-more": "3"})
        await client.post("/s", data=parts())
        await client.delete("/d")
        await client.options("/o")
        await client.request("post", "/e", json=None)

    asked = server.asked
    assert asked[0].target == "/a%20b/%C3%BC?x=1&q=a%20b%26c&l=1&l=2&t=true"
    assert asked[1].body == b"name=a+b&n=5&l=x&l=y"
    assert asked[1].headers["content-type"] == "application/x-www-form-urlencoded"
    assert asked[2].body == b"\x00\xff"
    assert asked[3].body == "ü".encode()
    assert [request.headers["x-own"] for request in asked] == ["1", "1", "1", "2", *"1111"]
    assert asked[3].headers["x-more"] == "3"
    assert asked[4].body == b"one,two"
    assert asked[7].body == b"null"
    methods = ["GET", "POST", "PUT", "PATCH", "POST", "DELETE", "OPTIONS", "POST"]
    assert [request.method for request in asked] == methods


async def test_texts_headers_and_head(make):
    """A text is read as the server says, headers go by any case, and HEAD has no body."""

    async def handler(asked):
        kind = "text/plain; charset=latin-1" if asked.path == "/l" else "text/plain; charset=no"
        return Answer(200, "ü".encode("latin-1" if asked.path == "/l" else "utf-8"), {"X-A": kind})

    async def typed(asked):
        answer = await handler(asked)
        answer.headers["Content-Type"] = answer.headers["X-A"]
        return Answer(204, b"", answer.headers) if asked.method == "HEAD" else answer

    async with serving(typed) as server, make(server.url) as client:
        response = await client.get("/l")
        assert (await response.text(), await response.read()) == ("ü", b"\xfc")
        assert response.headers["x-a"] == response.headers["X-A"]
        assert await (await client.get("/other")).text() == "ü"
        assert await (await client.head("/l")).read() == b""
        with pytest.raises(ValueError, match=r"Expecting|decode"):
            await (await client.get("/other")).json()


async def test_a_body_is_read_as_it_comes(make):
    """Entered with `async with`, the head is there before the body, which comes in pieces."""
    gate = asyncio.Event()

    async def handler(asked):
        return Answer(200, b"x" * 200_000, gate=gate)

    async with serving(handler) as server, make(server.url) as client:
        async with client.get("/") as response:
            assert response.status == 200
            gate.set()
            sizes = [len(chunk) async for chunk in response.chunks()]
        assert sum(sizes) == 200_000
        assert len(sizes) > 1
        awaited = await client.get("/")
        assert [len(chunk) async for chunk in awaited.chunks()] == [200_000]


async def test_connections_are_used_again(make):
    """A hundred requests one after another need one connection, awaited or entered and read."""
    async with serving(echo) as server, make(server.url) as client:
        for _ in range(50):
            await client.get("/")
            async with client.get("/") as response:
                await response.read()
        assert server.accepted == 1
        assert len(server.open) == 1
    await server.none_open.wait()


async def test_nothing_stays_open(make):
    """What was not read, was left by an error, or never read, lets go of its connection."""

    async def handler(asked):
        return Answer(200, b"x" * 5_000_000)

    async with serving(handler) as server, make(server.url, max_connections=2) as client:
        for _ in range(5):
            async with client.get("/"):
                pass
            with pytest.raises(KeyError):
                async with client.get("/") as response:
                    raise KeyError(response.status)
            response = await client.get("/")
            del response
        assert len(server.open) <= 2
    await asyncio.wait_for(server.none_open.wait(), 5)


async def test_a_thousand_requests_on_five_connections(make):
    """All are answered, and there were never more connections."""
    most = 0

    async def handler(asked):
        nonlocal most
        most = max(most, len(server.open))
        return await echo(asked)

    async with serving(handler) as server, make(server.url, max_connections=5) as client:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(client.get(f"/{n}")) for n in range(1000)]
        found = [(await task.result().json())["path"] for task in tasks]

    assert found == [f"/{n}" for n in range(1000)]
    assert most == server.accepted == 5


async def test_time_is_counted_over_all_of_a_request(make):
    """The head, the body and a body that drips for ever are all within the one timeout."""
    never = asyncio.Event()

    async def handler(asked):
        if asked.path == "/head":
            await never.wait()
        return Answer(200, b"x", gate=never)

    async with serving(handler) as server, make(server.url, timeout=0.05) as client:
        with pytest.raises(HttpTimeoutError, match=r"GET /head at 127.0.0.1:\d+ took") as head:
            await client.get("/head?key=hidden")
        with pytest.raises(TimeoutError):
            await client.get("/body")
        async with client.get("/body") as response:
            with pytest.raises(TimeoutError):
                await response.read()
        async with client.get("/body", timeout=0.02) as response:
            with pytest.raises(HttpTimeoutError, match=r"0\.02 s"):
                [chunk async for chunk in response.chunks()]
        await asyncio.wait_for(server.none_open.wait(), 5)
        never.set()
        assert (await client.get("/head", timeout=None)).status == 200
    assert head.value.seconds == 0.05
    assert "hidden" not in str(head.value)


async def test_a_timeout_is_the_back_ends_own_error_too(make, backend):
    """Code written for either library catches it."""
    never = asyncio.Event()
    httpx, aiohttp = need("httpx", "workflow"), need("aiohttp", "resources")
    kinds = {"httpx": httpx.TimeoutException, "aiohttp": aiohttp.ServerTimeoutError}

    async def handler(asked):
        await never.wait()

    async with serving(handler) as server, make(server.url) as client:
        with pytest.raises(kinds[backend]):
            await client.get("/", timeout=0.01)
        own = {"httpx": httpx.Timeout(0.01), "aiohttp": aiohttp.ClientTimeout(total=0.01)}
        with pytest.raises((httpx.ReadTimeout, TimeoutError)):
            await client.get("/", timeout=own[backend])


async def test_cancelled_requests_leave_nothing(make):
    """200 cancelled at any moment: their connections are closed, the client goes on."""
    came, never = asyncio.Event(), asyncio.Event()

    async def handler(asked):
        if asked.path == "/ok":
            return Answer(200, b"fine")
        if len(server.asked) >= 4:
            came.set()
        await never.wait()

    async with serving(handler) as server, make(server.url, max_connections=4) as client:
        tasks = [asyncio.create_task(client.get("/wait")) for _ in range(200)]
        await came.wait()
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results)
        assert await (await client.get("/ok")).text() == "fine"


async def test_cancelled_at_any_moment(make):
    """Whatever a request is doing when it is cancelled: its place goes to those that wait."""
    async with serving(echo) as server, make(server.url, max_connections=3, timeout=3) as client:
        for ticks in range(60):
            tasks = [asyncio.create_task(client.get(f"/{n}")) for n in range(8)]
            for _ in range(ticks):
                await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            await asyncio.gather(*tasks[::2], return_exceptions=True)
            done = await asyncio.gather(*tasks[1::2])
            assert [response.path for response in done] == ["/1", "/3", "/5", "/7"]
        assert len(server.open) <= 3


async def test_a_status_that_says_it_failed(make, backend):
    """The error is ours and the back end's; it says when to come back, and nothing secret."""
    httpx, aiohttp = need("httpx", "workflow"), need("aiohttp", "resources")
    theirs = {"httpx": httpx.HTTPStatusError, "aiohttp": aiohttp.ClientResponseError}[backend]

    async def handler(asked):
        return Answer(429, {"error": "slow"}, {"Retry-After": "7", "Content-Type": "x/json"})

    async with (
        serving(handler) as server,
        make(server.url, headers={"X-API-Key": "hidden"}) as client,
    ):
        response = await client.get("/limited?token=hidden")
        assert not response.ok
        with pytest.raises(theirs) as caught:
            response.raise_for_status()
    error = caught.value
    assert isinstance(error, HttpStatusError)
    assert str(error) == f"GET /limited at 127.0.0.1:{server.port}: 429 Word"
    assert (error.status, error.status_code, error.retry_after) == (429, 429, 7.0)
    assert error.response.headers["retry-after"] == "7"
    assert await error.response.json() == {"error": "slow"}
    for shown in (repr(error), repr(error.args), repr(response), repr(client)):
        assert "hidden" not in shown
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.status, again.retry_after) == (str(error), 429, 7.0)
    assert isinstance(copy.copy(error), HttpStatusError)


async def test_a_server_that_limits_is_obeyed(make):
    """A retry that waits as long as the error says is let through, and not before."""
    from pocketflow_async.resilience import RateLimiter  # the server's own

    limiter, refused = RateLimiter(50, 2), 0

    async def handler(asked):
        nonlocal refused
        if limiter.try_take():
            return Answer(200, {"n": 1})
        refused += 1
        return Answer(503, b"", {"Retry-After": "0.05"})

    async with serving(handler) as server, make(server.url) as client:

        async def tried():
            while True:
                try:
                    return (await client.get("/")).raise_for_status()
                except HttpStatusError as error:
                    await asyncio.sleep(error.retry_after)

        done = await asyncio.gather(*(tried() for _ in range(12)))
    assert [response.status for response in done] == [200] * 12
    assert refused


async def test_connections_that_are_cut(make, backend):
    """In the head, in the body, before an answer: the back end's error and ours; life goes on."""
    httpx, aiohttp = need("httpx", "workflow"), need("aiohttp", "resources")
    theirs = {"httpx": httpx.TransportError, "aiohttp": aiohttp.ClientError}[backend]

    async def handler(asked):
        if asked.path == "/cut":
            raise CutError
        if asked.path == "/half":
            return Answer(200, b"half", length=100)
        if asked.path == "/noise":
            asked.writer.write(b"\x00\x01 not http\r\n\r\n")
            raise CutError
        return Answer(200, b"fine")

    async with serving(handler) as server, make(server.url) as client:
        for path in ("/cut", "/half", "/noise"):
            with pytest.raises(theirs) as caught:
                await client.get(path)
            assert isinstance(caught.value, HttpConnectionError) or path == "/noise"
            async with client.get("/ok") as response:
                assert await response.text() == "fine"
        async with client.get("/half") as response:
            with pytest.raises(theirs) as caught:
                await response.json()
            assert isinstance(caught.value, HttpConnectionError)


async def test_nobody_answers(make, backend):
    """A closed port and a name that does not exist: ours, Python's and the back end's own error."""
    httpx, aiohttp = need("httpx", "workflow"), need("aiohttp", "resources")
    theirs = {"httpx": httpx.ConnectError, "aiohttp": aiohttp.ClientConnectorError}[backend]
    port = free_port()

    async with make(headers={"X-Key": "hidden"}) as client:
        for host, number in (("127.0.0.1", port), (NOWHERE, 80)):
            with pytest.raises(theirs) as caught:
                await client.get(f"http://{host}:{number}/users?key=hidden")
            error = caught.value
            assert isinstance(error, HttpConnectionError)
            assert isinstance(error, HttpError)
            assert isinstance(error, ConnectionError)
            assert isinstance(error.__cause__, theirs)
            assert (error.host, error.port) == (host, number)
            begins = f"GET /users at {host}:{number}: no connection to {host}:{number}: "
            assert str(error).startswith(begins)
            assert len(str(error)) > len(begins)
            assert "hidden" not in str(error) + repr(error)
            assert is_transient(error)


async def test_a_refused_connection_says_so(make):
    """In the words of the system, whatever the back end calls it; a Retry goes by its class."""
    policy = Retry(3, base=0.0, on=ConnectionError)
    async with make(f"http://127.0.0.1:{free_port()}") as client:
        with pytest.raises(ConnectionError, match="Connection refused") as caught:
            await policy.acall(lambda: client.get("/"))
    assert caught.value.__notes__ == ["after 3 attempts"]


async def test_a_refused_connection_after_a_redirect_names_the_other_server(make):
    """The request is named by where it went first."""
    gone = free_port()

    async def handler(asked):
        return Answer(302, b"", {"Location": f"http://127.0.0.1:{gone}/there"})

    async with serving(handler) as server, make(server.url) as client:
        with pytest.raises(HttpConnectionError) as caught:
            await client.get("/here")
    place = f"GET /here at 127.0.0.1:{server.port}: no connection to 127.0.0.1:{gone}: "
    assert str(caught.value).startswith(place)
    assert caught.value.port == gone


async def test_connection_errors_can_be_copied_and_sent(make):
    """Into another process, which may have no back end: host and port come along."""
    async with make() as client:
        with pytest.raises(HttpConnectionError) as caught:
            await client.get(f"http://127.0.0.1:{free_port()}/")
    for again in (copy.copy(caught.value), pickle.loads(pickle.dumps(caught.value))):
        assert isinstance(again, HttpConnectionError)
        assert isinstance(again, ConnectionError)
        assert str(again) == str(caught.value)
        assert (again.host, again.port) == (caught.value.host, caught.value.port)


async def test_a_server_that_is_not_trusted(make, backend, tmp_path):
    """A wrong certificate comes as the back end tells it, since no further try helps."""
    httpx, aiohttp = need("httpx", "workflow"), need("aiohttp", "resources")
    theirs = {"httpx": httpx.ConnectError, "aiohttp": aiohttp.ClientConnectorCertificateError}

    async with untrusted(tmp_path) as port, make() as client:
        with pytest.raises(theirs[backend]) as caught:
            await client.get(f"https://127.0.0.1:{port}/")
    assert not isinstance(caught.value, HttpError)
    assert not is_transient(caught.value)


async def test_redirects(make):
    """They are followed unless one says no; `Authorization` does not go to another server."""

    async def handler(asked):
        if asked.path == "/there":
            return await echo(asked)
        where = f"{other.url}/there" if asked.path == "/away" else "/there"
        return Answer(302, b"", {"Location": where})

    async with serving(echo) as other, serving(handler) as server:
        headers = {"Authorization": "Bearer hidden"}
        async with make(server.url, headers=headers) as client:
            here = await (await client.get("/here")).json()
            away = await (await client.get("/away")).json()
            assert (await client.get("/here", follow_redirects=False)).status == 302
        async with make(server.url, follow_redirects=False) as client:
            assert (await client.get("/here")).status == 302
            assert (await client.get("/here", follow_redirects=True)).path == "/there"
    assert here["headers"]["authorization"] == "Bearer hidden"
    assert "authorization" not in away["headers"]


async def test_redirects_without_end_show_no_headers(make, backend):
    """The error of the back end has none of the headers that were sent."""
    httpx, aiohttp = need("httpx", "workflow"), need("aiohttp", "resources")

    async def handler(asked):
        return Answer(302, b"", {"Location": "/again"})

    async with serving(handler) as server, make(server.url, headers={"X-Key": "hidden"}) as client:
        with pytest.raises((httpx.TooManyRedirects, aiohttp.TooManyRedirects)) as caught:
            await client.get("/again")
    assert "hidden" not in repr(caught.value)
    assert "hidden" not in repr(caught.value.args)


async def test_a_call_is_sent_once_and_only_when_it_is_awaited(make):
    """Nothing goes out before; a call that nobody awaits is told of, one sent twice is refused."""
    async with serving(echo) as server, make(server.url) as client:
        call = client.get("/once")
        await asyncio.sleep(0)
        assert not server.asked
        await call
        with pytest.raises(RuntimeError, match="already awaited"):
            await call
        with pytest.warns(RuntimeWarning, match="never awaited"):
            client.get("/never")
        done = await asyncio.wait_for(client.get("/bounded"), 5)
        assert done.status == 200
        unsent = client.get("/unsent")
        unsent.close()
    assert [asked.path for asked in server.asked] == ["/once", "/bounded"]


async def test_a_closed_client_says_so(make):
    """Closing twice is fine; using it then is an error."""
    async with serving(echo) as server, make(server.url) as client:
        await client.get("/")
        assert not client.is_closed
        async with client:
            pass
        await client.close()
        assert client.is_closed
        with pytest.raises(RuntimeError, match="closed"):
            await client.get("/")


async def test_slow_close(make):
    """A server that does not let go does not hold the client up."""
    never = asyncio.Event()

    async def handler(asked):
        return Answer(200, b"x", gate=never)

    async with serving(handler) as server, make(server.url) as client:
        call = client.get("/")
        response = await call.__aenter__()
        async with asyncio.timeout(5):
            await client.aclose()
        await call.__aexit__(None, None, None)
        assert response.status == 200


async def test_credentials_in_the_address_are_a_header(make):
    """They are sent as basic authorization, and shown nowhere."""
    async with serving(echo) as server:
        url = f"http://us%40er:pass%3Aword@127.0.0.1:{server.port}/api/v1/"
        async with make(url) as client:
            said = await (await client.get("/x")).json()
            assert client.base_url == f"{server.url}/api/v1"
        async with make(url, headers={"authorization": "own"}) as client:
            own = await (await client.get("x")).json()
    assert said["path"] == own["path"] == "/api/v1/x"
    assert said["headers"]["authorization"] == "Basic dXNAZXI6cGFzczp3b3Jk"
    assert own["headers"]["authorization"] == "own"


async def test_what_a_back_end_takes_besides(make):
    """Cookies and files go through; the back end's own objects can be had."""
    async with serving(echo) as server, make(server.url) as client:
        cookie = (await (await client.get("/", cookies={"a": "1"})).json())["headers"]["cookie"]
        response = await client.get("/")
        assert response.raw is not None
        assert client.raw is not None
    assert cookie == "a=1"


async def test_files_with_fields():
    """A multipart body is made by httpx of files and a form."""
    client = await HttpClientFactory("httpx", trust_env=False).create()
    async with serving(echo) as server, client:
        response = await client.post(
            f"{server.url}/", data={"field": "v"}, files={"file": ("n.txt", b"inside")}
        )
        said = await response.json()
    assert said["headers"]["content-type"].startswith("multipart/form-data")
    assert "inside" in said["body"]
    assert 'name="field"' in said["body"]


async def test_a_form_of_aiohttp():
    """What only the back end can write is left to it."""
    aiohttp = need("aiohttp", "resources")
    form = aiohttp.FormData({"field": "v"})
    form.add_field("file", b"inside", filename="n.txt")
    client = await HttpClientFactory("aiohttp").create()
    async with serving(echo) as server, client:
        said = await (await client.post(f"{server.url}/", data=form)).json()
    assert "inside" in said["body"]


def test_a_new_loop_after_one_that_is_closed(backend):
    """What belongs to a closed loop is let go of: the server sees it, and nothing complains."""
    factory = HttpClientFactory(backend, trust_env=False)
    told = asyncio.new_event_loop()

    async def use(server, closing):
        client = await factory.create()
        assert (await client.get(server.url)).status == 200
        if closing:
            await factory.close(client)
        return client

    async def main():
        async with serving(echo) as server:
            for closing in (True, False):
                loop = asyncio.new_event_loop()
                client = await asyncio.to_thread(loop.run_until_complete, use(server, closing))
                loop.close()
                if not closing:
                    assert len(server.open) == 1
                    factory.terminate(client)
                await asyncio.wait_for(server.none_open.wait(), 5)
                gone = weakref.ref(client)
                del client
                gc.collect()
                assert gone() is None

    told.run_until_complete(main())
    told.close()
