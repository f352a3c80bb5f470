"""The settings that the environment holds, for commands: a wrong one is one line."""

from __future__ import annotations

from tracing.config import TracingConfig
from tracing.errors import TracingError
from tracing.export import configured
from tracing.export.model import Route


class BadSettings(TracingError):
    """The environment holds a setting that cannot be."""

    def __init__(self, cause: str, program: str) -> None:
        super().__init__(f"{cause.rstrip('.?! ')}. All settings are checked by `{program} doctor`.")


def config(program: str) -> TracingConfig:
    """Return what the environment says.

    Args:
        program: What the user would type to run this program again.

    Raises:
        BadSettings: It says something that cannot be.
    """
    try:
        return TracingConfig.from_env()
    except (ValueError, TypeError) as error:
        raise BadSettings(str(error), program) from error


def route(program: str) -> Route:
    """Return how spans are to look that leave this program.

    Args:
        program: What the user would type to run this program again.

    Raises:
        BadSettings: The environment holds a setting that cannot be.
    """
    try:
        return configured.route(config(program)) or Route()
    except (ValueError, TypeError) as error:
        raise BadSettings(str(error), program) from error
