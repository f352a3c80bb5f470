"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

StorePath = Annotated[
    Path | None,
    typer.Option(
        "--store",
        metavar="PATH",
        help="Trace store to read; otherwise POCKETFLOW_TRACE_STORE, or the user's own.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many.")]
Name = Annotated[str | None, typer.Option(help="Only traces of this name.")]
