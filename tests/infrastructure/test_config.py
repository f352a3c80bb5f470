"""Settings: which of them counts, what they are called, and what cannot be."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from pocketflow_async.infrastructure import InfrastructureConfig
from pocketflow_async.infrastructure.config import (
    Config,
    ConfigError,
    EmergencyConfig,
    StateConfig,
    get_config,
)
from pocketflow_async.infrastructure.config_names import SECTIONS, SHORT, nested
from pocketflow_async.infrastructure.store_place import store_url
from tests.infrastructure import config_kit

silent = config_kit.silent
pytestmark = pytest.mark.usefixtures("silent")


@pytest.mark.parametrize(
    ("alias", "env"),
    [
        ("dev", "development"),
        ("test", "development"),
        ("memory", "development"),
        ("Development", "development"),
        ("stage", "staging"),
        (" PROD ", "production"),
        ("production", "production"),
    ],
)
def test_environments_have_aliases(alias, env):
    """Each name of an environment is understood, in upper and lower case."""
    assert get_config(alias).env == env
    assert Config(env=alias).environment == env


def test_unknown_environment_is_refused():
    """A name that is none is a ValueError that says which there are."""
    with pytest.raises(ValueError, match="'moon' is no environment; there are dev"):
        get_config("moon")


def test_unknown_environment_in_the_environment_is_refused(monkeypatch):
    """ENV is held to the same names."""
    monkeypatch.setenv("ENV", "prodution")

    with pytest.raises(ConfigError, match="prodution"):
        Config()


def test_without_a_word_it_is_development():
    """Nobody gets a production by accident."""
    assert Config().env == "development"


TABLE: list[tuple[str, Any, Any, Any]] = [
    ("state.backend", "memory", "sqlite", "sqlite"),
    ("events.backend", "memory", "memory", "memory"),
    ("logging.level", "DEBUG", "INFO", "INFO"),
    ("logging.format", "console", "json", "json"),
    ("logging.show_locals", True, False, False),
    ("resilience.retry_max_attempts", 2, 3, 3),
    ("resilience.retry_min_wait", 0.5, 1, 1),
    ("resilience.retry_max_wait", 60, 60, 60),
    ("resilience.retry_multiplier", 2, 2, 2),
    ("resilience.circuit_failure_threshold", 10, 5, 5),
    ("resilience.circuit_timeout", 60, 60, 60),
    ("resilience.circuit_window", 120, 120, 120),
    ("resilience.circuit_success_threshold", 2, 2, 2),
    ("resilience.api_timeout", 30, 10, 10),
    ("resilience.db_timeout", 5, 5, 5),
    ("resilience.network_timeout", 15, 15, 15),
    ("resilience.node_timeout", 30, 30, 30),
    ("emergency.daily_loss_limit", -100, -500, -500),
    ("emergency.max_position_size", 1000, 10000, 10000),
    ("emergency.max_drawdown_percent", 20, 20, 20),
    ("emergency.auto_halt_on_limit", False, True, True),
    ("emergency.persist_state", True, True, True),
]


@pytest.mark.parametrize(("name", "development", "staging", "production"), TABLE)
def test_profiles_are_those_of_the_contract(name, development, staging, production):
    """The table of A7, production being on disk with no server."""
    section, field = name.split(".")

    found = [
        getattr(getattr(get_config(env), section), field)
        for env in ("development", "staging", "production")
    ]

    assert found == [development, staging, production]


def test_production_is_a_file_among_the_users_data(tmp_path):
    """With nothing but a disk, production has a place for its state."""
    url = get_config("production").store_url

    assert url.startswith(f"sqlite:///{tmp_path}/data/")
    assert get_config("development").store_url == "memory:"


def test_commands_find_the_store_of_the_settings(silent, monkeypatch):
    """What `halt` of the command line writes to is what a production obeys."""
    assert store_url() == get_config("production").store_url
    (silent / ".env").write_text("STATE_URL=sqlite:///a.db\n")
    assert store_url() == get_config("production").store_url == "sqlite:///a.db"
    monkeypatch.setenv("STATE_URL", "sqlite:///b.db")
    assert store_url() == get_config("production").store_url == "sqlite:///b.db"
    monkeypatch.setenv("state__url", "sqlite:///c.db")
    assert store_url() == get_config("production").store_url == "sqlite:///c.db"


def test_what_is_given_beats_the_environment_beats_dotenv_beats_the_profile(silent, monkeypatch):
    """Each place is asked only for what those before it have left open."""
    (silent / ".env").write_text(
        "RETRY_MAX_ATTEMPTS=4\nRETRY_MIN_WAIT=4\nRETRY_MAX_WAIT=4\nOTHER_PROGRAM=1\n"
    )
    monkeypatch.setenv("RETRY_MIN_WAIT", "3")
    monkeypatch.setenv("RETRY_MAX_WAIT", "3")

    found = get_config("production", resilience={"retry_max_wait": 2}).resilience

    assert (found.retry_max_wait, found.retry_min_wait) == (2, 3)
    assert (found.retry_max_attempts, found.circuit_failure_threshold) == (4, 5)


def test_named_profile_still_yields_to_the_environment(monkeypatch):
    """`get_config("production")` names a profile; it does not outrank the environment."""
    monkeypatch.setenv("CIRCUIT_FAILURE_THRESHOLD", "7")
    monkeypatch.setenv("STATE__URL", "postgresql://bot@db/live")

    config = get_config("production")

    assert config.resilience.circuit_failure_threshold == 7
    assert (config.state.backend, config.store_url) == ("postgres", "postgresql://bot@db/live")


def test_env_alone_makes_a_production(monkeypatch):
    """ENV=production is a whole production, and not one in memory."""
    monkeypatch.setenv("ENV", "production")

    config = Config()

    assert (config.env, config.state.backend, config.logging.format) == (
        "production",
        "sqlite",
        "json",
    )


@pytest.mark.parametrize("name", sorted(SHORT))
def test_short_and_long_names_are_one_setting(name, monkeypatch):
    """Every short name sets what its long name sets."""
    section, field = SHORT[name]
    long = f"{section}__{field}"
    value = _another(section, field)
    default = _read(section, field)

    monkeypatch.setenv(name.upper(), value)
    short = _read(section, field)
    monkeypatch.delenv(name.upper())
    monkeypatch.setenv(long.upper(), value)

    assert short == _read(section, field)
    assert short != default or name == "events_backend"


def _another(section: str, field: str) -> str:
    values = {
        "url": "postgresql://h/d" if section == "state" else "redis://h",
        "redis_url": "redis://h",
        "backend": "sqlite" if section == "state" else "memory",
        "level": "ERROR",
        "format": "json",
        "auto_halt_on_limit": "true",
        "persist_state": "false",
        "retry_jitter": "no",
        "daily_loss_limit": "-7",
    }
    return values.get(field, "7")


def _read(section: str, field: str) -> Any:
    found = getattr(getattr(Config(), section), field)
    return found.get_secret_value() if isinstance(found, SecretStr) else str(found)


def test_long_names_count_before_short_ones(monkeypatch):
    """Who writes both in one place means the exact one."""
    monkeypatch.setenv("LOG_LEVEL", "ERROR")
    monkeypatch.setenv("LOGGING__LEVEL", "warning")

    assert Config().logging.level == "WARNING"


def test_short_names_can_be_given_in_code():
    """`Config(state_backend=…)` is what `STATE_BACKEND` is."""
    config = Config(state_backend="SQLite", log_level="error", state__url="sqlite:///x.db")

    assert (config.state.backend, config.logging.level) == ("sqlite", "ERROR")
    assert config.store_url == "sqlite:///x.db"


def test_sections_can_be_given_in_part():
    """What a section leaves out comes from the profile, be it a dict or a model."""
    as_dict = Config(env="production", emergency={"daily_loss_limit": -1})
    as_model = Config(env="production", emergency=EmergencyConfig(daily_loss_limit=-1))

    assert as_dict == as_model
    assert as_model.emergency.max_position_size == 10_000


@pytest.mark.parametrize("env", ["development", "staging", "production"])
def test_address_of_a_store_says_which_it_is(env):
    """Who gives an address need not say what is there."""
    url = "postgresql://bot:hunter2@db/live?schema=bots"

    assert Config(env=env, state_url=url).state.backend == "postgres"
    assert Config(env=env, state_url="sqlite:////tmp/x.db").state.backend == "sqlite"
    assert Config(env=env, state=StateConfig(url="memory:")).state.backend == "memory"


def test_redis_carries_events_where_there_is_an_address(monkeypatch):
    """REDIS_URL is used in production; a developer's machine needs EVENTS_BACKEND or EVENTS_URL."""
    assert get_config("production").events.backend == "memory"
    monkeypatch.setenv("REDIS_URL", "redis://cache")

    assert get_config("production").events.backend == "redis"
    assert get_config("production").events.address == "redis://cache"
    assert get_config("development").events.backend == "memory"
    assert get_config("development", events_backend="redis").events.address == "redis://cache"
    assert get_config("development", events_url="redis://ev").events.address == "redis://ev"


WRONG = [
    (
        {"state_backend": "redis"},
        r"state.backend \(STATE_BACKEND, STATE__BACKEND\): .*forget a hal",
    ),
    ({"state_backend": "postgres"}, "set STATE_URL=postgresql"),
    ({"state_backend": "sqlite", "state_url": "postgresql://h/d"}, "address of something else"),
    ({"events_backend": "redis"}, "set REDIS_URL"),
    ({"redis_url": "http://h"}, "begins with redis://"),
    ({"daily_loss_limit": 500}, "lowest profit.*write -500"),
    ({"daily_loss_limit": "nan"}, "daily_loss_limit"),
    ({"max_drawdown_percent": 120}, "max_drawdown_percent"),
    ({"retry_max_attempts": 0}, "retry_max_attempts"),
    ({"log_format": "%(message)s"}, r"logging.format \(LOG_FORMAT, LOGGING__FORMAT\)"),
    ({"state": {"backned": "memory"}}, "state.backned"),
    ({"state": 5}, "state"),
    ({"databse": 5}, "DATABSE: there is no such setting"),
]


@pytest.mark.parametrize(("given", "message"), WRONG)
def test_settings_that_cannot_be_are_named(given, message):
    """Each is refused with its names, and with what to do."""
    with pytest.raises(ConfigError, match=message):
        Config(**given)


def test_misspelt_limit_in_the_environment_is_refused(monkeypatch):
    """A limit that is not read would be money lost: an unknown name in our sections is an error."""
    monkeypatch.setenv("EMERGENCY__DAILY_LOS_LIMIT", "-50")

    with pytest.raises(ConfigError, match="emergency__daily_loss_limit is meant"):
        Config()


def test_what_others_say_in_the_environment_is_theirs(silent, monkeypatch):
    """Variables with other names, and empty ones, say nothing."""
    (silent / ".env").write_text("STATE=california\nEVENTS={\nSTATE_URL=\n")
    monkeypatch.setenv("LOGGING", "yes please")
    monkeypatch.setenv("API_TIMEOUT", "30s")
    monkeypatch.setenv("REDIS_URL", "")

    assert Config() == Config(env="development")


def test_another_file_and_a_prefix_can_be_named(silent: Path, monkeypatch):
    """pydantic-settings' own options work: bots of one machine keep their settings apart."""
    (silent / "bot.env").write_text("APP_LOG_LEVEL=error\nLOG_LEVEL=critical\n")
    monkeypatch.setenv("APP_STATE__BACKEND", "sqlite")

    config = Config(_env_file=silent / "bot.env", _env_prefix="APP_")

    assert (config.logging.level, config.state.backend) == ("ERROR", "sqlite")


def test_no_setting_shows_its_secrets():
    """Neither a repr, nor a dump, nor an error has the password of an address in it."""
    config = Config(state_url="postgresql://bot:hunter2@db/x", redis_url="redis://:hunter2@r")
    with pytest.raises(ConfigError) as caught:
        Config(state_url="postgresql://bot:hunter2@db/x", state_backend="memory")
    with pytest.raises(ConfigError) as other:
        Config(events_url="http://:hunter2@h", state={"url": {"hunter2": 1}})

    said = f"{config!r} {config} {config.model_dump_json()} {caught.value!r} {other.value!r}"
    assert "hunter2" not in said
    assert caught.value.__cause__ is None


def test_settings_are_frozen_and_can_be_copied():
    """Nobody changes the settings of a thing that runs; other ones are made from them."""
    config = Config(env="production")

    with pytest.raises(ValueError, match="frozen"):
        config.env = "development"
    with pytest.raises(ValueError, match="frozen"):
        config.emergency.daily_loss_limit = -1e9
    assert copy.deepcopy(config) == config == pickle.loads(pickle.dumps(config))


def test_errors_of_settings_can_be_pickled():
    """They cross processes whole."""
    error = ConfigError(["a: b"])

    assert pickle.loads(pickle.dumps(error)).problems == ("a: b",)


def test_the_documents_name_is_the_same_class():
    """`InfrastructureConfig` is `Config`."""
    assert InfrastructureConfig is Config


@given(st.dictionaries(st.sampled_from(sorted(SHORT)), st.text(max_size=5)))
def test_names_are_sorted_into_sections(values):
    """Whatever is given by short names is found in its section, and nothing else is."""
    found = nested(values)

    assert {(s, f): v for s, fields in found.items() for f, v in fields.items()} == {
        SHORT[name]: value for name, value in values.items()
    }
    assert set(found) <= set(SECTIONS)
