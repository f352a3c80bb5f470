"""The code blocks of the guide (the `.txt` file, word for word), and what runs them.

What is changed before a block runs: the import root `src`, which is `pocketflow_async` here. Names
that the guide has from an earlier block, or leaves to its reader, are given by the test.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from tests.guide_workflow import guide_blocks

NAME = "enhanced-executor-migration"


def _with_our_root(code: str) -> str:
    return re.sub(r"\bsrc\.(workflow|infrastructure)\b", r"pocketflow_async.\1", code)


def _all() -> dict[str, guide_blocks.Block]:
    text = (Path(__file__).parent / f"{NAME}.txt").read_text("utf-8")
    found = {}
    for block in guide_blocks.parse(f"{NAME}.md", text):
        name = guide_blocks.slug("guide", block).replace("before_and_after_examples_", "")
        assert name not in found, f"two blocks are called {name}"
        found[name] = replace(block, code=_with_our_root(block.code))
    return found


BLOCKS = _all()
