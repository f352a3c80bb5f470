"""The works of the three nodes of `cache_aside`, and what they share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pocketflow_async.resilience.read_through import CacheStatistics, Read, ReadThrough, Settings
from pocketflow_async.workflow.patterns.cache_aside_key import CacheKey
from pocketflow_async.workflow.patterns.retried_work import inputs_of, run_work
from pocketflow_async.workflow.spec import Context, Port, Ports, Work

CACHE_RESULT: Final = "cache_result"
"""Input of the fetch: what the check has yielded."""
FETCH_DATA: Final = "fetch_data"
"""Input of the store: what the fetch has yielded."""


class Checked(dict[str, Any]):
    """What the check yields; it brings the fetch the inputs of the check, which are no output."""

    inputs: Mapping[str, Any] = {}


class Fetched(dict[str, Any]):
    """What the fetch yields; it tells the store what became of the value in the cache."""

    read: Read | None = None


class Aside:
    """What the three nodes share: which cache, which key, and what is being fetched.

    Args:
        name: What it is called in the log.
        resource: Name of the resource that is the cache.
        key: Makes the key of the inputs.
        ttl: Seconds that values are kept; None: as long as the cache likes.
        timeout: Seconds that one operation of the cache may take; None: any number.
    """

    def __init__(
        self,
        name: str,
        resource: str,
        key: CacheKey,
        ttl: float | None = 3600.0,
        timeout: float | None = 5.0,
    ) -> None:
        self.resource = resource
        self.key = key
        self.ttl = ttl
        self.through = ReadThrough(name, Settings(ttl, timeout))
        self._absent = _Absent()

    async def cache(self, context: Context) -> Any:
        """Return the cache; where it cannot be had just now, one that says so when it is asked.

        Raises:
            LookupError: There is no resource of that name.
            TypeError: It is no cache.
        """
        try:
            cache = await context.get_resource(self.resource)
        except Exception as error:
            has = getattr(context, "has_resource", None)
            if has is None or not has(self.resource):
                raise
            self._absent.error = error
            return self._absent
        try:
            self.through.access(cache)
        except TypeError as error:
            error.add_note(f"the resource {self.resource!r} is meant to be a cache")
            raise
        return cache


class _Absent:
    """Stands for a cache that cannot be opened: whatever it is asked, it says why."""

    def __init__(self) -> None:
        self.error: Exception = LookupError("there is no cache")

    async def get(self, key: str) -> Any:
        raise RuntimeError(f"the cache cannot be opened: {_words(self.error)}")

    async def set(self, key: str, text: str, ttl: float | None = None) -> None:
        await self.get(key)


class CheckWork:
    """Looks into the cache.

    Args:
        aside: Shared by the three.
        taken: The inputs of the fetch, which it forwards.
    """

    is_async: Final = True

    def __init__(self, aside: Aside, taken: Ports) -> None:
        self.aside = aside
        self._taken = taken

    def __repr__(self) -> str:
        return f"<CheckWork {self.aside.resource!r}, {self.aside.key!r}>"

    @property
    def inputs(self) -> Ports:
        """What the key is made of, and what the fetch may need."""
        key = self.aside.key.inputs
        return Ports({**self._taken.known, **key.known}, open=self._taken.open or key.open)

    @property
    def outputs(self) -> Ports:
        """Whether it was there, its key, and the value."""
        return _ports("found_in_cache", "cache_key", "data", "cache_error")

    async def run(self, inputs: Mapping[str, Any], context: Context) -> Checked:
        """Look for the key.

        Returns:
            `{found_in_cache, cache_key, data}`; and `cache_error` if the cache has failed.

        Raises:
            LookupError: There is no resource of that name.
            TypeError: It is no cache.
            ValueError: An input is missing that the key is made of.
        """
        aside = self.aside
        key = aside.key.of(inputs, context)
        read = await aside.through.alook(await aside.cache(context), key)
        checked = Checked(found_in_cache=read.found, cache_key=key, data=read.value)
        if read.error is not None:
            checked["cache_error"] = _words(read.error)
        checked.inputs = inputs
        return checked


class FetchWork:
    """Does *work* if the check has found nothing, once for all runs that want the same key.

    Args:
        work: What fetches.
        aside: Shared by the three.
        timeout: Seconds that the work may take, waiting aside; None: no limit.
    """

    is_async: Final = True

    def __init__(self, work: Work, aside: Aside, timeout: float | None = None) -> None:
        self.work = work
        self.aside = aside
        self.timeout = timeout

    def __repr__(self) -> str:
        return f"<FetchWork {self.work!r}>"

    @property
    def taken(self) -> Ports:
        """The inputs of the work: they may come by the check, so none of them must come here."""
        ports = inputs_of(self.work)
        compiled = getattr(self.work, "compiled", None)
        if compiled is None:
            known = {name: Port(name, port.annotation, False) for name, port in ports.known.items()}
            return Ports(known, open=ports.open)
        names = sorted(compiled.free_names - {CACHE_RESULT})  # of code they are all it can use
        return Ports({name: Port(name, None, False) for name in names}, open=False)

    @property
    def inputs(self) -> Ports:
        """What the check has yielded, and the inputs of the work."""
        taken = self.taken
        return Ports({**taken.known, CACHE_RESULT: Port(CACHE_RESULT)}, open=taken.open)

    @property
    def outputs(self) -> Ports:
        """Whether it had to be fetched, its key, and the value."""
        return _ports("needs_caching", "cache_key", "data")

    def statistics(self) -> CacheStatistics:
        """Return how often values were found, and fetched."""
        return self.aside.through.statistics()

    async def run(self, inputs: Mapping[str, Any], context: Context) -> Fetched:
        """Do the work if need be, or wait for the run that does it.

        Returns:
            `{needs_caching, cache_key, data}`.

        Raises:
            ExecutionTimeoutError: The work took too long.
            Exception: What the work raised.
        """
        checked = inputs[CACHE_RESULT]
        key = checked["cache_key"]
        if checked["found_in_cache"]:
            return Fetched(needs_caching=False, cache_key=key, data=checked["data"])
        given = self._given(inputs, checked)

        async def load() -> Any:
            return await run_work(self.work, given, context, self.timeout)

        through = self.aside.through
        cache = await self.aside.cache(context)
        lending = getattr(context, "lending", None)
        if lending is None or not through.is_loading(cache, key):
            read = await through.aread(cache, key, load)
        else:  # who only waits must not keep others, or the work itself, from going on
            async with lending():
                read = await through.aread(cache, key, load)
        fetched = Fetched(needs_caching=not read.found, cache_key=key, data=read.value)
        fetched.read = read
        return fetched

    def _given(self, inputs: Mapping[str, Any], checked: Any) -> dict[str, Any]:
        """Return the inputs of the work; what the key was made of is as it was there."""
        brought: Mapping[str, Any] = getattr(checked, "inputs", {})
        key = self.aside.key.inputs
        of_key = {name: brought[name] for name in key.known if name in brought}
        given = {**brought, **inputs, **(brought if key.open else of_key)}
        if CACHE_RESULT not in _names(self.work):
            del given[CACHE_RESULT]
        return given


class StoreWork:
    """Says what became of a value; the fetch has kept it already, before others could miss it.

    Args:
        aside: Shared by the three.
    """

    is_async: Final = True

    def __init__(self, aside: Aside) -> None:
        self.aside = aside

    def __repr__(self) -> str:
        return f"<StoreWork {self.aside.resource!r}>"

    @property
    def inputs(self) -> Ports:
        """What the fetch has yielded."""
        return _ports(FETCH_DATA)

    @property
    def outputs(self) -> Ports:
        """The value, and what became of it."""
        return _ports("data", "cached", "cache_key", "ttl", "from_cache", "cache_error")

    async def run(self, inputs: Mapping[str, Any], context: Context) -> dict[str, Any]:
        """Say what became of the value; one that is not the fetch's own work is kept now.

        Returns:
            `{data, cached, cache_key, ttl}`, with `cache_error` if it could not be kept; or
            `{data, cached: False, cache_key, from_cache: True}`. Of what an error handler of the
            fetch has yielded, `{data, cached: False}`.
        """
        fetched = inputs[FETCH_DATA]
        if not isinstance(fetched, Mapping) or not {"needs_caching", "cache_key"} <= fetched.keys():
            return {"data": fetched, "cached": False}
        key, data = fetched["cache_key"], fetched.get("data")
        if not fetched["needs_caching"]:
            return {"data": data, "cached": False, "cache_key": key, "from_cache": True}
        read = getattr(fetched, "read", None)
        if read is None:
            read = await self.aside.through.akeep(await self.aside.cache(context), key, data)
        stored = {"data": data, "cached": read.stored, "cache_key": key, "ttl": self.aside.ttl}
        if read.error is not None:
            stored["cache_error"] = _words(read.error)
        return stored


def _names(work: Work) -> frozenset[str]:
    compiled = getattr(work, "compiled", None)
    return frozenset(inputs_of(work).known if compiled is None else compiled.free_names)


def _ports(*names: str) -> Ports:
    return Ports({name: Port(name) for name in names}, open=False)


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
