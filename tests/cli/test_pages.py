"""The pages about back ends name variables, commands and options that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.main import get_command

from tracing.cli.app import app
from tracing.cli.health_settings import KNOWN

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("jaeger", "langfuse", "phoenix", "collector")
THEIRS = re.compile(r"LANGFUSE_INIT_|LANGFUSE_AUTH$")


@pytest.mark.parametrize("page", PAGES)
def test_variables_are_read(page):
    """Every variable that a page tells to set is one that we read, or the server's own."""
    named = set(
        re.findall(r"\b(?:POCKETFLOW|LANGFUSE|OTEL)_[A-Z_]+\b", (DOCS / f"{page}.md").read_text())
    )

    assert {name for name in named if name not in KNOWN and not THEIRS.match(name)} == set()
    assert named


@pytest.mark.parametrize("page", PAGES)
def test_commands_exist(page):
    """Every `pocketflow-async …` is a command with these options."""
    for line in re.findall(r"pocketflow-async ([a-z][^`\n]*)", (DOCS / f"{page}.md").read_text()):
        command, words = get_command(app), line.split()
        while words and hasattr(command, "commands") and words[0] in command.commands:
            command = command.commands[words.pop(0)]
        assert command.name in ("doctor", "traces", "show", "export", "import", "push"), line
        known = {name for parameter in command.params for name in parameter.opts}
        assert {word for word in words if word.startswith("-")} <= known, line


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    """Links to other pages name files that there are."""
    for link in re.findall(r"\]\((\w+\.md)\)", (DOCS / f"{page}.md").read_text()):
        assert (DOCS / link).is_file()
