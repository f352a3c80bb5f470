"""Nodes that stand failures and limits of what they call."""

from __future__ import annotations

from pocketflow_async.workflow.patterns.batch_processor import batch_processor
from pocketflow_async.workflow.patterns.cache_aside import cache_aside
from pocketflow_async.workflow.patterns.circuit_breaker import circuit_breaker
from pocketflow_async.workflow.patterns.parallel_fetch import parallel_fetch
from pocketflow_async.workflow.patterns.rate_limited import rate_limited
from pocketflow_async.workflow.patterns.retry_with_backoff import retry_with_backoff
from pocketflow_async.workflow.patterns.timeout_with_fallback import timeout_with_fallback


class AsyncPatterns:
    """Adds nodes of a pattern to a builder; each method returns the node's id.

    Code strings may be indented as a whole; where code is taken, a function is too. What a pattern
    has to remember is kept by its node, of which all workflows that the builder builds have the
    same, and all their runs.
    """

    retry_with_backoff = staticmethod(retry_with_backoff)
    rate_limited = staticmethod(rate_limited)
    circuit_breaker = staticmethod(circuit_breaker)
    batch_processor = staticmethod(batch_processor)
    cache_aside = staticmethod(cache_aside)
    timeout_with_fallback = staticmethod(timeout_with_fallback)
    parallel_fetch = staticmethod(parallel_fetch)
