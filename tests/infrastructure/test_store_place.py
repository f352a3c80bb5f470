"""Where the store is when nobody says."""

from __future__ import annotations

import pytest

from pocketflow_async.infrastructure.store import open_store
from pocketflow_async.infrastructure.store_place import default_url, shown, store_url


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"STATE_URL": "sqlite:///a.db"}, "sqlite:///a.db"),
        ({"STATE__URL": "sqlite:///a.db"}, "sqlite:///a.db"),
        ({"state_url": " sqlite:///a.db "}, "sqlite:///a.db"),
        ({"STATE_URL": "sqlite:///a.db", "STATE__URL": "sqlite:///b.db"}, "sqlite:///b.db"),
    ],
)
def test_environment_names_the_store(environ, expected, tmp_path):
    """Either variable does, in any case; the nested one goes first."""
    assert store_url(environ, tmp_path) == expected


def test_file_of_the_folder_names_the_store(tmp_path):
    """A `.env` in the working folder is read as programs read it; the environment goes first."""
    (tmp_path / ".env").write_text("STATE_URL=sqlite:///there.db\nOTHER\n")

    assert store_url({}, tmp_path) == "sqlite:///there.db"
    assert store_url({"STATE_URL": "memory:"}, tmp_path) == "memory:"


def test_default_is_a_file_of_the_user(tmp_path, monkeypatch):
    """Without a word it is a file among the user's data, whatever is in its path."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "a b?#%41"))

    assert store_url({"STATE_URL": " "}, tmp_path) == default_url()
    path = tmp_path / "a b?#%41" / "pocketflow-async" / "state.db"
    assert open_store(default_url()).path == path


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sqlite:////var/state.db", "sqlite:////var/state.db"),
        ("sqlite:////var/a@b/state.db?busy_timeout=5", "sqlite:////var/a@b/state.db"),
        ("state.db", "state.db"),
        ("postgresql://me:se/cr@t@host/db", "postgresql://host/db"),
        ("postgresql://me:secret@host:5/db?password=x", "postgresql://host:5/db"),
        ("postgresql:///db?password=x&host=h", "postgresql:///db"),
    ],
)
def test_nothing_secret_is_shown(url, expected):
    """What is shown of an address has no user, password or option in it."""
    assert shown(url) == expected
