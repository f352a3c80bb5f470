"""What message queues raise themselves.

QueueError
├── QueueClosedError (RuntimeError)            the queue was closed here
├── QueueUnreachableError (ConnectionError)    the broker is not there, or did not answer
└── StaleMessageError (ConnectionError)        the connection that a message came by is gone
"""

from __future__ import annotations

from typing import Any

from pocketflow_async.resources.errors import in_words


class QueueError(Exception):
    """Base of what message queues raise themselves."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy by the message, since each class makes its own of other arguments."""
        return (_again, (type(self), self.args))


def _again(cls: type[QueueError], args: tuple[Any, ...]) -> QueueError:
    error = cls.__new__(cls)
    error.args = args
    return error


class QueueClosedError(QueueError, RuntimeError):
    """Raised when a message queue is used that was closed."""

    def __init__(self, name: str) -> None:
        super().__init__(f"message queue {name!r} is closed")


class QueueUnreachableError(QueueError, ConnectionError):
    """Raised when a broker cannot be connected to, or has not confirmed something in time.

    That is at once where the queue is made, and later over all reconnections; then it may have been
    done all the same. The last error of the connection is the cause.
    """

    def __init__(self, name: str, what: str, seconds: float, last: BaseException | None) -> None:
        why = "" if last is None else f" ({in_words(last):.300})"
        super().__init__(f"message queue {name!r}: no {what} within {seconds:g} s{why}")

    @classmethod
    def at(cls, place: str, name: str, error: BaseException) -> QueueUnreachableError:
        """Return the error about a broker that cannot be connected to."""
        text = f"message queue {name!r}: cannot connect to {place}: {in_words(error):.300}"
        made = cls.__new__(cls)
        made.args = (text,)
        return made


class StaleMessageError(QueueError, ConnectionError):
    """Raised when a message is settled whose connection is gone: it will be delivered again."""

    def __init__(self, message_id: str) -> None:
        super().__init__(
            f"message {message_id} cannot be settled any more, since the connection that it came "
            "by is gone: it is delivered again"
        )
