"""Infrastructure of runs that must not be lost: events, emergency state, a journal, logs."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pocketflow_async.infrastructure.config import (
        Config,
        ConfigError,
        InfrastructureConfig,
        get_config,
    )
    from pocketflow_async.infrastructure.emergency import (
        EmergencyController,
        EmergencyEvent,
        EmergencyHalted,
        EmergencyState,
        RiskLimitExceeded,
        RiskLimits,
    )
    from pocketflow_async.infrastructure.factory import Infrastructure, create_infrastructure
    from pocketflow_async.infrastructure.logging import (
        bind_context,
        bound_context,
        configure_logging,
        get_correlation_id,
        get_logger,
        set_correlation_id,
    )
    from pocketflow_async.infrastructure.resilience import (
        CircuitBreaker,
        CircuitBreakerOpen,
        CircuitBreakerState,
        RetryConfig,
        RetryExhausted,
    )
    from pocketflow_async.infrastructure.state import State
    from pocketflow_async.infrastructure.store.errors import StoreError
    from pocketflow_async.infrastructure.store.model import Store
    from pocketflow_async.infrastructure.store.opening import open_store

__all__ = [
    "CircuitBreaker",
    "CircuitBreakerOpen",
    "CircuitBreakerState",
    "Config",
    "ConfigError",
    "EmergencyController",
    "EmergencyEvent",
    "EmergencyHalted",
    "EmergencyState",
    "Infrastructure",
    "InfrastructureConfig",
    "RetryConfig",
    "RetryExhausted",
    "RiskLimitExceeded",
    "RiskLimits",
    "State",
    "Store",
    "StoreError",
    "bind_context",
    "bound_context",
    "configure_logging",
    "create_infrastructure",
    "get_config",
    "get_correlation_id",
    "get_logger",
    "open_store",
    "set_correlation_id",
]

_MODULES = {
    "config": "Config ConfigError InfrastructureConfig get_config",
    "emergency": (
        "EmergencyController EmergencyEvent EmergencyHalted EmergencyState RiskLimitExceeded "
        "RiskLimits"
    ),
    "factory": "Infrastructure create_infrastructure",
    "logging": (
        "bind_context bound_context configure_logging get_correlation_id get_logger "
        "set_correlation_id"
    ),
    "resilience": (
        "CircuitBreaker CircuitBreakerOpen CircuitBreakerState RetryConfig RetryExhausted"
    ),
    "state": "State",
    "store.errors": "StoreError",
    "store.model": "Store",
    "store.opening": "open_store",
}
_WHERE = {name: module for module, names in _MODULES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    # Loaded when they are asked for: settings need pydantic, and few programs all of it.
    module = _WHERE.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
