"""Servers for tests: those of the machine, and private ones that may be stopped and killed.

Addresses come from `TEST_POSTGRES_URL`, `TEST_REDIS_URL`, `TEST_RABBITMQ_URL`, `TEST_NATS_URL` and
`TEST_MYSQL_URL`; without them those of this machine are tried. A test whose server is absent is
skipped; under REQUIRE_SERVICES=1 that is a failure.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

DEFAULTS = {
    "TEST_POSTGRES_URL": "postgresql://postgres@127.0.0.1:5432/test",
    "TEST_REDIS_URL": "redis://127.0.0.1:6379/0",
    "TEST_RABBITMQ_URL": "amqp://guest:guest@127.0.0.1:5672/",
    "TEST_NATS_URL": "nats://127.0.0.1:4222",
    "TEST_MYSQL_URL": "mysql://root@127.0.0.1:3306/test",
}
LONGEST = 30.0
"""Seconds that a server of our own may take to answer."""


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def answers(host: str, port: int, seconds: float = 1.0) -> bool:
    """Return whether somebody accepts connections there."""
    try:
        socket.create_connection((host, port), seconds).close()
    except OSError:
        return False
    return True


def _url(variable: str) -> str:
    url = os.environ.get(variable) or DEFAULTS[variable]
    parts = urlsplit(url)
    if not answers(parts.hostname or "127.0.0.1", parts.port or 0):
        pytest.skip(f"nobody answers at {parts.hostname}:{parts.port}; set {variable}")
    return url


@pytest.fixture(scope="session")
def postgres_url() -> str:
    """Return the address of a PostgreSQL server."""
    return _url("TEST_POSTGRES_URL")


@pytest.fixture(scope="session")
def redis_url() -> str:
    """Return the address of a Redis server."""
    return _url("TEST_REDIS_URL")


@pytest.fixture(scope="session")
def rabbitmq_url() -> str:
    """Return the address of a RabbitMQ server."""
    return _url("TEST_RABBITMQ_URL")


@pytest.fixture(scope="session")
def nats_url() -> str:
    """Return the address of a NATS server with JetStream."""
    return _url("TEST_NATS_URL")


@pytest.fixture(scope="session")
def mysql_url() -> str:
    """Return the address of a MySQL or MariaDB server."""
    return _url("TEST_MYSQL_URL")


@pytest.fixture
def unique() -> str:
    """Return a name that nothing else has."""
    return f"pf_{uuid4().hex[:16]}"


@pytest.fixture
async def postgres_schema(postgres_url: str, unique: str) -> Generator[str, None, None]:
    """Return the name of a schema of the test's own, dropped after it."""
    import asyncpg

    connection = await asyncpg.connect(postgres_url)
    try:
        await connection.execute(f'CREATE SCHEMA "{unique}"')
        yield unique
        await connection.execute(f'DROP SCHEMA "{unique}" CASCADE')
    finally:
        await connection.close()


@pytest.fixture
async def redis_prefix(redis_url: str, unique: str) -> Generator[str, None, None]:
    """Return what the test's own keys begin with; they are deleted after it."""
    import redis.asyncio

    prefix = f"{unique}:"
    yield prefix
    async with redis.asyncio.from_url(redis_url) as client:
        keys = [key async for key in client.scan_iter(f"{prefix}*")]
        if keys:
            await client.delete(*keys)


class OwnRedis:
    """A Redis server of a test's own.

    Args:
        folder: Where its data are.
        durable: Whether it writes each command to its disk at once.
    """

    def __init__(self, folder: Path, durable: bool = False) -> None:
        self.folder = folder
        self.durable = durable
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its address."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it, with the data that it had; it answers when this returns."""
        self.folder.mkdir(exist_ok=True)
        keep = ["--appendonly", "yes", "--appendfsync", "always"] if self.durable else []
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", *keep]
        command = ["redis-server", *options, "--dir", str(self.folder), "--logfile", "redis.log"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _wait_until(self.port, self._process)
        while b"PONG" not in self._said(b"PING\r\n"):  # it may be reading what it has kept
            time.sleep(0.01)

    def _said(self, command: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", self.port), LONGEST) as sock:
            sock.sendall(command)
            return sock.recv(100)

    def stop(self) -> None:
        """Let it end in good order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            process.wait(LONGEST)


class OwnPostgres:
    """A PostgreSQL server of a test's own, with the database `postgres`; it trusts everybody.

    Args:
        folder: Where its data are.
        binaries: Where `initdb` and `pg_ctl` are.
    """

    def __init__(self, folder: Path, binaries: Path) -> None:
        self.folder = folder
        self._binaries = binaries
        self.port = free_port()

    @property
    def url(self) -> str:
        """Its address."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def create(self) -> None:
        """Make its data."""
        self.folder.mkdir(exist_ok=True)
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")
        self._run("initdb", "-D", str(self.folder), "-U", "postgres", "-A", "trust", "--no-sync")

    def start(self) -> None:
        """Start it, with the data that it had; it answers when this returns."""
        options = (
            f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= "
            "-c fsync=off -c max_connections=60"
        )
        self._ctl("start", "-w", "-l", str(self.folder / "server.log"), "-o", options)

    def stop(self) -> None:
        """Let it end in good order; its connections are cut."""
        self._ctl("stop", "-m", "fast")

    def kill(self) -> None:
        """End it without letting it write anything."""
        self._ctl("stop", "-m", "immediate")

    def is_running(self) -> bool:
        """Return whether it accepts connections."""
        return answers("127.0.0.1", self.port)

    def _ctl(self, *command: str) -> None:
        self._run("pg_ctl", "-D", str(self.folder), "-t", str(int(LONGEST)), *command)

    def _run(self, program: str, *arguments: str) -> None:
        become = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        command = [*(become if os.geteuid() == 0 else []), str(self._binaries / program)]
        done = subprocess.run(
            [*command, *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=2 * LONGEST,
            cwd="/",
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()


@pytest.fixture
def own_redis(tmp_path: Path) -> Generator[OwnRedis, None, None]:
    """Return a Redis server that runs, keeps what it is told, and may be stopped and killed."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    server = OwnRedis(tmp_path / "redis", durable=True)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def own_postgres() -> Generator[OwnPostgres, None, None]:
    """Return a PostgreSQL server that runs and may be stopped and killed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found and (which := shutil.which("initdb")):
        found = [Path(which)]
    if not found:
        pytest.skip("PostgreSQL's initdb is not installed")
    # Not pytest's own folder: as root that lets nobody else through, and the server is no root.
    with tempfile.TemporaryDirectory(prefix="pf-postgres-", ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o755)
        server = OwnPostgres(Path(folder) / "data", found[-1].parent)
        server.create()
        server.start()
        yield server
        if server.is_running():
            server.kill()


def _wait_until(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + LONGEST
    while not answers("127.0.0.1", port):
        assert process.poll() is None, f"the server has ended with {process.returncode}"
        assert time.monotonic() < end, f"nobody answers at {port} after {LONGEST} s"
        time.sleep(0.01)
