"""Risk limits: which way they count, and what is beyond them."""

from __future__ import annotations

import copy
import json
import math
import pickle
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketflow_async.infrastructure.risk import (
    RiskLimit,
    RiskLimitExceeded,
    RiskLimits,
    UnknownRiskLimit,
    exact,
)

FINITE = st.floats(-1e12, 1e12)


def level(name, value, current, direction=None):
    return RiskLimit(name, value, direction).read(current).level


@pytest.mark.parametrize(
    ("name", "limit", "current", "expected"),
    [
        ("daily_loss", -500, -550, "breach"),
        ("daily_loss", -500, -500, "alert"),
        ("daily_loss", -500, -399, "ok"),
        ("daily_loss", -500, 450, "ok"),  # a profit is not 90 % of a loss limit
        ("max_daily_loss", -500, -501, "breach"),
        ("daily_loss_limit", -500, -501, "breach"),
        ("daily_pnl", -500, -600, "breach"),
        ("daily_pnl", -500, 100, "ok"),
        ("net_profit", -500, -501, "breach"),
        ("position_size", 10_000, -50_000, "breach"),  # a short position
        ("max_position_size", 10_000, 10_000, "alert"),
        ("position", 10_000, -7_999, "ok"),
        ("drawdown_percent", 20, 25, "breach"),
        ("drawdown_percent", 20, -25, "breach"),
        ("net_exposure", 100, -101, "breach"),
        ("open_orders", 10, 11, "breach"),
        ("open_orders", 10, 8, "alert"),
        ("open_orders", 10, -50, "ok"),
        ("min_balance", 100, 99, "breach"),
        ("min_balance", 100, 120, "alert"),
        ("min_balance", 100, 1_000, "ok"),
        ("daily_loss", 0, -0.01, "breach"),
        ("daily_loss", 0, 5, "ok"),
        ("open_orders", 0, 1, "breach"),
        ("open_orders", 0, 0, "ok"),
    ],
)
def test_direction_by_name(name, limit, current, expected):
    """The name says which way a limit counts."""
    assert level(name, limit, current) == expected


@pytest.mark.parametrize(
    "current",
    [
        math.nan,
        math.inf,
        -math.inf,
        Decimal("NaN"),
        Decimal("sNaN"),
        Decimal("Infinity"),
        None,
        "600",
        True,
        object(),
        1j,
    ],
    ids=lambda current: repr(current).partition(" at ")[0],
)
@pytest.mark.parametrize("name", ["daily_loss", "drawdown", "open_orders"])
def test_what_is_no_finite_number_is_a_breach(name, current):
    """NaN, infinity and what is no number are beyond every limit."""
    limit = -500 if name == "daily_loss" else 500

    reading = RiskLimit(name, limit).read(current)

    assert (reading.level, reading.utilization) == ("breach", 1.0)
    json.dumps(reading.facts(), allow_nan=False)


@pytest.mark.parametrize(
    ("name", "limit", "direction", "says"),
    [
        ("daily_loss", 500, None, "a loss is below zero"),
        ("MAX_DAILY_LOSS", 50, None, "a loss is below zero"),
        ("daily_pnl", 500, None, "a loss is below zero"),
        ("daily_return", -5, None, "say direction"),
        ("position", -1, None, "below zero"),
        ("orders", -1, "abs", "below zero"),
        ("orders", math.nan, None, "must be a number"),
        ("orders", math.inf, None, "must be a number"),
        ("orders", 10**400, None, "must be a number"),
        ("orders", "10", None, "must be a number"),
        ("orders", None, None, "must be a number"),
        ("orders", 1, "sideways", "floor, ceiling or abs"),
    ],
)
def test_limits_that_can_be_misunderstood_are_refused(name, limit, direction, says):
    """A limit whose sign does not fit its name, or that is no number, is an error at once."""
    with pytest.raises(ValueError, match=says):
        RiskLimit(name, limit, direction)


@pytest.mark.parametrize(
    "name",
    [
        "loss_today",
        "daily_loss_usd",
        "max_loss_per_trade",
        "daily_losses",
        "pnl_usd",
        "dailyLoss",
        "daily-loss",
        "dailyPnL",
        "daily_loss_pct",
        "daily.loss.usd",
        "lossUSD",
        "USDLoss",
        "PNLusd",
        "p&l_today",
        "LOSSES_TODAY",
        "stoploss",
        "maxLoss24h",
        "profit_today",
        "Loss per day",
    ],
)
def test_words_of_losses_count_wherever_they_are(name):
    """A limit above zero is refused unless its direction is said; one below zero is a floor."""
    with pytest.raises(ValueError, match="ambiguous"):
        RiskLimit(name, 500)

    assert level(name, -500, -501) == "breach"
    assert level(name, -500, 900) == "ok"
    assert level(name, 500, 501, "ceiling") == "breach"
    assert level(name, 500, 499, "floor") == "breach"


@pytest.mark.parametrize(
    ("name", "direction"),
    [
        ("lossless_ratio", "ceiling"),
        ("glossary_terms", "ceiling"),
        ("minBalance", "floor"),
        ("netExposure", "abs"),
        ("position-size", "abs"),
        ("drawdowns", "abs"),
    ],
)
def test_words_are_whole_however_they_are_put_together(name, direction):
    """The words of a name are what counts, and no parts of others."""
    assert RiskLimit(name, 5).direction == direction


def test_explicit_direction_goes_before_the_name():
    """With `direction` a limit means what it says, whatever its name."""
    assert level("equity_loss", 500, 499, "floor") == "breach"
    assert level("daily_return", -5, -6, "floor") == "breach"
    assert level("basis", -5, -4, "ceiling") == "breach"
    assert level("basis", -5, -10, "ceiling") == "ok"
    assert level("basis", -5, -6, "ceiling") == "alert"
    assert level("position", 10, -11, "ceiling") == "ok"


def test_numbers_are_compared_exactly():
    """Nothing is rounded before it is compared."""
    assert level("position", 500, Decimal("500.0000000000000000000001")) == "breach"
    assert level("position", 2**53, 2**53 + 1) == "breach"
    assert level("position", Decimal("0.1"), 0.1) == "breach"  # 0.1 is a little more
    assert level("position", 1, Fraction(3, 2)) == "breach"
    assert level("position", 1, 10**400) == "breach"
    assert exact(2**53 + 1) == 2**53 + 1


@given(st.sampled_from(["floor", "ceiling", "abs"]), FINITE, FINITE)
def test_breach_is_what_is_beyond(direction, limit, current):
    """For all numbers: a breach is what the direction calls beyond, and an alert 80 %."""
    if direction == "abs":
        limit = abs(limit)
    beyond = {
        "floor": current < limit,
        "ceiling": current > limit,
        "abs": abs(current) > limit,
    }[direction]

    reading = RiskLimit("x", limit, direction).read(current)

    assert (reading.level == "breach") == beyond
    assert 0 <= reading.utilization < math.inf
    assert (reading.utilization >= 1) or not beyond
    assert (reading.level == "ok") == (reading.utilization < 0.8)


@given(st.floats(-1e6, -1), st.floats(-1e6, 1e6))
def test_loss_limit_and_its_mirror_agree(limit, current):
    """A floor for a loss is the ceiling for what is lost."""
    floor = RiskLimit("daily_loss", limit).read(current)
    ceiling = RiskLimit("lost", -limit).read(-current)

    assert (floor.level, floor.utilization) == (ceiling.level, ceiling.utilization)


def test_limits_by_name():
    """`max_…` and `…_limit` are parts of a setting's name, not of the limit's."""
    limits = RiskLimits({"daily_loss_limit": -500, "max_position_size": 1000})

    assert list(limits) == ["daily_loss", "position_size"]
    assert limits["Max_Position_Size"].value == 1000
    assert limits.limit("daily_loss", None, None).value == -500
    assert limits.limit("daily_loss", -50, None).value == -50
    assert limits.limit("daily_loss", None, "ceiling").direction == "ceiling"
    assert limits.limit("orders", 5, None).direction == "ceiling"
    assert repr(limits) == "<RiskLimits daily_loss: -500, position_size: 1000>"
    with pytest.raises(UnknownRiskLimit, match="Limits: daily_loss, position_size"):
        limits.limit("orders", None, None)
    with pytest.raises(ValueError, match="a loss is below zero"):
        limits.limit("daily_loss", 500, None)


def test_direction_of_a_known_limit_holds_for_other_values():
    """A value given at the check counts the way that the known limit does."""
    limits = RiskLimits({"daily_return": RiskLimit("daily_return", -3, "floor")})

    assert limits.limit("daily_return", -5, None).direction == "floor"


@pytest.mark.parametrize("more", [{"alert_at": 0}, {"alert_at": 1.5}, {"on_breach": "pray"}])
def test_wrong_settings_of_limits_are_refused(more):
    """Settings of all limits are looked at, too."""
    with pytest.raises(ValueError, match="is"):
        RiskLimits({}, **more)


def test_error_has_what_the_contract_says():
    """Name, value and limit are attributes, also of a pickled copy."""
    error = RiskLimitExceeded("daily_loss", math.nan, -500)

    for one in (error, copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert (one.limit_type, one.limit) == ("daily_loss", -500)
        assert str(one) == "Risk limit exceeded: daily_loss is nan, and its limit is -500"
