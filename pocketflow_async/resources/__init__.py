"""Shared resources: opened when they are first used, kept well, and closed in order."""

from typing import TYPE_CHECKING

from pocketflow_async.lazily import lazily as _lazily

if TYPE_CHECKING:
    from pocketflow_async.resources.cache import CacheFactory
    from pocketflow_async.resources.current import get_resource
    from pocketflow_async.resources.database import DatabasePoolFactory
    from pocketflow_async.resources.database_errors import (
        ConnectionReleasedError,
        DatabaseUnreachableError,
        PoolClosedError,
        PoolTimeoutError,
    )
    from pocketflow_async.resources.database_pool import DatabasePool
    from pocketflow_async.resources.errors import (
        CacheClosedError,
        NoRegistryError,
        ResourceCreationError,
        ResourceError,
        ResourceNotFoundError,
        ResourceUnavailableError,
    )
    from pocketflow_async.resources.factory import ResourceFactory
    from pocketflow_async.resources.health import (
        HealthCheck,
        HealthState,
        HealthStatus,
        cache_health_check,
        create_composite_health_check,
        database_health_check,
        http_client_health_check,
        message_queue_health_check,
    )
    from pocketflow_async.resources.http import HttpClient
    from pocketflow_async.resources.http_errors import (
        HttpConnectionError,
        HttpError,
        HttpStatusError,
        HttpTimeoutError,
    )
    from pocketflow_async.resources.http_factory import HttpClientFactory
    from pocketflow_async.resources.http_response import HttpResponse
    from pocketflow_async.resources.leases import Lease
    from pocketflow_async.resources.memory_cache import MemoryCache
    from pocketflow_async.resources.queue import MessageQueue
    from pocketflow_async.resources.queue_errors import (
        QueueClosedError,
        QueueError,
        QueueUnreachableError,
        StaleMessageError,
    )
    from pocketflow_async.resources.queue_factory import MessageQueueFactory
    from pocketflow_async.resources.queue_message import Message
    from pocketflow_async.resources.reference import (
        ResourceReference,
        create_cache_reference,
        create_database_reference,
        create_http_client_reference,
        create_message_queue_reference,
    )
    from pocketflow_async.resources.registry import ResourceRegistry
    from pocketflow_async.resources.uses import using

__all__ = [
    "CacheClosedError",
    "CacheFactory",
    "ConnectionReleasedError",
    "DatabasePool",
    "DatabasePoolFactory",
    "DatabaseUnreachableError",
    "HealthCheck",
    "HealthState",
    "HealthStatus",
    "HttpClient",
    "HttpClientFactory",
    "HttpConnectionError",
    "HttpError",
    "HttpResponse",
    "HttpStatusError",
    "HttpTimeoutError",
    "Lease",
    "MemoryCache",
    "Message",
    "MessageQueue",
    "MessageQueueFactory",
    "NoRegistryError",
    "PoolClosedError",
    "PoolTimeoutError",
    "QueueClosedError",
    "QueueError",
    "QueueUnreachableError",
    "ResourceCreationError",
    "ResourceError",
    "ResourceFactory",
    "ResourceNotFoundError",
    "ResourceReference",
    "ResourceRegistry",
    "ResourceUnavailableError",
    "StaleMessageError",
    "cache_health_check",
    "create_cache_reference",
    "create_composite_health_check",
    "create_database_reference",
    "create_http_client_reference",
    "create_message_queue_reference",
    "database_health_check",
    "get_resource",
    "http_client_health_check",
    "message_queue_health_check",
    "using",
]

_MODULES = {
    "cache": "CacheFactory",
    "current": "get_resource",
    "database": "DatabasePoolFactory",
    "database_errors": (
        "ConnectionReleasedError DatabaseUnreachableError PoolClosedError PoolTimeoutError"
    ),
    "database_pool": "DatabasePool",
    "errors": (
        "CacheClosedError NoRegistryError ResourceCreationError ResourceError "
        "ResourceNotFoundError ResourceUnavailableError"
    ),
    "factory": "ResourceFactory",
    "health": (
        "HealthCheck HealthState HealthStatus cache_health_check "
        "create_composite_health_check database_health_check http_client_health_check "
        "message_queue_health_check"
    ),
    "http": "HttpClient",
    "http_errors": "HttpConnectionError HttpError HttpStatusError HttpTimeoutError",
    "http_factory": "HttpClientFactory",
    "http_response": "HttpResponse",
    "leases": "Lease",
    "memory_cache": "MemoryCache",
    "queue": "MessageQueue",
    "queue_errors": "QueueClosedError QueueError QueueUnreachableError StaleMessageError",
    "queue_factory": "MessageQueueFactory",
    "queue_message": "Message",
    "reference": (
        "ResourceReference create_cache_reference create_database_reference "
        "create_http_client_reference create_message_queue_reference"
    ),
    "registry": "ResourceRegistry",
    "uses": "using",
}

# Loaded when they are asked for: whoever declares a database needs no code of queues.
__getattr__, __dir__ = _lazily(__name__, _MODULES)
