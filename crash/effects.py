"""What has really happened: lines in a file outside of any store, each on the disk when it is said.

The file stands for the world: a venue that has an order, or has not.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


class Effects:
    """A file that processes append to at once, without mixing their lines (O_APPEND, fsync)."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def say(self, what: str, **facts: Any) -> None:
        """Add a line; it is on the disk when this returns."""
        line = json.dumps({"what": what, "pid": os.getpid(), **facts}) + "\n"
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(file, line.encode())
            os.fsync(file)
        finally:
            os.close(file)

    def read(self) -> list[dict[str, Any]]:
        """Return all lines, in the order in which they were said."""
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    def of(self, what: str, **facts: Any) -> list[dict[str, Any]]:
        """Return the lines that say so."""
        wanted = {"what": what, **facts}.items()
        return [line for line in self.read() if wanted <= line.items()]
