"""What can go wrong with a store.

StoreError
├── StoreUnavailable (ConnectionError)  it cannot be reached or opened, is locked, full or damaged
├── UnstorableError (ValueError)        what is to be kept cannot be kept
├── NotANumberError (TypeError)         a value that is to be added to is no whole number
├── RunExists                           a run of that id is there already
├── OutOfOrderError                     an entry or event does not follow the last one
└── LeaseLost                           another process has the run now
"""

from __future__ import annotations

from typing import Any


class StoreError(Exception):
    """Base of what stores raise."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy by the message, since each class makes its own of other arguments."""
        return (_again, (type(self), self.args), self.__dict__)


def _again(cls: type[StoreError], args: tuple[Any, ...]) -> StoreError:
    error = cls.__new__(cls)
    error.args = args
    return error


class StoreUnavailable(StoreError, ConnectionError):
    """Raised when a store cannot be reached or written."""

    def __init__(self, where: str, why: str, advice: str = "") -> None:
        super().__init__(f"the store {where} {why}" + (f". {advice}" if advice else ""))
        self.where = where


class UnstorableError(StoreError, ValueError):
    """Raised when something is to be kept that no store can hold."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"{what} {why}: it cannot be stored")


class NotANumberError(StoreError, TypeError):
    """Raised when something is to be added to a value that is no whole number."""

    def __init__(self, key: str) -> None:
        super().__init__(f"the value of {key!r} is no whole number: nothing can be added to it")
        self.key = key


class RunExists(StoreError):
    """Raised when a run is to be created whose id is taken."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"there is a run {run_id!r} already; resume it, or take another id")
        self.run_id = run_id


class OutOfOrderError(StoreError):
    """Raised when an entry or event does not follow the last one of its run."""

    def __init__(self, run_id: str, what: str, given: int, wanted: int) -> None:
        super().__init__(f"run {run_id!r}: {what} {given} does not follow; {wanted} would")
        self.run_id = run_id


class LeaseLost(StoreError):
    """Raised when a run is written to by who has it no longer."""

    def __init__(self, run_id: str) -> None:
        super().__init__(
            f"run {run_id!r} belongs to another process now: this one has stood still for longer "
            "than its lease, and must not go on"
        )
        self.run_id = run_id
