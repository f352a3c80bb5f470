"""Killed in the middle of the sending, with a back end that misbehaves: everything arrives.

`make chaos` does the same with 100,000 spans, with all faults, and looks at the clock as well.
"""

from __future__ import annotations

from random import Random

import pytest

from chaos.comparing import compare
from chaos.drill import drill
from chaos.faults import named
from chaos.flow import SPANS
from chaos.receiver import decoded


@pytest.mark.parametrize("name", ["400 poison", "503", "cut, spans taken"])
def test_a_killed_process_loses_nothing_that_it_had_stored(name, tmp_path):
    """After kill -9 and a new start all that is in the store has arrived, but for the poison."""
    found = drill(named(name), tmp_path, 2_000, Random(name), 0.5, lasts=0.5)

    assert found.broken() == []
    assert found.compared.finished > SPANS
    assert found.compared.distinct == found.compared.finished - found.trouble.poisons


def test_the_comparison_notices_what_is_missing_or_wrong(tmp_path):
    """A drill is worth something only if its judge is not blind."""
    drill(named("none"), tmp_path, 100, Random(1), 0.1, lasts=0.1)
    requests = list(decoded(tmp_path / "taken"))
    spans = requests[0].resource_spans[0].scope_spans[0].spans
    lost = spans.pop()
    spans[0].name = "another"
    spans.add().CopyFrom(spans[1])
    spans[-1].end_time_unix_nano += 1

    found = compare(tmp_path / "traces.db", requests)

    assert found.lost == [lost.name]
    assert found.duplicates == 1
    assert len(found.strange) == 2
