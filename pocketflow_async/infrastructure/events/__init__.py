"""Events: published on a channel, heard by each subscriber in its own time.

`MemoryBus` serves one process, `RedisStreamsBus` many. `event_app` shows events to people.
"""

from typing import TYPE_CHECKING

from pocketflow_async.lazily import lazily as _lazily

if TYPE_CHECKING:
    from pocketflow_async.infrastructure.events.bus import EventBus
    from pocketflow_async.infrastructure.events.cloudevents import from_cloudevent, to_cloudevent
    from pocketflow_async.infrastructure.events.errors import (
        CloudEventError,
        EventBusError,
        PublishError,
        SubscribeError,
    )
    from pocketflow_async.infrastructure.events.memory import MemoryBus
    from pocketflow_async.infrastructure.events.models import Event, parse_event
    from pocketflow_async.infrastructure.events.redis_streams import RedisStreamsBus
    from pocketflow_async.infrastructure.events.stamp import timestamp, uuid7
    from pocketflow_async.infrastructure.events.subscription import Subscription
    from pocketflow_async.infrastructure.events.web import event_app

__all__ = [
    "CloudEventError",
    "Event",
    "EventBus",
    "EventBusError",
    "MemoryBus",
    "PublishError",
    "RedisStreamsBus",
    "SubscribeError",
    "Subscription",
    "event_app",
    "from_cloudevent",
    "parse_event",
    "timestamp",
    "to_cloudevent",
    "uuid7",
]

_MODULES = {
    "bus": "EventBus",
    "cloudevents": "from_cloudevent to_cloudevent",
    "errors": "CloudEventError EventBusError PublishError SubscribeError",
    "memory": "MemoryBus",
    "models": "Event parse_event",
    "redis_streams": "RedisStreamsBus",
    "stamp": "timestamp uuid7",
    "subscription": "Subscription",
    "web": "event_app",
}

# Loaded when they are asked for: models need pydantic, and few programs use them.
__getattr__, __dir__ = _lazily(__name__, _MODULES)
