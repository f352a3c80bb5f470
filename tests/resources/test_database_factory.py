"""The factory checks what it is given, and shows no secret."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketflow_async.resources.database import DatabasePoolFactory
from pocketflow_async.resources.database_errors import (
    ConnectionReleasedError,
    DatabaseUnreachableError,
    PoolClosedError,
    PoolTimeoutError,
)
from pocketflow_async.resources.database_urls import parts

SECRET = "s3cr3t/@:%"


def test_defaults_are_those_of_the_contract():
    """Backend, host, port, user and sizes have the usual values; nothing is connected to."""
    assert DatabasePoolFactory().get_config() == {
        "backend": "postgresql",
        "host": "localhost",
        "port": 5432,
        "database": "test",
        "user": "postgres",
        "min_size": 5,
        "max_size": 20,
    }
    assert DatabasePoolFactory("mysql").get_config()["port"] == 3306
    assert DatabasePoolFactory("mysql").get_config()["user"] == "root"
    config = DatabasePoolFactory("sqlite", database=Path("a.db"), port=5432).get_config()
    assert config == {"backend": "sqlite", "database": "a.db", "min_size": 5, "max_size": 20}


@pytest.mark.parametrize(
    ("given_", "error", "says"),
    [
        ({"backend": "oracle"}, ValueError, "Unsupported database backend: oracle. Use one of"),
        ({"port": 0}, ValueError, "port"),
        ({"port": "5432"}, ValueError, "port"),
        ({"port": True}, ValueError, "port"),
        ({"host": ""}, TypeError, "host"),
        ({"host": None}, TypeError, "host"),
        ({"database": ""}, ValueError, "database"),
        ({"database": b"x"}, ValueError, "database"),
        ({"database": 7}, TypeError, "os.PathLike"),
        ({"user": 7}, TypeError, "user"),
        ({"password": 7}, TypeError, "password must be a text, not int"),
        ({"backend": "mysql", "password": lambda: "x"}, TypeError, "password"),
        ({"min_size": -1}, ValueError, "min_size"),
        ({"max_size": 0}, ValueError, "max_size"),
        ({"max_size": 2.0}, ValueError, "max_size"),
        ({"min_size": 3, "max_size": 2}, ValueError, "must not be above"),
        ({"acquire_timeout": 0}, ValueError, "acquire_timeout"),
        ({"connect_timeout": None}, ValueError, "connect_timeout"),
        ({"connect_timeout": float("nan")}, ValueError, "connect_timeout"),
        ({"dsn": "postgresql://a:b@c/d"}, TypeError, "dsn is no option"),
    ],
)
def test_what_cannot_be_is_refused_at_once(given_, error, says):
    """Wrong types and values are refused when the factory is made, by name."""
    with pytest.raises(error, match=says):
        DatabasePoolFactory(**given_)


@pytest.mark.parametrize("field", ["host", "database"])
def test_a_url_in_the_wrong_place_is_not_repeated(field):
    """Who gives a whole URL as host or database is told so, without the password in it."""
    with pytest.raises(ValueError, match="from_url") as info:
        DatabasePoolFactory(**{field: f"postgresql://me:{SECRET}@host/db"})
    assert SECRET not in str(info.value)


def test_no_secret_is_shown():
    """Password, and whatever options may hold secrets, are not in the configuration or repr."""
    factory = DatabasePoolFactory(
        password=SECRET,
        user="me",
        passfile="/etc/pass",
        ssl=object(),
        server_settings={"application_name": "app", "my.secret_key": SECRET},
        command_timeout=5,
        krbsrvname=SECRET.encode(),
    )
    config = factory.get_config()
    for text in (repr(factory), str(factory), str(config)):
        assert SECRET not in text
    assert config["command_timeout"] == 5
    assert "password" not in config


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (
            "postgresql://me:p%40ss%2F@db.example:5433/my%20db",
            ("postgresql", "db.example", 5433, "my db", "me", "p@ss/"),
        ),
        ("postgres://db.example", ("postgresql", "db.example", None, None, None, None)),
        ("postgresql+asyncpg://me@h/d", ("postgresql", "h", None, "d", "me", None)),
        ("mariadb://root@[::1]:3307/d", ("mysql", "::1", 3307, "d", "root", None)),
        ("sqlite:///file.db", ("sqlite", None, None, "file.db", None, None)),
        ("sqlite:////abs/file.db", ("sqlite", None, None, "/abs/file.db", None, None)),
        ("sqlite+aiosqlite://", ("sqlite", None, None, ":memory:", None, None)),
        ("sqlite:///:memory:", ("sqlite", None, None, ":memory:", None, None)),
    ],
)
def test_urls_are_read(url, expected):
    """All that a URL says is found, with its signs as they are meant."""
    names = ("backend", "host", "port", "database", "user", "password")
    found = parts(url)
    assert tuple(found.get(name) for name in names) == expected
    assert DatabasePoolFactory.from_url(url).get_config()["backend"] == expected[0]
    assert DatabasePoolFactory.from_url(url, max_size=7).get_config()["max_size"] == 7


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(min_size=1))
def test_urls_that_are_none_are_not_repeated(noise, secret):
    """Whatever is given, it is read or refused with a message that has no secret."""
    from urllib.parse import quote

    secret = f"s3{secret}".encode("utf-8", "ignore").decode()
    url = f"{noise}://u:{quote(secret, safe='')}@h:x/d?a=b"
    with pytest.raises(ValueError) as info:
        DatabasePoolFactory.from_url(url)
    assert quote(secret, safe="") not in str(info.value)
    assert info.value.__cause__ is None


@pytest.mark.parametrize("tail", ["?sslmode=require", "#x"])
def test_options_in_a_url_are_refused(tail):
    """They would be lost: they are to be given as arguments."""
    with pytest.raises(ValueError, match="as arguments"):
        DatabasePoolFactory.from_url(f"postgresql://h/d{tail}")


@pytest.mark.parametrize(
    "error",
    [
        DatabaseUnreachableError("postgresql at h:1, database 'd'", "refused"),
        PoolTimeoutError("db", 1.0, 5, 5, 3),
        PoolClosedError("db"),
        ConnectionReleasedError(),
    ],
)
def test_errors_go_from_process_to_process(error):
    """They are pickled with message and attributes."""
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))
