"""`pocketflow-tracing-setup --test` with keys alone asks Langfuse's cloud, as sending does."""

from __future__ import annotations

import pytest

from tracing.utils import setup
from tracing.utils.asking import Answer


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """Set keys and nothing else, and stand in for the network: hosts asked, and answers given."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LANGFUSE_PUBLIC_KEY", "pk-lf-1")
    monkeypatch.setenv("LANGFUSE_SECRET_KEY", "sk-lf-1")
    hosts: list[str | None] = []
    answers = [Answer(200, "OK")]

    def ask(config):
        hosts.append(config.langfuse_host)
        return answers[-1]

    monkeypatch.setattr(setup, "ask", ask)
    return hosts, answers


def test_without_a_host_the_cloud_is_asked(asked, capsys):
    """Nothing is missing, and what is said names the host that was asked."""
    assert setup.main(["--test"]) == 0

    assert asked[0] == ["https://cloud.langfuse.com"]
    assert capsys.readouterr().out.startswith("ready: https://cloud.langfuse.com answers")


@pytest.mark.parametrize("variable", ["LANGFUSE_HOST", "LANGFUSE_BASE_URL"])
@pytest.mark.parametrize("status", [None, 302, 404])
def test_the_variable_in_force_is_named(asked, capsys, monkeypatch, variable, status):
    """What is to be corrected is what was set."""
    monkeypatch.setenv(variable, "http://h")
    asked[1].append(Answer(status, "no"))

    assert setup.main(["--test"]) == 1

    assert asked[0] == ["http://h"]
    assert variable in capsys.readouterr().err


@pytest.mark.parametrize("key", ["LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY"])
def test_a_key_that_is_missing(asked, capsys, monkeypatch, key):
    """The key is, and the host is not: there is one for those who name none."""
    monkeypatch.delenv(key)

    assert setup.main(["--test"]) == 1

    assert f"not set: {key}; for another host than" in capsys.readouterr().err
    assert asked[0] == []
