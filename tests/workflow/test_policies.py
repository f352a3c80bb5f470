"""RetryPolicy and ErrorHandler: both vocabularies, pure decisions, wrong values refused by name."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import math
import pickle
import sys
import types

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketflow_async.workflow.errors import ConnectionError as EdgeError
from pocketflow_async.workflow.errors import WorkflowValidationError
from pocketflow_async.workflow.policies import (
    AsyncRetryPolicy,
    ErrorHandler,
    RetryPolicy,
    RetryStrategy,
)

POLICIES = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 10**9),
    initial_delay=st.floats(0, 1e6) | st.integers(0, 9),
    backoff_factor=st.floats(0.01, 1e3) | st.integers(1, 9),
    max_delay=st.floats(0, 1e9),
    retry_exceptions=st.none() | st.lists(st.sampled_from([OSError, KeyError, "a.B", "C"])),
    strategy=st.sampled_from(RetryStrategy),
)


# -- the two vocabularies


def test_they_are_one_class():
    """AsyncRetryPolicy is another name of it."""
    assert AsyncRetryPolicy is RetryPolicy


def test_both_vocabularies_mean_the_same():
    """Either is accepted, in either order, mixed too, and all are read back."""
    errors = [OSError, "TimeoutError"]
    same = [
        RetryPolicy(5, 0.5, 2.0, 30.0, errors),
        RetryPolicy(5, "exponential", 0.5, 30.0, errors),
        RetryPolicy(5, RetryStrategy.EXPONENTIAL, 0.5, 30.0, errors),
        RetryPolicy(max_retries=5, base_delay=0.5, max_delay=30.0, retry_on=errors),
        RetryPolicy(max_attempts=5, initial_delay=0.5, max_delay=30.0, retry_exceptions=errors),
        RetryPolicy(5, base_delay=0.5, max_delay=30.0, retry_exceptions=errors),
    ]
    assert len(set(same)) == 1
    for policy in same:
        assert policy.max_attempts == policy.max_retries == 5
        assert policy.initial_delay == policy.base_delay == 0.5
        assert policy.retry_exceptions == policy.retry_on == (OSError, "TimeoutError")
        assert (policy.backoff_factor, policy.max_delay) == (2.0, 30.0)


def test_defaults():
    """Three attempts, one second, doubled, at most a minute, after any error."""
    policy = RetryPolicy()

    assert (policy.max_attempts, policy.initial_delay, policy.backoff_factor) == (3, 1.0, 2.0)
    assert (policy.max_delay, policy.retry_on, policy.strategy) == (60.0, None, "exponential")


@pytest.mark.parametrize("key", ["max_retries", "max_attempts"])
def test_to_dict_has_the_callers_keys(key):
    """Metadata can be read under the word that the caller used; JSON takes it."""
    policy = RetryPolicy(**{key: 5, "retry_on": [ConnectionError, json.JSONDecodeError, "a.B"]})
    found = json.loads(json.dumps(policy.to_dict()))

    assert found[key] == found["max_attempts"] == 5
    assert found["retry_on"] == ["ConnectionError", "json.decoder.JSONDecodeError", "a.B"]
    assert ("max_retries" in found) == (key == "max_retries")


@given(POLICIES)
def test_policies_survive_json_copies_and_pickles(policy):
    """What comes back is equal."""
    assert RetryPolicy.from_dict(json.loads(json.dumps(policy.to_dict()))) == policy
    assert pickle.loads(pickle.dumps(policy)) == policy
    assert copy.deepcopy(policy) == policy
    assert hash(copy.copy(policy)) == hash(policy)
    assert repr(policy).startswith("RetryPolicy(max_attempts=")


def test_a_policy_is_frozen():
    """Any number of nodes may share one."""
    policy = RetryPolicy()

    with pytest.raises(AttributeError, match="make a new one with max_attempts="):
        policy.max_attempts = 4
    with pytest.raises(AttributeError):
        del policy.max_delay
    assert policy != 3


# -- delays


@given(POLICIES, st.integers(1, 5000) | st.just(10**9))
def test_delays_are_bounded_and_finite(policy, attempt):
    """No delay is negative, infinite or above max_delay, however many attempts."""
    delay = policy.delay(attempt)

    assert 0 <= delay <= policy.max_delay
    assert math.isfinite(delay)
    assert delay == policy.calculate_delay(attempt)


@given(POLICIES.filter(lambda p: p.backoff_factor >= 1), st.integers(1, 2000))
def test_delays_never_shrink(policy, attempt):
    """Each is at least the one before."""
    assert policy.delay(attempt) <= policy.delay(attempt + 1)


@given(st.floats(0.001, 10), st.floats(1, 4), st.integers(1, 20))
def test_exponential_delays(initial, factor, attempt):
    """The first is initial_delay, each further one backoff_factor times it."""
    policy = RetryPolicy(initial_delay=initial, backoff_factor=factor, max_delay=1e300)

    assert policy.delay(1) == initial
    assert policy.delay(attempt) == pytest.approx(initial * factor ** (attempt - 1))


@pytest.mark.parametrize(
    ("strategy", "delays"),
    [
        ("exponential", [0.5, 1.0, 2.0, 4.0, 5.0]),
        ("linear", [0.5, 1.0, 1.5, 2.0, 2.5]),
        ("fibonacci", [0.5, 0.5, 1.0, 1.5, 2.5]),
        ("immediate", [0.0] * 5),
    ],
)
def test_strategies(strategy, delays):
    """Each grows in its way, up to max_delay."""
    policy = RetryPolicy(6, strategy, 0.5, 5.0)

    assert [policy.delay(n) for n in range(1, 6)] == delays


def test_attempts_are_counted_from_one():
    """There is no attempt 0 to wait after."""
    with pytest.raises(ValueError, match="counted from 1"):
        RetryPolicy().delay(0)


# -- which errors


class Inner(LookupError):
    pass


@pytest.mark.parametrize(
    ("wanted", "error", "retried"),
    [
        (None, Exception(), True),
        ([], Exception(), False),
        ([OSError], ConnectionResetError(), True),
        ([OSError], KeyError(), False),
        (OSError, TimeoutError(), True),
        ((OSError, KeyError), KeyError(), True),
        (["ConnectionError"], ConnectionResetError(), True),
        (["ConnectionError"], EdgeError("x"), True),
        ("TimeoutError", TimeoutError(), True),
        (["asyncio.TimeoutError"], TimeoutError(), True),
        (["builtins.TimeoutError"], TimeoutError(), True),
        (["json.JSONDecodeError"], json.JSONDecodeError("", "", 0), True),
        (["json.decoder.JSONDecodeError"], json.JSONDecodeError("", "", 0), True),
        (["other.JSONDecodeError"], json.JSONDecodeError("", "", 0), False),
        (["aiohttp.ClientError"], ValueError(), False),
        (["LookupError"], Inner(), True),
        (["Inner"], LookupError(), False),
        (["Exception"], Inner(), True),
        (["BaseException"], KeyboardInterrupt(), False),
        (None, asyncio.CancelledError(), False),
    ],
)
def test_which_errors_are_retried(wanted, error, retried):
    """By class or by name, over all its bases; what is no Exception never."""
    assert RetryPolicy(retry_on=wanted).is_retried(error) is retried


def test_dotted_names_of_what_a_package_hands_on(monkeypatch):
    """`pack.Error` is the class that pack offers, wherever it was defined; nothing is imported."""

    class Error(Exception):
        __module__ = "pack.errors"

    class Special(Error):
        __module__ = "pack.more"

    package = types.ModuleType("pack")
    package.Error = Error
    policy = RetryPolicy(retry_on=["pack.Error"])
    assert not policy.is_retried(Special())

    monkeypatch.setitem(sys.modules, "pack", package)
    assert policy.is_retried(Special())
    assert not RetryPolicy(retry_on=["pack.Other"]).is_retried(Special())


# -- wrong values


@pytest.mark.parametrize(
    ("keywords", "error", "said"),
    [
        ({"max_attempts": 0}, ValueError, "max_attempts counts the first attempt too"),
        ({"max_retries": 0}, ValueError, "max_retries counts the first attempt too"),
        ({"max_retries": -1}, ValueError, "max_retries"),
        ({"max_retries": 2.5}, TypeError, "max_retries must be a whole number"),
        ({"max_retries": True}, TypeError, "max_retries"),
        ({"max_retries": "3"}, TypeError, "max_retries"),
        ({"base_delay": -1}, ValueError, "base_delay must be a finite number, at least 0"),
        ({"initial_delay": math.inf}, ValueError, "initial_delay"),
        ({"max_delay": 10**400}, ValueError, "max_delay"),
        ({"max_delay": math.nan}, ValueError, "max_delay"),
        ({"max_delay": "60"}, TypeError, "max_delay must be a number"),
        ({"backoff_factor": 0}, ValueError, "backoff_factor must be a finite number, more than 0"),
        ({"strategy": "sideways"}, ValueError, "strategy must be one of immediate, linear"),
        ({"strategy": 3}, ValueError, "strategy"),
        ({"retry_on": [3]}, TypeError, "retry_on takes error classes and their names, not 3"),
        ({"retry_on": 3}, TypeError, "retry_on"),
        ({"retry_on": [int]}, TypeError, "retry_on"),
        ({"retry_exceptions": [KeyboardInterrupt]}, ValueError, "retry_exceptions: Keyboard"),
        ({"retry_exceptions": ["a b"]}, ValueError, "retry_exceptions: 'a b' is not the name"),
        ({"retry_exceptions": [""]}, ValueError, "retry_exceptions"),
        ({"attempts": 3}, TypeError, "no argument 'attempts'; it takes backoff_factor"),
        ({"max_attempts": 3, "max_retries": 3}, TypeError, "both max_attempts and max_retries"),
    ],
)
def test_wrong_values_are_refused_by_the_callers_word(keywords, error, said):
    """The message speaks of the argument as the caller called it."""
    with pytest.raises(error, match=said):
        RetryPolicy(**keywords)


def test_wrong_places():
    """Too many by place, or one both by place and by name."""
    with pytest.raises(TypeError, match="at most 5"):
        RetryPolicy(1, 1, 1, 1, None, 1)
    with pytest.raises(TypeError, match="both max_attempts and max_retries"):
        RetryPolicy(3, max_retries=3)


# -- error handlers


class Around:
    run_id = node_id = "n"

    async def get_resource(self, name):
        return f"the {name}"


async def handle(handler, error=None, **inputs):
    error = error or ValueError("boom")
    return await handler.handle(error, node_id="fetch", inputs=inputs, context=Around())


async def test_fallback_yields_a_copy_and_logs(caplog):
    """What a run does to the value is not seen by the next; the log names node and error."""
    handler = ErrorHandler("fallback", {"error": True, "list": []}, log_level="warning")

    first = await handle(handler)
    first["list"].append(1)

    assert await handle(handler) == {"error": True, "list": []}
    assert caplog.record_tuples[0] == (
        "pocketflow_async.workflow",
        logging.WARNING,
        "node 'fetch' failed: ValueError: boom",
    )


async def test_fallbacks_that_cannot_be_copied_are_shared():
    """A lock or a connection is yielded as it is."""
    lock = asyncio.Lock()
    held = {"thread": types.SimpleNamespace(), "iterator": iter([]), "lock": lock}
    del held["thread"]

    generator = (n for n in ())
    assert await handle(ErrorHandler("fallback", generator)) is generator
    assert (await handle(ErrorHandler("fallback", held))).keys() == held.keys()


async def test_log_and_ignore(caplog):
    """Both yield None; only one of them speaks."""
    assert await handle(ErrorHandler("ignore")) is None
    assert not caplog.records
    assert await handle(ErrorHandler("log")) is None
    assert [record.levelname for record in caplog.records] == ["ERROR"]


async def test_custom_functions():
    """They get the error, and the inputs if they take two; they may be asynchronous and raise."""

    async def later(error, inputs):
        await asyncio.sleep(0)
        return str(error), dict(inputs)

    def fail(error):
        raise KeyError("worse") from error

    assert await handle(ErrorHandler("custom", custom_handler=str)) == "boom"
    assert await handle(ErrorHandler("custom", None, later), x=1) == ("boom", {"x": 1})
    with pytest.raises(KeyError, match="worse"):
        await handle(ErrorHandler("custom", None, fail))


async def test_custom_code():
    """Code has inputs, the error and its facts as names, resources too, and may await."""
    code = """
        db = await get_resource("db")
        result = [error_type, error_message, x, db, isinstance(error, ValueError)]
    """
    handler = ErrorHandler("custom", custom_handler=code)

    assert await handle(handler, x=1) == ["ValueError", "boom", 1, "the db", True]
    assert ErrorHandler.from_dict(json.loads(json.dumps(handler.to_dict()))) == handler


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        (("retry",), ValueError, "handler_type must be one of .*'fallback'.* not 'retry'"),
        ((None,), ValueError, "handler_type"),
        (([],), ValueError, "handler_type"),
        (("log", None, None, "loud"), ValueError, "log_level must be one of .* not 'loud'"),
        (("log", None, None, 10), ValueError, "log_level"),
        (("custom",), ValueError, "custom_handler must be given"),
        (("custom", None, 3), TypeError, "custom_handler must be a function or a code string"),
        (("custom", None, "x = ="), WorkflowValidationError, "line 1, column 5: invalid syntax"),
    ],
)
def test_wrong_handlers(given, error, said):
    """Each is refused when it is made, not when a node fails."""
    with pytest.raises(error, match=said):
        ErrorHandler(*given)


def test_functions_cannot_be_saved_with_to_dict():
    """The error says what can."""
    with pytest.raises(TypeError, match="only a code string can be saved"):
        ErrorHandler("custom", custom_handler=len).to_dict()
