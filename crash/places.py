"""Where rounds take place: an SQLite file, or servers of our own, whose data outlive a kill."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from tests.service_kit import OwnPostgres, OwnRedis

BACKENDS = ("sqlite", "postgres", "postgres+redis")


@dataclass(frozen=True, slots=True)
class Place:
    """Where one round takes place.

    Attributes:
        backend: One of `BACKENDS`.
        folder: For its files.
        store: Address of the store.
        redis: Address of the event bus; None: it is in memory.
        prefix: What the keys of the event bus begin with.
        restart: Stops the store's server, in good order or not, and starts it again; None: there
            is none.
        restart_redis: Likewise.
    """

    backend: str
    folder: Path
    store: str
    redis: str | None = None
    prefix: str = ""
    restart: Callable[[bool, float], None] | None = None
    restart_redis: Callable[[bool, float], None] | None = None

    @property
    def effects(self) -> Path:
        """The file that stands for the world."""
        return self.folder / "effects.jsonl"

    def told(self) -> set[str] | None:
        """Return the ids of all events that were published; None: nobody else can hear any."""
        if self.redis is None:
            return None
        import redis  # noqa: PLC0415 (not everybody has it)

        with redis.Redis.from_url(self.redis) as client:
            entries = [
                fields
                for key in client.scan_iter(f"{self.prefix}*", _type="stream")
                for _, fields in client.xrange(key)
            ]
        return {json.loads(fields[b"event"])["id"] for fields in entries}


class Servers:
    """The places of many rounds."""

    def __init__(self, stack: ExitStack, folder: Path, backends: list[str]) -> None:
        self._folder = folder
        self._postgres: OwnPostgres | None = None
        self._redis: OwnRedis | None = None
        if any("postgres" in backend for backend in backends):
            self._postgres = stack.enter_context(_postgres())
        if any("redis" in backend for backend in backends):
            self._redis = stack.enter_context(_redis(folder))

    def place(self, backend: str) -> Place:
        """Return a place that was never used."""
        name = f"r{uuid4().hex[:12]}"
        folder = self._folder / name
        folder.mkdir()
        if backend == "sqlite":
            return Place(backend, folder, f"sqlite:///{folder / 'runs.db'}")
        assert self._postgres is not None
        url = f"{self._postgres.url}?schema={name}"
        restart = _restarting(self._postgres)
        if "redis" not in backend:
            return Place(backend, folder, url, restart=restart)
        assert self._redis is not None
        return Place(
            backend,
            folder,
            url,
            self._redis.url,
            f"{name}:",
            restart,
            _restarting(self._redis),
        )


def available() -> list[str]:
    """Return the backends that can be had here."""
    found = ["sqlite"]
    if _initdb() is not None:
        found.append("postgres")
        if shutil.which("redis-server"):
            found.append("postgres+redis")
    return found


def _restarting(server: OwnPostgres | OwnRedis) -> Callable[[bool, float], None]:
    def restart(kill: bool, away: float) -> None:
        if kill:
            server.kill()
        else:
            server.stop()
        time.sleep(away)
        server.start()

    return restart


def _initdb() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1]
    which = shutil.which("initdb")
    return Path(which) if which else None


@contextmanager
def _postgres() -> Generator[OwnPostgres, None, None]:
    initdb = _initdb()
    assert initdb is not None
    with tempfile.TemporaryDirectory(prefix="crash-pg-", ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o755)  # as root: the server is no root
        server = OwnPostgres(Path(folder) / "data", initdb.parent)
        server.create()
        server.start()
        try:
            yield server
        finally:
            if server.is_running():
                server.kill()


@contextmanager
def _redis(folder: Path) -> Generator[OwnRedis, None, None]:
    server = OwnRedis(folder / "redis", durable=True)
    server.start()
    try:
        yield server
    finally:
        server.kill()
