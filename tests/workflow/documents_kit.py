"""Functions that documents can name."""

from __future__ import annotations


def double(value: int) -> int:
    """Return twice *value*."""
    return 2 * value


def is_high(value: int) -> bool:
    """Decide for a node."""
    return value > 10


def anything(**inputs: object) -> object:
    """Return what it gets."""
    return inputs


async def process_item(item: int) -> int:
    """Return the next number."""
    return item + 1


class Sums:
    """Has a method that can be named."""

    @staticmethod
    def add(one: int, other: int) -> int:
        """Return the sum."""
        return one + other

    @classmethod
    def made(cls) -> Sums:
        """Return one."""
        return cls()
