"""The code blocks of the three guides (the `.txt` files, word for word), and what runs them.

What is changed before a block runs: the import root `kailash`, which is `pocketflow_async` here.
Names that the guide has from an earlier block, or leaves to its reader, are given by the test.
"""

from __future__ import annotations

import ast
import inspect
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GUIDES = {
    "migration": "workflow-builder-migration",
    "builder": "workflow-builder-guide",
    "runtime": "async-runtime-guide",
}

ALL = slice(None)


@dataclass(frozen=True)
class Block:
    """A block of a guide.

    Attributes:
        file: Which guide it is in.
        heading: What it stands under: headings, and a line in bold type just before it.
        code: Its text.
    """

    file: str
    heading: str
    code: str

    def run(self, part: slice = ALL, **names: Any) -> dict[str, Any]:
        """Run the block, or that *part* of its statements; return its names."""
        space = {"__name__": "guide", **names}
        exec(self._compiled(part), space)
        return space

    async def arun(self, part: slice = ALL, **names: Any) -> dict[str, Any]:
        """Do as `run` where the block may await."""
        space = {"__name__": "guide", **names}
        done = eval(self._compiled(part), space)
        if inspect.isawaitable(done):
            await done
        return space

    def _compiled(self, part: slice) -> Any:
        tree = ast.parse(re.sub(r"\bkailash\b", "pocketflow_async", self.code))
        tree.body = tree.body[part]
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        where = f"<{self.file}: {self.heading}>"
        return compile(tree, where, "exec", flags=flags, dont_inherit=True)


def parse(file: str, text: str) -> list[Block]:
    """Return the Python blocks of the guide *file*, each under its headings but the first."""
    found: list[Block] = []
    path: list[str] = []
    label, lines = "", None
    for line in text.splitlines():
        if lines is not None:
            if line == "```":
                found.append(Block(file, " / ".join([*path, label] if label else path), lines))
                label, lines = "", None
            else:
                lines += line + "\n"
        elif line == "```python":
            lines = ""
        elif heading := re.match(r"(#+) (.+)", line):
            path, label = [*path[: max(len(heading[1]) - 2, 0)], heading[2]], ""
            path = path if len(heading[1]) > 1 else []
        elif bold := re.match(r"\*\*(.+?):?\*\*", line):
            label = bold[1]
    return found


def slug(guide: str, block: Block) -> str:
    """Return the name of a block: its guide, and what it stands under, without the numbers."""
    words = re.sub(r"\W+", "_", re.sub(r"\b\d+\.", "", block.heading).lower())
    return f"{guide}_{words.strip('_')}"


def _all() -> dict[str, Block]:
    found: dict[str, Block] = {}
    for guide, file in GUIDES.items():
        text = (Path(__file__).parent / f"{file}.txt").read_text("utf-8")
        for block in parse(f"{file}.md", text):
            name = slug(guide, block)
            assert name not in found, f"two blocks are called {name}"
            found[name] = block
    return found


BLOCKS = _all()
