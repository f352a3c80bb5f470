"""A workflow over real files: what can run at once does; a failed part stops what needs it.

Run it as `python examples/workflow_report.py [FOLDER]`.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from pocketflow_async.runtime import AsyncLocalRuntime, show_progress
from pocketflow_async.workflow import AsyncWorkflowBuilder, ErrorHandler, RetryPolicy
from tracing import trace_flow


def find(folder: str) -> list[Path]:
    """Return the Python files below *folder*."""
    return sorted(Path(folder).rglob("*.py"))


def measure(path: Path) -> dict[str, Any]:
    """Return what one file holds."""
    lines = path.read_text("utf-8", errors="replace").splitlines()
    return {"name": path.name, "lines": len(lines), "todo": sum("TODO" in line for line in lines)}


def longest(results: list[dict[str, Any]]) -> list[str]:
    """Return the names of the three longest files."""
    return [found["name"] for found in sorted(results, key=lambda one: -one["lines"])[:3]]


def flaky(results: list[dict[str, Any]]) -> int:
    """Fail: a part that nobody else needs."""
    raise ConnectionError("the ticket system is down")


def build() -> AsyncWorkflowBuilder:
    """Return the workflow, not yet built."""
    builder = AsyncWorkflowBuilder(name="Report")
    files = builder.add_function("files", find)
    measured = builder.add_parallel_map(
        "measured", measure, input_field="paths", max_workers=8, continue_on_error=True
    )
    top = builder.add_function("longest", longest)
    tickets = builder.add_function(
        "tickets",
        flaky,
        retry_policy=RetryPolicy(max_attempts=2, initial_delay=0.01),
        error_handler=ErrorHandler("fallback", fallback_value=0, log_level="debug"),
    )
    total = builder.add_async_code(
        "total", "result = {'lines': sum(found['lines'] for found in results)}"
    )
    builder.add_connection(files, None, measured, "paths")
    for node in (top, tickets, total):
        builder.add_connection(measured, "results", node, "results")
    return builder


@trace_flow(flow_name="Report")
async def report(folder: str) -> dict[str, Any]:
    """Run the workflow on *folder* and show how far it is."""
    async with AsyncLocalRuntime(max_concurrent_nodes=8) as runtime:
        workflow = build().build()
        return await show_progress(runtime.stream(workflow, {"folder": folder}))


def main() -> None:
    """Report on the folder that was named, or on this one."""
    folder = sys.argv[1] if len(sys.argv) > 1 else str(Path(__file__).parent)
    result = asyncio.run(report(folder))
    print(result["results"]["total"]["lines"], "lines; longest:", result["results"]["longest"])
    print("by type:", dict(Counter(path.suffix for path in result["results"]["files"])))
    print("status:", result["status"], "errors:", result["errors"])


if __name__ == "__main__":
    main()
