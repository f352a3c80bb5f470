"""Infrastructure of runs that must not be lost: events, emergency state, a journal, logs."""

from typing import TYPE_CHECKING

from pocketflow_async.lazily import lazily as _lazily

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

# Loaded when they are asked for: settings need pydantic, and few programs all of it.
__getattr__, __dir__ = _lazily(__name__, _MODULES)
