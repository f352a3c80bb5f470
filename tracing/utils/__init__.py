"""Setting tracing up: read the configuration, and ask the host whether it is right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracing.utils.setup import (
        main,
        print_configuration_help,
        setup_tracing,
        test_langfuse_connection,
    )

__all__ = [
    "main",
    "print_configuration_help",
    "setup_tracing",
    "test_langfuse_connection",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tracing.utils import setup  # noqa: PLC0415 (so that `python -m` finds it unloaded)

    return getattr(setup, name)
