"""The command by which a run is answered, as it can be put into a shell."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING
from urllib.parse import unquote

from pocketflow_async.infrastructure.store_place import default_url

if TYPE_CHECKING:
    from pocketflow_async.infrastructure.store.model import Store


def approving(
    run_id: str, store: Store, value: str = "JSON", question_id: str | None = None
) -> str:
    """Return the command that answers a run.

    Args:
        run_id: The run.
        store: Where it is; named unless it is the one that commands take by themselves.
        value: The answer.
        question_id: Which question, where there are several.
    """
    options = f"--value {quote(value)}"
    if question_id is not None:
        options += f" --question {quote(question_id)}"
    options += _naming(store)
    if run_id.startswith("-"):  # else it would be taken for an option
        return f"pocketflow-async approve {options} -- {quote(run_id)}"
    return f"pocketflow-async approve {quote(run_id)} {options}"


def _naming(store: Store) -> str:
    """Return the option that names a store; its address may have a password in it."""
    path = getattr(store, "path", None)
    if path is None:
        return " --store URL" if store.shared else ""
    try:
        usual = Path(unquote(default_url().removeprefix("sqlite:///")))
    except ImportError:  # a program need not have what finds it
        usual = None
    return "" if path == usual else f" --store {quote(str(path))}"
