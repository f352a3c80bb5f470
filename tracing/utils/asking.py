"""Two questions to a Langfuse host: whether it is there, and whether it knows the keys."""

from __future__ import annotations

import base64
import time
from http.client import HTTPException
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from tracing.config import TracingConfig

TIMEOUT: Final = 5.0
"""Seconds that each of the two requests may take, answer included."""

_HEALTH: Final = "/api/public/health"
_PROJECTS: Final = "/api/public/projects"
_MOST: Final = 1 << 20  # bytes of an answer; more is not read


class Answer(NamedTuple):
    """What came of it."""

    status: int | None
    """The HTTP status, or None if there was no answer."""
    reason: str

    @property
    def is_ok(self) -> bool:
        """Whether the host is there and knows the keys."""
        return self.status == 200


def ask(config: TracingConfig, timeout: float = TIMEOUT) -> Answer:
    """Ask the host of *config* for its health, and then for the project of the keys.

    Blocks, so it is not for the event loop. Follows no redirect, which would take the keys along.

    Args:
        config: Host and keys.
        timeout: Seconds for each of the two requests.
    """
    host = (config.langfuse_host or "").rstrip("/")
    pair = f"{config.langfuse_public_key}:{config.langfuse_secret_key}"
    secret = "Basic " + base64.b64encode(pair.encode()).decode()
    answer = _get(host + _HEALTH, {}, timeout)
    if answer.is_ok:
        answer = _get(host + _PROJECTS, {"Authorization": secret}, timeout)
    return answer


def _get(url: str, headers: dict[str, str], timeout: float) -> Answer:
    import urllib.error  # noqa: PLC0415 (only for those who ask)
    import urllib.request  # noqa: PLC0415

    class NoRedirect(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: object) -> None:
            return None

    if not url.startswith(("http://", "https://")):
        return Answer(None, "it is no address that begins with https://")
    deadline = time.monotonic() + timeout
    try:
        request = urllib.request.Request(url, headers=headers)
        opener = urllib.request.build_opener(NoRedirect)
        with opener.open(request, timeout=timeout) as response:
            # A host that sends a byte now and then would never run into the socket's own timeout.
            while response.read1(_MOST):
                if time.monotonic() > deadline:
                    return Answer(None, f"no full answer within {timeout:g} s")
            return Answer(response.status, response.reason)
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, str(error.reason))
    except (OSError, HTTPException, ValueError) as error:
        return Answer(None, str(getattr(error, "reason", None) or error) or type(error).__name__)
