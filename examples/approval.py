"""A flow that waits for a person: visibly suspended, for as long as it takes.

On a terminal it asks you. Elsewhere (in a pipe, in CI) a colleague answers after a moment: another
task that reads the draft and approves it.

    python examples/approval.py
"""

import asyncio
import sys

from pocketflow_async import AsyncFlow, AsyncNode, suspended
from tracing import trace_flow


class Draft(AsyncNode[str, str]):
    async def prep_async(self, shared):
        return shared["topic"]

    async def exec_async(self, topic):
        return f"Dear all, {topic}. Yours, the release bot"

    async def post_async(self, shared, topic, text):
        shared["draft"] = text


class Approve(AsyncNode[str, str]):
    async def prep_async(self, shared):
        self.desk = shared["desk"]
        return shared["draft"]

    async def exec_async(self, draft):
        async with suspended("waiting for approval"):
            return await self.desk(draft)

    async def post_async(self, shared, draft, answer):
        return "yes" if answer.strip().lower() in ("y", "yes") else "no"


class Send(AsyncNode[str, None]):
    async def prep_async(self, shared):
        return shared["draft"]

    async def post_async(self, shared, draft, _):
        print(f"sent: {draft}")


class Drop(AsyncNode):
    async def post_async(self, shared, prep_res, exec_res):
        print("dropped")


@trace_flow(tags=["release"])
class Announcement(AsyncFlow):
    def __init__(self):
        draft, approve = Draft(), Approve()
        draft >> approve
        approve - "yes" >> Send()
        approve - "no" >> Drop()
        super().__init__(start=draft)


async def ask_person(draft):
    """Ask on the terminal, without holding up the event loop."""
    return await asyncio.to_thread(input, f"{draft}\nSend it? [y/n] ")


class Colleague:
    """Answers in a task of its own, as a web handler or a chat bot would."""

    def __init__(self):
        self.letters = asyncio.Queue()

    async def __call__(self, draft):
        answer = asyncio.get_running_loop().create_future()
        await self.letters.put((draft, answer))
        return await answer

    async def work(self):
        while True:
            draft, answer = await self.letters.get()
            answer.set_result("yes" if "release" in draft else "no")


async def main():
    if sys.stdin.isatty():
        await Announcement().run_async({"topic": "the release is out", "desk": ask_person})
        return
    colleague = Colleague()
    work = asyncio.create_task(colleague.work())
    await Announcement().run_async({"topic": "the release is out", "desk": colleague})
    work.cancel()


if __name__ == "__main__":
    asyncio.run(main())
