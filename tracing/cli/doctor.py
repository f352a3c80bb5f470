"""All checks, one after the other."""

from __future__ import annotations

import os
import time
from pathlib import Path

from tracing.cli import (
    health_clock,
    health_settings,
    health_store,
    health_targets,
    health_versions,
)
from tracing.cli.findings import Section
from tracing.cli.masking import Veil


def examine(store: Path | None, *, offline: bool) -> list[Section]:
    """Check everything; no secret stands in what comes back.

    Args:
        store: Path of the store; None: as the environment has it.
        offline: Whether nothing is sent.
    """
    settings, route = health_settings.look(os.environ)
    targets, asked = health_targets.look(route, offline=offline)
    named = {one.target.key: one.target.name for one in asked}
    sections = [
        health_versions.look(),
        health_store.look(store, named, time.time_ns()),
        settings,
        targets,
        health_clock.look(asked),
        health_clock.python(),
    ]
    values = [value for one in asked for value in one.target.headers.values()]
    veil = Veil(os.environ, values)
    return [veil.over(section) for section in sections]
