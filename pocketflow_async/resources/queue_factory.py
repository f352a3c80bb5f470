"""Makes message queues."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from pocketflow_async.needing import need
from pocketflow_async.resources.factory import ResourceFactory, masked, without_credentials
from pocketflow_async.resources.outgoing import Outgoing, with_trace
from pocketflow_async.resources.queue import MessageQueue
from pocketflow_async.resources.queue_errors import QueueUnreachableError
from pocketflow_async.resources.queue_nats import NatsQueue
from pocketflow_async.resources.queue_rabbitmq import RabbitQueue
from pocketflow_async.resources.queue_redis import RedisQueue
from pocketflow_async.resources.redis_cache import taken
from pocketflow_async.resources.signatures import Known, check_options, parameters_of, taken_by
from pocketflow_async.resources.uses import name_here


class _Backend(NamedTuple):
    kind: type[RedisQueue] | type[RabbitQueue] | type[NatsQueue]
    port: int
    library: str
    extra: str
    user: str  # what the library calls it
    taken: Callable[[], Known]
    own: tuple[str, ...] = ()  # options that are ours


def _of_nats() -> Known:
    return taken_by("nats:NATS.connect", extra="resources")


_BACKENDS: Final = {
    "redis": _Backend(
        RedisQueue, 6379, "redis.asyncio", "workflow", "username", taken, ("prefix",)
    ),
    "rabbitmq": _Backend(RabbitQueue, 5672, "aio_pika", "resources", "login", lambda: None),
    "nats": _Backend(NatsQueue, 4222, "nats", "resources", "user", _of_nats, ("keep",)),
}


class MessageQueueFactory(ResourceFactory[MessageQueue]):
    """Makes message queues: each message is delivered at least once to each group.

    Args:
        backend: "redis" (streams; of the extra `workflow`), "rabbitmq" or "nats" (JetStream; both
            of the extra `resources`).
        host: Where the broker is.
        port: Its port; that which is usual for it when left out.
        username: Who connects.
        password: Never shown.
        url: Address of the broker in place of *host* and *port*; never shown.
        outgoing: Takes the headers of a message and returns those that are sent. As it is left,
            they get `traceparent` and `tracestate` where the program is traced (see
            `outgoing.with_trace`). `tracing.outgoing` sends session and user along; None: nothing.
        timeout: Seconds in which the broker must confirm, all reconnections included.
        ack_wait: Seconds after which a message that is not settled is delivered again. RabbitMQ
            does so when its connection ends.
        **options: What `redis.asyncio.Redis`, `aio_pika.connect` or `nats.connect` take. Of "redis"
            besides `prefix`, which keys begin with; of "nats" `keep`, the seconds for which
            messages are kept at most, a week when left out.

    Raises:
        TypeError: The library takes no such option.
        ValueError: There is no such backend, or a time is not above zero.
    """

    def __init__(
        self,
        backend: str = "redis",
        host: str = "localhost",
        port: int | None = None,
        username: str | None = None,
        password: str | None = None,
        *,
        url: str | None = None,
        outgoing: Outgoing | None = with_trace,
        timeout: float = 10.0,
        ack_wait: float = 30.0,
        **options: Any,
    ) -> None:
        if backend not in _BACKENDS:
            raise ValueError(
                f"Unsupported message queue backend: {backend}. There is: {', '.join(_BACKENDS)}"
            )
        for name, seconds in (("timeout", timeout), ("ack_wait", ack_wait)):
            if not seconds > 0:
                raise ValueError(f"{name} must be above 0 seconds, not {seconds!r}")
        self.backend = backend
        chosen = _BACKENDS[backend]
        place = {"url": url} if url is not None else {"host": host, "port": port or chosen.port}
        who = {chosen.user: username, "password": password}
        known = {name: value for name, value in who.items() if value is not None}
        self._own: dict[str, Any] = {
            name: options.pop(name) for name in chosen.own if name in options
        }
        check_options(
            f"MessageQueueFactory({backend!r})",
            options,
            chosen.taken,
            parameters_of(MessageQueueFactory) | {*chosen.own},
        )
        self._options = {**place, **known, **options}
        self._manner: dict[str, Any] = {
            "outgoing": outgoing,
            "timeout": timeout,
            "ack_wait": ack_wait,
        }

    async def create(self) -> MessageQueue:
        """Make a message queue and connect it.

        Raises:
            ImportError: The library is not installed; says how it is.
            QueueUnreachableError: The broker cannot be reached; its cause says why.
            Exception: The broker does not take us.
        """
        chosen, name = _BACKENDS[self.backend], name_here("queue")
        await asyncio.to_thread(need, chosen.library, chosen.extra)
        made = chosen.kind(self._options, **self._own, name=name, **self._manner)
        try:
            await made.ping()
        except BaseException as error:
            await made.close()
            is_away = isinstance(error, (*made.lost, TimeoutError))
            if is_away and not isinstance(error, made.fatal):
                raise QueueUnreachableError.at(self._place(), name, error) from error
            raise
        return made

    def _place(self) -> str:
        """Return where the broker is, for people."""
        url = self._options.get("url")
        if url is None:
            return f"{self._options['host']}:{self._options['port']}"
        return ", ".join(without_credentials(one) for one in str(url).split(","))

    async def close(self, resource: MessageQueue) -> None:
        """End all consumers and close the connection."""
        await resource.close()

    async def check(self, resource: MessageQueue) -> bool:
        """Say whether the broker answers.

        Raises:
            Exception: The error of the connection.
        """
        return not resource.is_closed and await resource.ping()

    def terminate(self, resource: MessageQueue) -> None:
        """Cut the connection; its event loop is closed."""
        resource.terminate()

    def get_config(self) -> Mapping[str, Any]:
        """Return what queues are made of, without passwords."""
        times = {name: self._manner[name] for name in ("timeout", "ack_wait")}
        return masked({"backend": self.backend, **self._options, **self._own, **times})
