"""Risk limits that act on the emergency state."""

from __future__ import annotations

import asyncio
import math
from decimal import Decimal

import pytest

from pocketflow_async.infrastructure.emergency import (
    EmergencyHalted,
    RiskLimitExceeded,
    RiskLimits,
    UnknownRiskLimit,
)
from pocketflow_async.infrastructure.store import MemoryStore, StoreUnavailable
from tests.infrastructure.emergency_kit import Heard, Shaky, control

LIMITS = {"daily_loss": -500, "position_size": 10_000, "drawdown_percent": 20}


async def test_breach_halts_before_it_is_raised():
    """As in the guide: a loss beyond the limit halts all trading, and is raised."""
    store = MemoryStore()
    controller = control(store)
    await controller.check_risk_limit("daily_loss", -500.0, -500.0, auto_halt=True)
    assert controller.is_alert

    with pytest.raises(RiskLimitExceeded) as caught:
        await controller.check_risk_limit("daily_loss", -550.0, -500.0, auto_halt=True)

    error = caught.value
    assert (error.limit_type, error.current, error.limit) == ("daily_loss", -550.0, -500.0)
    assert controller.reason == "Risk limit exceeded: daily_loss"
    with pytest.raises(EmergencyHalted):
        await control(store).admit("increase")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("daily_loss", math.nan),
        ("daily_loss", -600),
        ("drawdown_percent", math.nan),
        ("max_drawdown_percent", math.inf),
        ("position_size", -50_000),
    ],
)
async def test_limits_of_the_configuration_halt_by_name(name, value):
    """A check by name alone uses the known limit; NaN, infinity and short positions breach it."""
    controller = control(limits=LIMITS)

    with pytest.raises(RiskLimitExceeded):
        await controller.check_risk_limit(name, value)

    assert controller.is_halted


async def test_profit_is_no_breach_and_no_use():
    """A profit under a loss limit is neither a breach nor nearly one."""
    controller = control(limits=LIMITS)

    await controller.check_risk_limit("daily_loss", 450)

    assert controller.is_normal
    assert controller.get_status()["risk_limits"]["daily_loss"]["utilization"] == 0.0


async def test_unknown_and_ambiguous_limits_are_errors():
    """A name without a limit, and a loss limit above zero, are refused, and nothing is halted."""
    controller = control(limits=LIMITS)

    with pytest.raises(UnknownRiskLimit):
        await controller.check_risk_limit("orders", 5)
    with pytest.raises(ValueError, match="a loss is below zero"):
        await controller.check_risk_limit("daily_loss", 600, 500)

    assert controller.is_normal


WRONG = [math.nan, math.inf, True, "-500", Decimal("NaN"), Decimal("sNaN"), object(), 10**5000]


@pytest.mark.parametrize("limit", WRONG, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("name", ["daily_loss", "orders"])
async def test_limit_that_is_no_number_halts(name, limit):
    """What cannot be compared is taken for exceeded, of known and unknown limits."""
    store = MemoryStore()

    with pytest.raises(ValueError, match=f"the limit '{name}' is .*: it must be a number"):
        await control(store, limits=LIMITS).check_risk_limit(name, -1000, limit)

    other = control(store)
    await other.refresh()
    assert other.is_halted
    assert other.reason == f"Risk limit could not be checked: {name}"
    assert other.get_status()["metadata"]["limit_type"] == name


async def test_limit_that_is_no_number_obeys_auto_halt_and_on_breach():
    """Without auto_halt it only raises; with "reduce" exits go on."""
    controller = control(limits=RiskLimits(LIMITS, on_breach="reduce"))

    with pytest.raises(ValueError, match="must be a number"):
        await controller.check_risk_limit("daily_loss", -1, math.nan, auto_halt=False)
    assert controller.is_normal
    with pytest.raises(ValueError, match="must be a number"):
        await controller.check_risk_limit("daily_loss", -1, math.nan)

    assert str(controller.state) == "reducing"


async def test_limit_that_is_no_number_halts_without_a_store():
    """The error says what is wrong with the limit; its cause, that the halt is not stored."""
    store = Shaky()
    controller = control(store)
    store.fails_writes = True

    with pytest.raises(ValueError, match="must be a number") as caught:
        await controller.check_risk_limit("daily_loss", -1, math.nan)

    assert isinstance(caught.value.__cause__, StoreUnavailable)
    assert controller.is_halted
    await controller.close()


@pytest.mark.parametrize(("of_controller", "given", "halts"), [
    (True, None, True), (False, None, False), (False, True, True), (True, False, False),
])  # fmt: skip
async def test_auto_halt_is_read(of_controller, given, halts):
    """`auto_halt` of the controller counts unless the check says otherwise; it always raises."""
    controller = control(limits=LIMITS, auto_halt=of_controller)

    with pytest.raises(RiskLimitExceeded):
        await controller.check_risk_limit("daily_loss", -600, auto_halt=given)

    assert controller.is_halted == halts


async def test_alert_at_80_percent():
    """From 80 % on there is an alert, once; it stays when the value is better again."""
    controller, heard = control(limits=LIMITS), Heard()
    controller.subscribe(heard)

    await controller.check_risk_limit("daily_loss", -399.99)
    assert controller.is_normal
    for value in (-400, -410, -100):
        await controller.check_risk_limit("daily_loss", value)
    await controller.flush(5)

    assert heard.changes == [("normal", "alert", "Risk limit above 80%: daily_loss")]
    assert controller.can_trade()
    await controller.resume()
    await controller.check_risk_limit("daily_loss", -410)
    assert controller.is_alert
    await controller.close()


async def test_breach_may_let_exits_through():
    """With `on_breach="reduce"` positions can be left after a breach."""
    controller = control(limits=RiskLimits(LIMITS, on_breach="reduce"))

    with pytest.raises(RiskLimitExceeded):
        await controller.check_risk_limit("daily_loss", -600)

    assert controller.is_reducing
    await controller.admit("reduce")


async def test_limits_are_seen_by_other_processes():
    """What is known of limits is stored when it matters, and is in everybody's status."""
    store = MemoryStore()
    controller, other = control(store, limits=LIMITS), control(store)
    await controller.check_risk_limit("position_size", -9_000)
    await other.refresh()

    seen = other.get_status()["risk_limits"]["position_size"]
    assert (seen["current"], seen["limit"], seen["utilization"]) == (-9_000, 10_000, 0.9)

    await controller.check_risk_limit("position_size", 10)
    await other.refresh()
    assert other.get_status()["risk_limits"]["position_size"]["level"] == "ok"


async def test_checks_within_the_limit_write_nothing():
    """A check in the middle of the limits costs no transaction."""
    store = Shaky()
    controller = control(store, limits=LIMITS)

    for value in (1, 2, 3):
        await controller.check_risk_limit("daily_loss", -value)

    assert store.writes == 0


async def test_breach_without_a_store_is_still_a_breach():
    """If the halt cannot be stored, the breach is raised all the same, and this process halted."""
    store = Shaky()
    store.fails_writes = True
    controller = control(store, limits=LIMITS)

    with pytest.raises(RiskLimitExceeded) as caught:
        await controller.check_risk_limit("daily_loss", -600)

    assert isinstance(caught.value.__cause__, StoreUnavailable)
    assert controller.is_halted
    await controller.close()


async def test_alert_without_a_store_stops_nothing(caplog):
    """An alert that cannot be stored is logged: nothing is beyond its limit."""
    store = Shaky()
    store.fails_writes = True
    controller = control(store, limits=LIMITS)

    await controller.check_risk_limit("daily_loss", -450)

    assert "could not be noted" in caplog.text
    await controller.close()


async def test_measures_are_asked_before_entries_only():
    """A measure is asked before what increases the risk, and halts by itself."""
    controller = control(limits=LIMITS)
    asked = []

    async def loss():
        asked.append("loss")
        return -600

    controller.measure("daily_loss", loss)
    await controller.admit("none")
    await controller.admit("reduce")
    assert asked == []
    with pytest.raises(RiskLimitExceeded):
        await controller.admit("increase")
    assert controller.is_halted
    with pytest.raises(UnknownRiskLimit):
        controller.measure("orders", lambda: 1)


@pytest.mark.parametrize("trouble", ["raises", "hangs"])
async def test_measure_that_fails_is_a_breach(trouble):
    """What cannot be measured in time is taken for exceeded."""
    controller = control(limits=LIMITS, listener_seconds=0.01)

    async def measure():
        if trouble == "raises":
            raise ConnectionError
        await asyncio.Event().wait()

    controller.measure("daily_loss", measure)

    with pytest.raises(RiskLimitExceeded):
        await controller.admit()
    assert controller.is_halted


async def test_halt_during_a_measure_counts():
    """A halt by somebody else while a measure takes its time is not overlooked."""
    store = MemoryStore()
    controller = control(store, limits=LIMITS)

    async def measure():
        await control(store).halt("meanwhile")
        return 0

    controller.measure("daily_loss", measure)

    with pytest.raises(EmergencyHalted, match="meanwhile"):
        await controller.admit()
