"""An environment that says nothing, and a user's data folder that nobody else has."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pocketflow_async.infrastructure.config_names import SECTIONS, SHORT

_OURS = (*(f"{section}__" for section in SECTIONS), "pocketflow_")


@pytest.fixture
def silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty working folder; no variable and no `.env` says anything about us."""
    for name in list(os.environ):
        if name.lower() in SHORT or name == "ENV" or name.lower().startswith(_OURS):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder
