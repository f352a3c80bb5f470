"""The blocks that do not run yet, each with its reason; all others have a test of their own.

Once a block in the table would run, a test here fails: it is then to get its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from pocketflow_async.workflow import AsyncWorkflowBuilder
from tests.guide_workflow import (
    guide_blocks,
    test_builder_guide,
    test_complete_example,
    test_migration_guide,
    test_pattern_blocks,
    test_resource_blocks,
    test_runtime_guide,
)
from tests.guide_workflow.guide_blocks import BLOCKS, Block


@dataclass(frozen=True)
class Reason:
    """Why a block does not run, and how that shows."""

    why: str
    error: type[Exception]
    text: str


NO_PYTHON = Reason("is no Python: a result with `/* … */` in it", SyntaxError, "invalid syntax")

LEFT_OUT = {
    "migration_important_differences_result_format": NO_PYTHON,
    "builder_important_runtime_result_format": NO_PYTHON,
}


def with_a_test():
    """Return the blocks that have a test of the block itself."""
    modules = (
        test_migration_guide,
        test_builder_guide,
        test_pattern_blocks,
        test_resource_blocks,
        test_runtime_guide,
        test_complete_example,
    )
    names = {name.removeprefix("test_") for module in modules for name in vars(module)}
    return names & BLOCKS.keys()


def test_every_block_runs_or_is_left_out():
    """The 80 blocks of the three guides: each has its test or its reason, and none has both."""
    counts = dict.fromkeys(guide_blocks.GUIDES, 0)
    for name in BLOCKS:
        counts[name.partition("_")[0]] += 1

    assert counts == {"migration": 22, "builder": 32, "runtime": 26}
    assert set(LEFT_OUT) <= set(BLOCKS)
    assert with_a_test() == BLOCKS.keys() - LEFT_OUT.keys()


@pytest.mark.parametrize("name", LEFT_OUT)
async def test_a_block_that_is_left_out_does_not_run(name):
    """It fails for the reason in the table, though all that there is is given to it."""
    reason = LEFT_OUT[name]
    names = {
        "builder": AsyncWorkflowBuilder(),
        "AsyncWorkflowBuilder": AsyncWorkflowBuilder,
    }

    with pytest.raises(reason.error, match=reason.text):
        await BLOCKS[name].arun(**names)


def test_the_reader_of_the_guides():
    """Headings and a label in bold make the name; other languages and prose are passed over."""
    text = (
        "# T\n\n## A\n\n### 1. B\n\n```bash\nx\n```\n\n**Before:**\n\n```python\none\n```\n\n"
        "**C**: words\n\n```python\ntwo\n```\n\n## D\n\n```python\n# three\n```\n"
    )

    assert guide_blocks.parse("f.md", text) == [
        Block("f.md", "A / 1. B / Before", "one\n"),
        Block("f.md", "A / 1. B / C", "two\n"),
        Block("f.md", "D", "# three\n"),
    ]


def test_a_block_names_its_file_and_heading_when_it_fails():
    """The traceback says where the code stands."""
    with pytest.raises(ZeroDivisionError) as caught:
        Block("guide.md", "A / B", "1 / 0\n").run()

    assert caught.traceback[-1].frame.code.raw.co_filename == "<guide.md: A / B>"


def test_only_the_import_root_is_changed():
    """`kailash` as a whole word, and nothing else."""
    made = Block("guide.md", "A", "name = 'kailash.workflow kailashes'\n").run()

    assert made["name"] == "pocketflow_async.workflow kailashes"
