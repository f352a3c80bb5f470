"""Resilience: plain objects around any call, which know nothing of nodes, flows or workflows."""

from pocketflow_async.resilience.limiter import Admission, Bucket, RateLimiter

__all__ = ["Admission", "Bucket", "RateLimiter"]
