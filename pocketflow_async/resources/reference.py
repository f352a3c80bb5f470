"""Descriptions of resources that can be sent as JSON, in place of the resources themselves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pocketflow_async.resources.factory import masked


@dataclass(frozen=True)
class ResourceReference:
    """Describes a resource: one that is registered, by its name, or how one is made.

    Secrets do not belong into it: `credentials_ref` says where they are. If `config` has any, they
    are in the JSON too, but not in its repr.

    Attributes:
        type: "database", "http_client", "cache", "message_queue", "registered", or your own.
        config: What its factory is given.
        credentials_ref: Where its credentials are, for whoever makes it.
        name: What it is called, if it is registered.
    """

    type: str
    config: Mapping[str, Any] = field(default_factory=dict)
    credentials_ref: str | None = None
    name: str | None = None

    def __repr__(self) -> str:
        facts = {**self.to_dict(), "config": masked(self.config)}
        parts = ", ".join(f"{name}={value!r}" for name, value in facts.items())
        return f"ResourceReference({parts})"

    def to_dict(self) -> dict[str, Any]:
        """Return it as a dict; what is None is left out."""
        data: dict[str, Any] = {"type": self.type, "config": dict(self.config)}
        if self.credentials_ref is not None:
            data["credentials_ref"] = self.credentials_ref
        if self.name is not None:
            data["name"] = self.name
        return data

    def to_json(self) -> str:
        """Return it as JSON.

        Raises:
            TypeError: Something in its config has no JSON.
        """
        return json.dumps(self.to_dict())

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ResourceReference:
        """Return the reference that `to_dict` has made *data* of.

        Raises:
            TypeError: It is no dict, or a part of it has a wrong type.
            ValueError: A part is missing or unknown.
        """
        if not isinstance(data, Mapping):
            raise TypeError(f"a reference is a dict, not {type(data).__name__}")
        unknown = sorted(set(map(str, data)) - {"type", "config", "credentials_ref", "name"})
        if unknown:
            raise ValueError(f"a reference has no {', '.join(unknown)}")
        kind, config = data.get("type"), data.get("config", {})
        if not isinstance(kind, str) or not kind:
            raise ValueError("a reference has a type, such as 'database'")
        if not isinstance(config, Mapping):
            raise TypeError(f"the config of a reference is a dict, not {type(config).__name__}")
        texts = {name: data.get(name) for name in ("credentials_ref", "name")}
        for name, text in texts.items():
            if text is not None and not isinstance(text, str):
                raise TypeError(f"{name} of a reference is a text, not {type(text).__name__}")
        return cls(kind, dict(config), **texts)

    @classmethod
    def from_json(cls, json_str: str | bytes) -> ResourceReference:
        """Return the reference that `to_json` has made the text of.

        Raises:
            TypeError: See `from_dict`.
            ValueError: It is no JSON, or see `from_dict`.
        """
        return cls.from_dict(json.loads(json_str))

    @classmethod
    def for_registered_resource(cls, name: str) -> ResourceReference:
        """Return a reference to the resource *name* of a registry."""
        return cls("registered", {}, name=name)


def create_database_reference(
    host: str,
    database: str,
    backend: str = "postgresql",
    port: int | None = None,
    credentials_ref: str | None = None,
    **options: Any,
) -> ResourceReference:
    """Return a reference to a pool of database connections.

    Args:
        host: Where the server is.
        database: Name of the database.
        backend: "postgresql", "mysql" or "sqlite".
        port: Its port; the usual one when left out.
        credentials_ref: Where user and password are.
        **options: What else `DatabasePoolFactory` takes.
    """
    config = {"backend": backend, "host": host, "database": database, **options}
    return _reference("database", config, credentials_ref, port=port)


def create_http_client_reference(
    base_url: str,
    backend: str = "httpx",
    timeout: float = 30,
    credentials_ref: str | None = None,
    headers: Mapping[str, str] | None = None,
    **options: Any,
) -> ResourceReference:
    """Return a reference to an HTTP client.

    Args:
        base_url: What its addresses begin with.
        backend: "httpx" or "aiohttp".
        timeout: Seconds that a request may take.
        credentials_ref: Where the headers with credentials are.
        headers: Other headers.
        **options: What else `HttpClientFactory` takes.
    """
    config = {"backend": backend, "base_url": base_url, "timeout": timeout, **options}
    sent = None if headers is None else dict(headers)
    return _reference("http_client", config, credentials_ref, headers=sent)


def create_cache_reference(
    backend: str = "redis",
    host: str = "localhost",
    port: int | None = None,
    credentials_ref: str | None = None,
    **options: Any,
) -> ResourceReference:
    """Return a reference to a cache.

    Args:
        backend: "redis" or "memory".
        host: Where the server is.
        port: Its port; the usual one when left out.
        credentials_ref: Where its credentials are.
        **options: What else `CacheFactory` takes.
    """
    config = {"backend": backend, "host": host, **options}
    return _reference("cache", config, credentials_ref, port=port)


def create_message_queue_reference(
    backend: str,
    host: str = "localhost",
    port: int | None = None,
    credentials_ref: str | None = None,
    **options: Any,
) -> ResourceReference:
    """Return a reference to a message queue.

    Args:
        backend: "rabbitmq", "nats" or "redis".
        host: Where the server is.
        port: Its port; the usual one when left out.
        credentials_ref: Where its credentials are.
        **options: What else `MessageQueueFactory` takes.
    """
    config = {"backend": backend, "host": host, **options}
    return _reference("message_queue", config, credentials_ref, port=port)


def _reference(
    kind: str, config: dict[str, Any], credentials_ref: str | None, **more: Any
) -> ResourceReference:
    given = {name: value for name, value in more.items() if value is not None}
    return ResourceReference(kind, {**config, **given}, credentials_ref)
