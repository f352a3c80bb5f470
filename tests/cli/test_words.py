"""Numbers and foreign text as short words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tracing.cli import words


@pytest.mark.parametrize(
    ("ns", "said"),
    [
        (-5, "0 ns"),
        (0, "0 ns"),
        (999, "999 ns"),
        (1_000, "1.00 µs"),
        (12_345, "12.3 µs"),
        (999_499, "999 µs"),
        (999_500, "1.00 ms"),
        (9_996_000, "10.0 ms"),
        (99_960_000, "100 ms"),
        (999_500_000, "1.00 s"),
        (1_240_000_000, "1.24 s"),
        (59_949_000_000, "59.9 s"),
        (59_950_000_000, "1m 00s"),
        (125_000_000_000, "2m 05s"),
        (3_720_000_000_000, "1h 02m"),
        (187_200_000_000_000, "2d 04h"),
    ],
)
def test_duration_has_a_unit_and_three_digits(ns, said):
    """Each range has its unit, and rounding never shows 1000 of a smaller one."""
    assert words.duration(ns) == said


@given(st.integers(0, 10**18))
def test_duration_is_short(ns):
    """No duration of less than thirty years needs more than eight cells."""
    assert len(words.duration(ns)) <= 10
    if ns < 86_400 * 10**9 * 100:
        assert len(words.duration(ns)) <= 8


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(-1, "0s"), (0, "0s"), (59, "59s"), (60, "1m"), (3_599, "59m"), (3_600, "1h"), (90_000, "1d")],
)
def test_age_has_one_unit(seconds, said):
    """An age is rounded down to its largest unit; a clock that was set back gives 0s."""
    assert words.age(seconds * 10**9) == said


@pytest.mark.parametrize(
    ("count", "said"),
    [(0, "0 B"), (999, "999 B"), (1_000, "1.00 kB"), (999_600, "1.00 MB"), (4_200_000, "4.20 MB")],
)
def test_size_has_a_unit(count, said):
    """Sizes are decimal, as disks are sold."""
    assert words.size(count) == said


def test_count_agrees_with_its_noun():
    """One span, two spans, one thousand with a comma."""
    assert words.count(1, "span") == "1 span"
    assert words.count(2, "span") == "2 spans"
    assert words.count(1_000, "entry", "entries") == "1,000 entries"


def test_clean_disarms_the_terminal():
    """Escape sequences, bidirectional overrides and lone surrogates become visible text."""
    assert words.clean("a\x1b[31mb") == "a\\x1b[31mb"
    assert words.clean("a\u202eb\ud800\x7f\x9b") == "a\\u202eb\\ud800\\x7f\\x9b"


@given(st.text(st.characters(), max_size=60))
def test_one_line_is_one_line_of_printable_text(text):
    """Whatever the text, it stays on its line and can be written as UTF-8."""
    line = words.one_line(text)

    assert len(line.splitlines()) <= 1
    assert not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in line)
    line.encode("utf-8")


@given(st.text(max_size=60), st.integers(4, 40))
def test_cut_fits(text, width):
    """A cut text fits, wide characters included, and a text that fits is whole."""
    text = words.one_line(text)
    short = words.cut(text, width)

    assert cell_len(short) <= width
    if cell_len(text) <= width:
        assert short == text
    else:
        assert short.endswith("…")


def test_chop_loses_nothing():
    """The pieces are the text."""
    assert words.chop("abcdefgh", 3) == ["abc", "def", "gh"]
    assert words.chop("", 3) == [""]
