"""Settings of the infrastructure.

What is given in code counts first, then the environment, then `.env`, then the profile of the
environment that is named by `env`. All of them may say a part of a section.

By environment variable each setting has the name `SECTION__FIELD`, such as `STATE__BACKEND`; most
have a short one too, such as `STATE_BACKEND` (`config_names.SHORT`). Upper and lower case are one.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Final

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from pocketflow_async.infrastructure.config_names import nested, problem
from pocketflow_async.infrastructure.config_sections import (
    ConfigError,
    EmergencyConfig,
    Environment,
    EventsConfig,
    LoggingConfig,
    ResilienceConfig,
    StateConfig,
    environment,
    store_of,
)
from pocketflow_async.infrastructure.store_place import default_url

__all__ = [
    "Config",
    "ConfigError",
    "EmergencyConfig",
    "Environment",
    "EventsConfig",
    "InfrastructureConfig",
    "LoggingConfig",
    "ResilienceConfig",
    "StateConfig",
    "get_config",
]

_SERVER: Final[dict[str, dict[str, Any]]] = {
    # On disk, with no server: a halt and the journal of runs have to outlive the process.
    "state": {"backend": "sqlite"},
    "events": {"backend": "memory"},
}
_PROFILES: Final[dict[str, dict[str, dict[str, Any]]]] = {
    "development": {
        "state": {"backend": "memory"},
        "events": {"backend": "memory"},
        "logging": {"level": "DEBUG", "format": "console", "show_locals": True},
        "resilience": {
            "retry_max_attempts": 2,
            "retry_min_wait": 0.5,
            "circuit_failure_threshold": 10,
            "api_timeout": 30.0,
        },
        "emergency": {
            "daily_loss_limit": -100.0,
            "max_position_size": 1_000.0,
            "auto_halt_on_limit": False,
        },
    },
    "staging": _SERVER,
    "production": _SERVER,
}
"""Where an environment differs from the defaults of the models."""


class Config(BaseSettings):
    """Settings of an `Infrastructure`; frozen.

        Config(env="production", state={"url": "postgresql://…"})
        Config(state_backend="memory", log_level="DEBUG")
        Config()  # the environment says all

    Args:
        **given: Settings; sections as dicts or models, or short names. They count before all else.

    Attributes:
        env: development, staging or production.
        state: Where things are kept.
        events: How events get about.
        logging: How logs are written.
        resilience: How calls are guarded.
        emergency: Limits.

    Raises:
        ConfigError: A setting is unknown or cannot be, wherever it was made. Its message has no
            value in it. It is a ValueError.
    """

    model_config = SettingsConfigDict(
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",  # of what else an environment holds; what is given is looked through here
        frozen=True,
        hide_input_in_errors=True,
    )

    env: Environment = "development"
    state: StateConfig = StateConfig()
    events: EventsConfig = EventsConfig()
    logging: LoggingConfig = LoggingConfig()
    resilience: ResilienceConfig = ResilienceConfig()
    emergency: EmergencyConfig = EmergencyConfig()

    def __init__(self, **given: Any) -> None:
        plain = {name: _dict(value) for name, value in given.items() if not name.startswith("_")}
        private = {name: value for name, value in given.items() if name.startswith("_")}
        try:
            super().__init__(**private, **nested(plain, strict=True))
        except ValidationError as error:
            problems = [(one["loc"], one["msg"]) for one in error.errors(include_input=False)]
            raise ConfigError(map(problem, *zip(*problems, strict=True))) from None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Say what counts before what: given, environment, `.env`, profile."""
        return (
            init_settings,
            _Variables(settings_cls, env_settings),
            _Variables(settings_cls, dotenv_settings),
            _Profile(settings_cls),
        )

    @property
    def environment(self) -> str:
        """`env` by its other name."""
        return self.env

    @property
    def store_url(self) -> str:
        """The address of the store as `open_store` takes it, secrets included."""
        if self.state.url is not None:
            return self.state.url.get_secret_value()
        return "memory:" if self.state.backend == "memory" else default_url()


InfrastructureConfig = Config


def get_config(env: str | None = None, **given: Any) -> Config:
    """Return the settings for *env*; None: the environment or `.env` says which.

    Raises:
        ConfigError: There is no such environment, or a setting cannot be.
    """
    return Config(**given) if env is None else Config(env=env, **given)


class _Variables(PydanticBaseSettingsSource):
    """Environment variables, or lines of a file, by their long and short names."""

    def __init__(self, settings_cls: type[BaseSettings], source: Any) -> None:
        super().__init__(settings_cls)
        assert isinstance(source, EnvSettingsSource)
        self._prefix = source.env_prefix.lower()
        self._values = source.env_vars

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        """Return nothing: all is read at once."""
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return what there is, by section."""
        own = {
            name.removeprefix(self._prefix): value
            for name, value in self._values.items()
            if value and name.startswith(self._prefix)
        }
        return nested(own)


class _Profile(PydanticBaseSettingsSource):
    """What holds in the environment that has been named, where nobody has said anything else."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        """Return nothing: all is read at once."""
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return the profile, with the back ends that follow from the addresses."""
        said = self.current_state
        env = environment(said.get("env", "development"))
        state, events = _if_dict(said.get("state")), _if_dict(said.get("events"))
        profile = deepcopy(_PROFILES[env])
        if url := _text(state.get("url")):
            profile["state"]["backend"] = store_of(url)
        if events.get("url") or (env != "development" and events.get("redis_url")):
            profile["events"]["backend"] = "redis"
        return {**profile, "env": env}


def _dict(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(exclude_unset=True)
    return dict(value) if isinstance(value, Mapping) else value


def _if_dict(section: Any) -> dict[str, Any]:
    return section if isinstance(section, dict) else {}  # what cannot be is told of later


def _text(value: Any) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value or "")
