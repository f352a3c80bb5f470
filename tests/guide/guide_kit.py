"""The blocks of the guide (`guide.txt`, word for word), and what runs them.

What is changed before a block runs: the import roots, and a comment that stands for a class body.
"""

import ast
import asyncio
import inspect
import re
import textwrap
from pathlib import Path

ROOTS = {"pocketflow_tracing": "tracing", "pocketflow": "pocketflow_async"}
PROBLEMS = "Common Issues and Solutions"
PLACEHOLDER = "    # ... flow definition ...\n"


def blocks(text=None):
    """Return the Python blocks by the headings that they stand under, joined by ' / '."""
    text = (Path(__file__).parent / "guide.txt").read_text("utf-8") if text is None else text
    found, path, lines = {}, [], None
    for line in text.splitlines():
        if lines is not None:
            if line.strip() == "```":
                _put(found, " / ".join(path), textwrap.dedent("\n".join(lines)) + "\n")
                lines = None
            else:
                lines.append(line)
        elif line.strip() == "```python":
            lines = []
        elif heading := re.match(r"(#+) (.+)", line):
            path = [*path[: len(heading[1]) - 2], heading[2]] if len(heading[1]) > 1 else []
        elif path[1:2] == [PROBLEMS] and (problem := re.match(r"\d\. \*\*(.+)\*\*$", line)):
            path = [*path[:2], problem[1]]
    return found


def _put(found, name, code):
    assert name not in found, f"two blocks under {name}"
    found[name] = code


def slug(name):
    """Return the name of the test of the block that stands under the headings *name*."""
    return "test_" + re.sub(r"\W+", "_", name.lower()).strip("_")


BLOCKS = {slug(name): code for name, code in blocks().items()}


def prepared(code):
    """Return *code* with the import roots replaced, and a body where the guide leaves one out."""
    for theirs, ours in ROOTS.items():
        code = re.sub(rf"\b(from|import) {theirs}\b", rf"\1 {ours}", code)
    return code.replace(PLACEHOLDER, f"{PLACEHOLDER}    pass\n")


def statements(name):
    """Return the statements of a block."""
    return ast.parse(prepared(BLOCKS[name])).body


def run(name, **names):
    """Run a block that awaits nothing; return its names."""
    space = {"__name__": "guide", **names}
    exec(compile(prepared(BLOCKS[name]), f"<{name}>", "exec"), space)
    return space


async def arun(name, upto=None, **names):
    """Run a block, or its first *upto* statements, awaiting where it does; return its names."""
    space = {"__name__": "guide", **names}
    for statement in statements(name)[:upto]:
        code = compile(
            ast.Module([statement], []),
            f"<{name}>",
            "exec",
            flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
            dont_inherit=True,
        )
        done = eval(code, space)
        if inspect.isawaitable(done):
            await done
        await asyncio.sleep(0)
    return space
