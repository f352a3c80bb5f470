"""Wrap the paragraphs of a text until no line is too long: nested flows and a loop.

The outer flow loads the text and reports; the inner one measures and mends, line by line, until
nothing is left to mend. `max_steps` guards the loop.

    python examples/refine_text.py [FILE]
"""

import asyncio
import sys
from pathlib import Path

from pocketflow_async import AsyncFlow, AsyncNode, Node
from tracing import trace_flow

WIDTH = 88


class Load(Node[Path, str]):
    def prep(self, shared):
        return Path(shared["file"])

    def exec(self, path):
        return path.read_text(encoding="utf-8", errors="replace")

    def post(self, shared, path, text):
        shared["lines"] = text.splitlines()
        shared["mended"] = 0


class Measure(AsyncNode[list[str], "int | None"]):
    """Finds the longest line that is too long and can be broken."""

    async def prep_async(self, shared):
        return shared["lines"]

    async def exec_async(self, lines):
        long = [n for n, line in enumerate(lines) if len(line) > WIDTH and " " in line.strip()[1:]]
        return max(long, key=lambda n: len(lines[n]), default=None)

    async def post_async(self, shared, lines, place):
        shared["place"] = place
        return "fine" if place is None else "too long"


class Mend(AsyncNode[str, tuple[str, str]]):
    """Breaks that line at the last space that fits, or else at the first one."""

    async def prep_async(self, shared):
        return shared["lines"][shared["place"]]

    async def exec_async(self, line):
        indent = len(line) - len(line.lstrip())
        cut = line.rfind(" ", indent + 1, WIDTH)
        if cut < 0:
            cut = line.find(" ", indent + 1)
        return line[:cut].rstrip(), " " * indent + line[cut + 1 :].lstrip()

    async def post_async(self, shared, line, parts):
        place = shared["place"]
        shared["lines"][place : place + 1] = [part for part in parts if part.strip()]
        shared["mended"] += 1


class Report(Node):
    def post(self, shared, prep_res, exec_res):
        longest = max(map(len, shared["lines"]), default=0)
        print(f"{shared['mended']} lines mended; the longest now has {longest} characters")


def refine():
    """The inner flow: measure, mend, measure again."""
    measure, mend = Measure(), Mend()
    measure - "too long" >> mend >> measure
    return AsyncFlow(start=measure, name="Refine", max_steps=2_000, ends=["fine"])


@trace_flow(flow_name="RefineText")
class RefineText(AsyncFlow):
    def __init__(self):
        load, inner = Load(), refine()
        load >> inner
        inner - "fine" >> Report()
        super().__init__(start=load)


if __name__ == "__main__":
    readme = Path(__file__).parent.parent / "README.md"
    if not Path(sys.argv[1] if len(sys.argv) > 1 else readme).is_file():
        sys.exit(f"{Path(__file__).name}: {sys.argv[1]} is not a file")
    asyncio.run(RefineText().run_async({"file": sys.argv[1] if len(sys.argv) > 1 else str(readme)}))
