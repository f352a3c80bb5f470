"""Which errors may be gone at the next try: what `resilience` says, under its old address."""

from __future__ import annotations

from pocketflow_async.resilience.transient import is_transient

__all__ = ["is_transient"]
