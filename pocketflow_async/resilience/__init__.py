"""Resilience: plain objects around any call, which know nothing of nodes, flows or workflows."""

from pocketflow_async.resilience.batcher import Batcher, BatcherStatistics, batched
from pocketflow_async.resilience.batching import Batch, Due
from pocketflow_async.resilience.breaker import BreakerStatistics, CircuitBreaker
from pocketflow_async.resilience.breaker_gate import BreakerEvent
from pocketflow_async.resilience.breaker_registry import Breakers, breakers
from pocketflow_async.resilience.breaker_verdict import is_failure
from pocketflow_async.resilience.bulkhead import Bulkhead, BulkheadStatistics
from pocketflow_async.resilience.cache_aside import CacheAside
from pocketflow_async.resilience.errors import (
    BatcherClosed,
    BulkheadFull,
    CallTimeoutError,
    CircuitBreakerOpen,
    RateLimitExceeded,
    RedisUnreachableError,
    ResilienceError,
)
from pocketflow_async.resilience.fallback import Fallback
from pocketflow_async.resilience.hedge import Hedge, HedgeStatistics
from pocketflow_async.resilience.limiter import Admission, Bucket, RateLimiter, Window
from pocketflow_async.resilience.limiting import Limiter, LimiterStatistics
from pocketflow_async.resilience.policy import Policies, Policy, compose
from pocketflow_async.resilience.read_through import CacheStatistics
from pocketflow_async.resilience.redis_breaker import RedisBreakerState
from pocketflow_async.resilience.redis_limiter import RedisRateLimiter
from pocketflow_async.resilience.retry import Retried, Retry
from pocketflow_async.resilience.single_flight import FlightStatistics, SingleFlight
from pocketflow_async.resilience.timeout import Timeout
from pocketflow_async.resilience.transient import is_transient

__all__ = [
    "Admission",
    "Batch",
    "Batcher",
    "BatcherClosed",
    "BatcherStatistics",
    "BreakerEvent",
    "BreakerStatistics",
    "Breakers",
    "Bucket",
    "Bulkhead",
    "BulkheadFull",
    "BulkheadStatistics",
    "CacheAside",
    "CacheStatistics",
    "CallTimeoutError",
    "CircuitBreaker",
    "CircuitBreakerOpen",
    "Due",
    "Fallback",
    "FlightStatistics",
    "Hedge",
    "HedgeStatistics",
    "Limiter",
    "LimiterStatistics",
    "Policies",
    "Policy",
    "RateLimitExceeded",
    "RateLimiter",
    "RedisBreakerState",
    "RedisRateLimiter",
    "RedisUnreachableError",
    "ResilienceError",
    "Retried",
    "Retry",
    "SingleFlight",
    "Timeout",
    "Window",
    "batched",
    "breakers",
    "compose",
    "is_failure",
    "is_transient",
]
