"""What tests of limiters share."""

from __future__ import annotations

from fractions import Fraction


def fullest(moments, per):
    """Return how many calls there are in the fullest half-open window of *per*, exactly."""
    length = Fraction(per)
    exact = sorted(moments)
    most = first = 0
    for place, moment in enumerate(exact):
        # Floats decide where they are clear; where it is close, exact fractions do.
        while moment - exact[first] >= per * (1 + 1e-9) or (
            moment - exact[first] >= per * (1 - 1e-9)
            and Fraction(moment) - Fraction(exact[first]) >= length
        ):
            first += 1
        most = max(most, place - first + 1)
    return most
