"""Which store an address means, and what it costs to ask."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from pocketflow_async.infrastructure import store as package
from pocketflow_async.infrastructure.store import (
    LeaseLost,
    MemoryStore,
    NotANumberError,
    OutOfOrderError,
    PostgresStore,
    RunExists,
    SqliteStore,
    StoreError,
    StoreUnavailable,
    UnstorableError,
    open_store,
)


@pytest.mark.parametrize("url", ["memory:", "memory://", "MEMORY:"])
def test_memory_is_one_word(url):
    """Each such store is a new one."""
    assert isinstance(open_store(url), MemoryStore)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:////var/x.db", "/var/x.db"),
        ("sqlite:///x/y.db", "x/y.db"),
        ("sqlite+aiosqlite:///x.db", "x.db"),
        ("sqlite:///a%20b%3F.db?busy_timeout=2.5", "a b?.db"),
        ("x.db", "x.db"),
        ("./a b%20.db", "a b%20.db"),
        ("/var/x.db", "/var/x.db"),
        (Path("sqlite:") / "x.db", "sqlite:/x.db"),
    ],
)
def test_files_are_named_by_path_or_address(url, path):
    """Three slashes are relative, four absolute; what is escaped is unescaped, in addresses."""
    store = open_store(url)

    assert isinstance(store, SqliteStore)
    assert store.path == Path(path).absolute()


def test_home_is_found(monkeypatch):
    """A path may begin with ~."""
    monkeypatch.setenv("HOME", "/home/me")

    assert open_store("~/x.db").path == Path("/home/me/x.db")
    assert open_store("sqlite:///~/x.db").path == Path("/home/me/x.db")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:pw@h:5/d", "postgresql://h:5/d, schema 'pocketflow'"),
        ("postgres://h/d?schema=bots", "postgresql://h/d, schema 'bots'"),
        ("postgresql+asyncpg://h/d?schema=a%20b&sslmode=require", "//h/d, schema 'a b'"),
    ],
)
def test_servers_are_named_by_address(url, shown):
    """The schema is ours, the rest is asyncpg's; the password is not shown."""
    store = open_store(url)

    assert isinstance(store, PostgresStore)
    assert shown in repr(store)
    assert "pw" not in repr(store)


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("", "empty"),
        ("redis://:hunter2@h", "redis: is no place for a store; what there is: memory:, sqlite:"),
        ("memory:x", "nothing after it"),
        ("sqlite://x.db", "three slashes"),
        ("sqlite:x.db", "three slashes"),
        ("sqlite:///", "needs the path"),
        ("sqlite:///:memory:", "take memory:"),
        ("sqlite:///x.db?mode=ro", "does not know mode"),
        ("sqlite:///x.db?busy_timeout=long", "busy_timeout is a number of seconds"),
    ],
)
def test_what_is_no_address_is_told(url, wanted):
    """The error says what there is, and has no password in it."""
    with pytest.raises(ValueError, match=wanted) as told:
        open_store(url)

    assert "hunter2" not in str(told.value)


def test_names_are_loaded_when_they_are_asked_for():
    """Importing the package loads no backend, and no library before it connects."""
    program = (
        "import sys; import pocketflow_async.infrastructure.store as s; "
        "assert 'sqlite3' not in sys.modules; s.MemoryStore; assert 'sqlite3' not in sys.modules; "
        "s.SqliteStore; s.PostgresStore('postgresql://h/d'); assert 'asyncpg' not in sys.modules"
    )

    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2])


def test_all_names_are_there():
    """What the package promises it has; anything else is an AttributeError."""
    assert sorted(package.__all__) == package.__all__
    for name in package.__all__:
        assert getattr(package, name) is not None
    assert set(package.__all__) <= set(dir(package))
    with pytest.raises(AttributeError, match="nothing"):
        package.nothing


@pytest.mark.parametrize(
    ("error", "also"),
    [
        (StoreUnavailable("/x.db", "is full", "Make room"), ConnectionError),
        (UnstorableError("a value", "is too large"), ValueError),
        (NotANumberError("k"), TypeError),
        (RunExists("r"), StoreError),
        (OutOfOrderError("r", "entry", 3, 2), StoreError),
        (LeaseLost("r"), StoreError),
    ],
)
def test_errors_can_be_sent_to_other_processes(error, also):
    """Copied and pickled they keep their message and facts."""
    for same in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert (type(same), str(same), vars(same)) == (type(error), str(error), vars(error))
    assert isinstance(error, also)
    assert isinstance(error, StoreError)
