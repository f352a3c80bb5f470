"""Nodes that stand failures and limits of what they call."""

from __future__ import annotations

from pocketflow_async.workflow.patterns.rate_limited import rate_limited
from pocketflow_async.workflow.patterns.retry_with_backoff import retry_with_backoff


class AsyncPatterns:
    """Adds nodes of a pattern to a builder; each method returns the node's id.

    Code strings may be indented as a whole; where code is taken, a function is too. What a pattern
    has to remember is kept by its node, of which all workflows that the builder builds have the
    same, and all their runs.
    """

    retry_with_backoff = staticmethod(retry_with_backoff)
    rate_limited = staticmethod(rate_limited)
