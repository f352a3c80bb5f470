"""Ask several things about a folder at once, and join the answers.

python examples/side_by_side.py [FOLDER]
"""

import ast
import asyncio
import sys
from collections import Counter
from pathlib import Path

from pocketflow_async import AsyncFlow, AsyncNode, Node, parallel
from tracing import trace_flow


class Find(Node[Path, list[Path]]):
    def prep(self, shared):
        return Path(shared["folder"])

    def exec(self, folder):
        return [file for file in sorted(folder.rglob("*.py")) if file.is_file()]

    def post(self, shared, folder, files):
        shared["files"] = files


class Sizes(AsyncNode[list[Path], int]):
    """Counts the bytes."""

    async def prep_async(self, shared):
        return shared["files"]

    async def exec_async(self, files):
        return await asyncio.to_thread(lambda: sum(file.stat().st_size for file in files))


class Imports(Node[list[Path], list[str]]):
    """Counts what they import. Parsing is work, so it has a thread of its own."""

    def prep(self, shared):
        return shared["files"]

    def exec(self, files):
        found = Counter()
        for file in files:
            try:
                tree = ast.parse(file.read_bytes())
            except (SyntaxError, ValueError, OSError):
                continue  # not Python that we can read
            for node in ast.walk(tree):
                if isinstance(node, ast.Import):
                    found.update(name.name.split(".")[0] for name in node.names)
                elif isinstance(node, ast.ImportFrom) and node.module:
                    found[node.module.split(".")[0]] += 1
        return [name for name, _ in found.most_common(5)]


class Newest(AsyncNode[list[Path], str]):
    """Finds the one that changed last."""

    async def prep_async(self, shared):
        return shared["files"]

    async def exec_async(self, files):
        newest = await asyncio.to_thread(
            max, files, key=lambda file: file.stat().st_mtime, default=None
        )
        return newest.name if newest else "none"


class Join(AsyncNode[dict, str]):
    async def prep_async(self, shared):
        return self.params["branches"]

    async def exec_async(self, answers):
        return "; ".join(f"{name}: {answer}" for name, answer in answers.items())

    async def post_async(self, shared, answers, text):
        print(text)


@trace_flow()
class SideBySide(AsyncFlow):
    def __init__(self):
        find = Find()
        find >> parallel(Sizes(), Imports(in_thread=True), Newest(), name="Questions") >> Join()
        super().__init__(start=find)


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent)
    if not folder.is_dir():
        sys.exit(f"{Path(__file__).name}: {folder} is not a folder")
    asyncio.run(SideBySide().run_async({"folder": str(folder)}))
