"""The command `pocketflow-async`: what the trace store holds, and what a flow looks like.

Nothing is imported until a command runs, so that `import tracing.cli` costs nothing.
"""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run the command line of this process, then exit."""
    try:
        from tracing.cli.app import app  # noqa: PLC0415 - typer is loaded only to run a command

        app()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
