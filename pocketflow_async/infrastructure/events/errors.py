"""What can go wrong with events.

EventBusError
├── PublishError                 an event could not be taken
├── SubscribeError               a handler cannot be called for a channel
└── CloudEventError (ValueError) something is no CloudEvent, or cannot be made one
"""

from __future__ import annotations


class EventBusError(Exception):
    """Base of what event buses raise."""


class PublishError(EventBusError):
    """Raised when an event was not taken, or not by all who should hear it."""


class SubscribeError(EventBusError):
    """Raised when something cannot be subscribed."""


class CloudEventError(EventBusError, ValueError):
    """Raised when something is no CloudEvent, or cannot become one."""
