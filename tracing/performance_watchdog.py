"""A thread that asks an event loop for signs of life, and finds out who keeps it from them."""

from __future__ import annotations

import asyncio
import logging
import sys
import sysconfig
import threading
import weakref
from collections.abc import Callable
from time import monotonic, sleep
from types import FrameType
from typing import Any, Final, NamedTuple, TypeAlias

from tracing.record import Record

logger = logging.getLogger(__name__)

_LINGER: Final = 1.0  # seconds that the thread stays after the last record has ended
_LIBRARIES: Final = tuple(
    {sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")} - {None}
)


class Sample(NamedTuple):
    """Who was found at work in a blocked loop."""

    since: float
    """When the loop was asked, by `time.monotonic`."""
    who: str
    where: str
    record: Record | None


Find: TypeAlias = Callable[["Watchdog", "asyncio.Task[Any] | None"], tuple[str, Record | None]]


class Watchdog:
    """Watches one loop while it is needed.

    Args:
        loop: The loop, which must be running in the calling thread.
        threshold: How long it may stand still, in seconds.
        find: Names what is at work in a task.
        deliver: Told of a block when it is over, with its length in seconds.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        threshold: float,
        find: Find,
        deliver: Callable[[Watchdog, Sample, float], None],
    ) -> None:
        self._loop = weakref.ref(loop)  # whoever holds the watchdog does not hold the loop
        self._threshold = threshold
        self._find = find
        self._deliver = deliver
        self._ident = threading.get_ident()
        self._lock = threading.Lock()
        self._needs = 0
        self._needed = threading.Event()
        self._answer = threading.Event()
        self._thread: threading.Thread | None = None
        self._sample: Sample | None = None

    def need(self, threshold: float) -> None:
        """Watch until this has been taken back; on the loop's thread. The least threshold counts.

        Args:
            threshold: How long the loop may stand still, in seconds.
        """
        self._threshold = min(self._threshold, threshold)
        self._needs += 1
        if self._needs > 1:
            return
        self._ident = threading.get_ident()
        with self._lock:
            self._needed.set()
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._watch, name="pocketflow-loop-watchdog", daemon=True
                )
                self._thread.start()

    def release(self) -> None:
        """Take one `need` back."""
        self._needs -= 1
        if not self._needs:
            self._needed.clear()

    def settle(self, record: Record) -> float | None:
        """Report a block by *record* now that it ends; return its length so far, in seconds."""
        sample = self._sample
        if sample is None or sample.record is not record:
            return None
        return self._over(monotonic())

    def _watch(self) -> None:
        while self._is_needed():
            asked = monotonic()
            self._answer.clear()
            if not self._ask():
                with self._lock:
                    self._thread = None
                return
            if not self._answer.wait(self._threshold):
                self._look(asked)
                self._stay()
            sleep(self._threshold / 4)

    def _ask(self) -> bool:
        """Ask for a sign of life; return False if the loop has gone."""
        loop = self._loop()
        try:
            if loop is not None:
                loop.call_soon_threadsafe(self._answered)
        except RuntimeError:  # it is closed
            return False
        return loop is not None

    def _runs(self) -> bool:
        loop = self._loop()
        return loop is not None and loop.is_running()

    def _is_needed(self) -> bool:
        if self._needed.wait(_LINGER):
            return True
        with self._lock:
            if self._needed.is_set():
                return True
            self._thread = None
            return False

    def _look(self, asked: float) -> None:
        """Find out who is at work, and say so at once: it may go on for ever."""
        frame = sys._current_frames().get(self._ident)
        loop = self._loop()
        if frame is None or loop is None or not loop.is_running():
            return
        try:
            who, record = self._find(self, asyncio.current_task(loop))
        except RuntimeError:  # changed while it was looked at
            return
        where = _place(frame)
        with self._lock:
            if self._answer.is_set():
                return
            self._sample = Sample(asked, who, where, record)
        logger.warning(
            "the event loop has stood still for over %.3f s: %s, at %s", self._threshold, who, where
        )

    def _stay(self) -> None:
        while not self._answer.wait(_LINGER):
            if not self._runs():
                return

    def _answered(self) -> None:
        with self._lock:
            self._answer.set()
        self._over(monotonic())

    def _over(self, now: float) -> float | None:
        with self._lock:
            sample, self._sample = self._sample, None
        if sample is None:
            return None
        self._deliver(self, sample, now - sample.since)
        return now - sample.since


def _place(frame: FrameType) -> str:
    """Return the innermost line of the user's, or of a library where there is none."""
    found: FrameType | None = frame
    while found is not None and found.f_code.co_filename.startswith(_LIBRARIES):
        found = found.f_back
    code = (found or frame).f_code
    return f"{code.co_filename}:{(found or frame).f_lineno} in {code.co_qualname}"
