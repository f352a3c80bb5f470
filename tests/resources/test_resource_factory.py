"""What factories show of themselves: everything but secrets."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketflow_async.resources import ResourceFactory, ResourceRegistry
from pocketflow_async.resources.errors import in_words
from pocketflow_async.resources.factory import (
    as_factory,
    is_secret,
    masked,
    terminate,
    without_credentials,
)

SECRET = "s3cr3t"

SECRETS = [
    "password",
    "PASSWORD",
    "db_passwd",
    "pwd",
    "client_secret",
    "api_token",
    "api_key",
    "ssl_keyfile_password",
    "credentials",
    "basic_auth",
    "headers",
    "cookies",
    "dsn",
    "url",
]


@pytest.mark.parametrize("name", SECRETS)
def test_what_may_hold_a_secret_is_masked(name):
    """By its name, whatever is in it; of headers the names are shown, of all of them."""
    assert is_secret(name)
    assert masked({name: SECRET}) == {name: "***"}
    assert masked({name: {"X-API-Key": SECRET, "Accept": SECRET}}) == {
        name: {"X-API-Key": "***", "Accept": "***"}
    }
    assert SECRET not in repr(masked({"options": {"deep": [{name: SECRET}]}}))


def test_what_is_no_secret_is_shown():
    """Names, numbers and texts; objects by their type, nothing by its repr."""

    class Odd:
        def __repr__(self):
            return SECRET

    config = {"host": "h", "port": 5, "ssl": True, "odd": Odd(), "none": None, "many": [1, "a"]}

    assert masked(config) == {
        "host": "h",
        "port": 5,
        "ssl": True,
        "odd": "<Odd>",
        "many": [1, "a"],
    }


PART = st.text("abcxyz019.-_~%", min_size=1, max_size=10)


@given(PART, PART, PART, PART)
def test_urls_lose_user_password_and_query(user, password, host, path):
    """And keep the rest."""
    url = f"https://{user}:{password}@{host}/{path}"

    assert without_credentials(url) == f"https://***@{host}/{path}"
    assert without_credentials(f"{url}?q={password}") == f"https://***@{host}/{path}?***"
    assert without_credentials(f"https://{host}/{path}") == f"https://{host}/{path}"
    assert without_credentials(path) == path
    assert in_words(OSError(f"no {url} there")) == f"OSError: no https://***@{host}/{path} there"


def test_a_password_with_signs_of_urls_in_it_is_masked():
    """All up to the last @ before the path is the user and the password."""
    assert without_credentials("https://u:a@b@host/path@x") == "https://***@host/path@x"


class Service(ResourceFactory):
    """As that of the guide: it keeps its secret in an attribute."""

    def __init__(self, api_key, base_url):
        self.api_key = api_key
        self.base_url = base_url

    async def create(self):
        raise ConnectionError(f"cannot reach https://u:{SECRET}@host/")

    def get_config(self):
        return masked(vars(self))


async def test_a_registry_shows_no_secrets(caplog):
    """Neither its repr nor its figures, logs, health or errors of its own."""
    factory = Service(SECRET, f"https://u:{SECRET}@host/")
    with caplog.at_level(logging.DEBUG):
        async with ResourceRegistry() as registry:
            registry.register_factory("x", factory, metadata={"password": SECRET})
            shown = [repr(registry), registry.get_metrics(), await registry.check_health("x")]
            shown += [registry.lease("x"), factory, as_factory(lambda: factory)]
            shown += [vars(registry)]

    assert SECRET not in repr(shown)
    assert SECRET not in caplog.text
    assert "could not be made: ConnectionError" in caplog.text
    assert repr(factory) == "Service(api_key='***', base_url='https://***@host/')"


def test_a_function_as_a_factory_shows_its_name_only():
    """Not the repr of an object, which may say anything."""

    class Own:
        def create(self):
            return 1

        def __repr__(self):
            return SECRET

    assert repr(as_factory(Own())) == "FunctionFactory(Own)"
    assert "lambda" in repr(as_factory(lambda: 1))
    assert as_factory(Own()).get_config() == {}


def test_terminating_takes_what_needs_no_loop():
    """`terminate`, or a `close` that is not asynchronous; its coroutine is not left un-awaited."""
    log = []

    class Both:
        def terminate(self):
            log.append("terminate")

        def close(self):
            log.append("no")

    class Closing:
        def close(self):
            async def work():
                log.append("no")

            log.append("close")
            return work()

    class Later:
        async def close(self):
            log.append("no")

    for resource in (Both(), Closing(), Later(), object()):
        terminate(resource)

    assert log == ["terminate", "close"]
