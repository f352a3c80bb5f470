"""Read files one by one, be killed in the middle (really: SIGKILL), and go on where it stopped.

The first process counts the lines of each file of a folder, a node for each, and kills itself
after some of them. The second one resumes the run: no file is read twice. Both are in one trace.

    python examples/survives_a_crash.py [FOLDER]
"""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

from pocketflow_async import AsyncFlow, AsyncNode
from tracing import flush, trace_flow

STORE = "sqlite:///crash.db"
RUN = "lines"


def files_of(folder):
    return sorted(map(str, Path(folder).glob("*.py")))


class Choose(AsyncNode):
    """Lists the files."""

    async def post_async(self, shared, _, __):
        shared["waiting"] = await asyncio.to_thread(files_of, shared["folder"])
        shared["lines"] = {}


class Count(AsyncNode):
    """Counts the lines of one file, and comes back for the next."""

    async def exec_async(self, _):
        return None

    async def post_async(self, shared, _, __):
        if not shared["waiting"]:
            return "done"
        if len(shared["lines"]) == 5 and "--crash" in sys.argv:
            flush(2)  # of a trace, the last hundredths of a second would die with the process
            os.kill(os.getpid(), signal.SIGKILL)
        path = shared["waiting"].pop(0)
        text = await asyncio.to_thread(Path(path).read_text, "utf-8")
        shared["lines"][path] = len(text.splitlines())
        print(f"process {os.getpid()} has read {Path(path).name}")
        return "next"


def make_flow():
    choose, count = Choose(), Count()
    choose >> count
    count - "next" >> count
    return trace_flow(AsyncFlow(choose, name="Lines", ends=["done"]))


async def begin(folder):
    await make_flow().run_async({"folder": folder}, run_id=RUN, store=STORE)


async def go_on():
    shared = {}
    await make_flow().resume(RUN, shared, store=STORE)
    print(f"{len(shared['lines'])} files, {sum(shared['lines'].values())} lines")


if __name__ == "__main__":
    arguments = [one for one in sys.argv[1:] if one != "--crash"]
    folder = arguments[0] if arguments else str(Path(__file__).parent)
    if "--crash" in sys.argv:
        asyncio.run(begin(folder))
    else:
        Path("crash.db").unlink(missing_ok=True)
        crashed = subprocess.run([sys.executable, "-u", __file__, folder, "--crash"], check=False)
        print(f"the first process ended with {crashed.returncode}; going on")
        asyncio.run(go_on())
