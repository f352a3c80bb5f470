"""Options that a back end does not take are refused when the factory is made."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pocketflow_async.resources import (
    CacheFactory,
    DatabasePoolFactory,
    HttpClientFactory,
    MessageQueueFactory,
)
from pocketflow_async.resources.signatures import check_options, taken_by


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: DatabasePoolFactory(passwd="hidden"), "'passwd': did you mean 'password'?"),
        (lambda: DatabasePoolFactory(statement_cache=1), "did you mean 'statement_cache_size'?"),
        (lambda: DatabasePoolFactory("mysql", passwd="hidden"), "did you mean 'password'?"),
        (lambda: DatabasePoolFactory("mysql", max_idl=1), "did you mean 'max_idle'?"),
        (lambda: DatabasePoolFactory("sqlite", busy_timeot=1), "did you mean 'busy_timeout'?"),
        (lambda: DatabasePoolFactory("sqlite", xyzzy=1), "takes no option 'xyzzy'"),
        (lambda: HttpClientFactory(bogus=1), "takes no option 'bogus'"),
        (lambda: HttpClientFactory(header={}), "did you mean 'headers'?"),
        (lambda: HttpClientFactory("aiohttp", cookie_jr=1), "did you mean 'cookie_jar'?"),
        (lambda: CacheFactory(bogus=1), "takes no option 'bogus'"),
        (lambda: CacheFactory(pasword="hidden"), "did you mean 'password'?"),
        (lambda: CacheFactory(url="redis://x", decode_response=1), "'decode_responses'?"),
        (lambda: CacheFactory("memory", max_entrys=1), "did you mean 'max_entries'?"),
        (lambda: MessageQueueFactory("redis", usrname="me"), "did you mean 'username'?"),
        (lambda: MessageQueueFactory("nats", keeep=1), "did you mean 'keep'?"),
    ],
)
def test_a_misspelt_option_is_refused_at_once(make, text):
    """With what was meant, if that is near; no value is told."""
    with pytest.raises(TypeError) as caught:
        make()
    assert text in str(caught.value)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: DatabasePoolFactory(max_queries=5, statement_cache_size=0, server_settings={}),
        lambda: DatabasePoolFactory("mysql", charset="utf8mb4", max_idle=5, init_command="x"),
        lambda: DatabasePoolFactory("sqlite", wal=False, cached_statements=5, iter_chunk_size=5),
        lambda: HttpClientFactory(http2=False, trust_env=False, cookies={}),
        lambda: HttpClientFactory("aiohttp", trust_env=False, read_bufsize=5),
        lambda: CacheFactory(decode_responses=True, socket_connect_timeout=1, client_name="x"),
        lambda: CacheFactory(url="rediss://x", ssl_cert_reqs="none", max_connections=5),
        lambda: CacheFactory(url="unix:///x"),
        lambda: MessageQueueFactory("redis", prefix="x:", db=1),
        lambda: MessageQueueFactory("nats", keep=5, name="x"),
        lambda: MessageQueueFactory("rabbitmq", heartbeat=5, virtualhost="/"),
    ],
)
def test_options_of_the_back_ends_are_taken(make):
    """Whatever is in the signature of what will be called with them."""
    make()


@pytest.mark.parametrize("url", ["http://me:hidden@x", "localhost:6379", "redis:/x", 5])
def test_an_address_that_is_none_of_redis_is_refused(url):
    """It is not repeated, since there may be a password in it."""
    with pytest.raises(ValueError, match="redis://, rediss:// or unix://") as caught:
        CacheFactory(url=url)
    assert "hidden" not in str(caught.value)


def test_without_options_nothing_is_imported():
    """Only whoever gives options pays for the library at that moment."""
    program = (
        "import sys\n"
        "from pocketflow_async.resources import *\n"
        "DatabasePoolFactory(); HttpClientFactory(); CacheFactory(); MessageQueueFactory()\n"
        "assert not {'redis', 'httpx', 'aiohttp', 'asyncpg'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=60)


def test_a_library_that_is_missing_refuses_nothing():
    """Making the resource says what to install."""
    check_options("A", {"anything": 1}, lambda: taken_by("no_such_library:connect"))


def test_a_signature_that_takes_anything_refuses_nothing():
    """What it does with the names is not known then."""

    def connect(host, **rest):
        return host, rest

    check_options("A", {"anything": 1}, lambda: taken_by(connect))


def test_names_of_several_signatures_are_taken_together():
    """One of them passes its further arguments on to the next."""

    def create(size, **rest):
        return size, rest

    def connect(host):
        return host

    assert taken_by(create, connect) == {"size", "host"}
