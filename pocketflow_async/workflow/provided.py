"""Modules that a code string may use without importing them."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any, Final

_NAMES: Final = """
aio_pika aioboto3 aiofiles aiohttp aiokafka aiomysql aiosqlite asyncio asyncpg base64 cachetools
collections concurrent contextvars copy csv dataclasses datetime enum functools glob hashlib hmac
httpx io itertools json logging math mimetypes motor msgpack numpy operator orjson os pandas pathlib
pickle prometheus_client random re redis scipy secrets sklearn statistics string structlog tempfile
tenacity time toml types typing uuid websockets xml yaml
"""

PROVIDED: Final = frozenset(_NAMES.split())
"""Their names. What a node gets as an input or a resource of that name goes first."""

_ALSO: Final = {
    "collections": ("collections.abc",),
    "concurrent": ("concurrent.futures",),
    "redis": ("redis.asyncio",),
    "xml": ("xml.etree.ElementTree",),
}


@cache
def provided(name: str) -> Any:
    """Return the module *name*, or what stands in for it where it is not installed."""
    try:
        for submodule in _ALSO.get(name, ()):
            importlib.import_module(submodule)
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        return _Absent(name, str(error))


class _Absent:
    """In place of a module that is not there: says so when it is used, not before."""

    def __init__(self, name: str, why: str) -> None:
        self._name = name
        self._why = why

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        raise ModuleNotFoundError(
            f"{self._why}: {self._name}.{attribute} needs it. Install {self._name}, "
            "or give the node an input or a resource of that name",
            name=self._name,
        )

    def __repr__(self) -> str:
        return f"<{self._name}, which is not installed>"
