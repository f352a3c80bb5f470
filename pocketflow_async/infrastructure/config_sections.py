"""The sections of the settings, and what may be in them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

_ALIASES: Final = {
    "development": "dev develop development local memory test testing",
    "staging": "stage staging",
    "production": "prod production",
}
_BY_ALIAS: Final = {alias: env for env, known in _ALIASES.items() for alias in known.split()}
_REDIS: Final = ("redis://", "rediss://", "unix://")

Attempts: TypeAlias = Annotated[int, Field(ge=1)]
Seconds: TypeAlias = Annotated[float, Field(gt=0)]
Wait: TypeAlias = Annotated[float, Field(ge=0)]


class ConfigError(ValueError):
    """Raised when settings are unknown or cannot be.

    Attributes:
        problems: What is wrong with each.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("settings that cannot be:" + "".join(f"\n- {p}" for p in self.problems))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy by the problems."""
        return ConfigError, (self.problems,)


def environment(name: Any) -> str:
    """Return the environment that is meant by a name or alias, in upper or lower case.

    Raises:
        ConfigError: There is none of that name.
    """
    env = _BY_ALIAS.get(str(name).strip().lower())
    if env is None:
        raise ConfigError(
            [f"env: {name!r:.80} is no environment; there are {', '.join(_BY_ALIAS)}"]
        )
    return env


Environment: TypeAlias = Annotated[
    Literal["development", "staging", "production"], BeforeValidator(environment)
]


def _backend(value: Any) -> Any:
    """Return the store's back end that is meant.

    Raises:
        ValueError: It is Redis.
    """
    if not isinstance(value, str):
        return value
    name = value.strip().lower()
    if name == "redis":
        raise ValueError(
            "a Redis server may forget a halt when it is killed, so it keeps no state: take sqlite "
            "(no server) or postgres, and set REDIS_URL to share events"
        )
    return {"postgresql": "postgres", "sqlite3": "sqlite"}.get(name, name)


def store_of(url: str) -> str:
    """Return the back end at an address: memory, sqlite or postgres."""
    scheme = url.partition(":")[0].lower().partition("+")[0]
    return {"memory": "memory", "postgresql": "postgres", "postgres": "postgres"}.get(
        scheme, "sqlite"
    )


def _lower(value: Any) -> Any:
    return value.strip().lower() if isinstance(value, str) else value


def _upper(value: Any) -> Any:
    return value.strip().upper() if isinstance(value, str) else value


class _Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False
    )


class StateConfig(_Section):
    """Where state, emergencies, runs and journals are kept.

    Attributes:
        backend: memory, sqlite or postgres; when left out, what `url` says, or the profile.
        url: Its address, as `open_store` takes it; needed for postgres. When left out, sqlite is
            a file in the user's data folder.
    """

    backend: Annotated[Literal["memory", "sqlite", "postgres"], BeforeValidator(_backend)] = (
        "memory"
    )
    url: SecretStr | None = None

    @model_validator(mode="after")
    def _fits(self) -> StateConfig:
        if self.url is None and self.backend == "postgres":
            raise ValueError("postgres needs an address: set STATE_URL=postgresql://…")
        if self.url is not None and store_of(self.url.get_secret_value()) != self.backend:
            raise ValueError(f"backend is {self.backend}, but url is the address of something else")
        return self


class EventsConfig(_Section):
    """How events get to those who listen.

    Attributes:
        backend: memory (within this process) or redis (between processes); when left out, redis
            if there is a `url`, or in staging and production a `redis_url`.
        url: Address of the Redis server for events.
        redis_url: Address of a Redis server that other parts of a program may use, too.
        prefix: What all keys in Redis begin with.
    """

    backend: Annotated[Literal["memory", "redis"], BeforeValidator(_lower)] = "memory"
    url: SecretStr | None = None
    redis_url: SecretStr | None = None
    prefix: str = "pocketflow:events:"

    @property
    def address(self) -> str | None:
        """The address of the Redis server, secrets included; None: there is none."""
        found = self.url or self.redis_url
        return None if found is None else found.get_secret_value()

    @model_validator(mode="after")
    def _fits(self) -> EventsConfig:
        if self.backend == "redis" and self.address is None:
            raise ValueError("redis needs an address: set REDIS_URL=redis://…")
        if self.address is not None and not self.address.lower().startswith(_REDIS):
            raise ValueError("the address of Redis begins with redis://, rediss:// or unix://")
        return self


class LoggingConfig(_Section):
    """How logs are written; see `logging.configure_logging`.

    Attributes:
        configure: Whether they are configured at all, where the program has not done so itself.
        level: The least level that is written.
        format: "json" or "console".
        add_correlation_id: Whether each line has the ids of the run and the trace it belongs to.
        show_locals: Whether tracebacks show local variables.
    """

    configure: bool = True
    level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(_upper)
    ] = "INFO"
    format: Annotated[Literal["json", "console"], BeforeValidator(_lower)] = "json"
    add_correlation_id: bool = True
    show_locals: bool = False


class ResilienceConfig(_Section):
    """How calls to others are guarded; seconds throughout.

    Attributes:
        retry_max_attempts: Tries in all, the first included.
        retry_min_wait: Longest wait after the first failed try.
        retry_max_wait: Longest wait after any.
        retry_multiplier: What the longest wait grows by from one try to the next.
        retry_jitter: Whether a wait is drawn from between 0 and the longest; else it is the
            longest.
        circuit_failure_threshold: Failures in the window with which a breaker opens.
        circuit_timeout: How long it is open.
        circuit_window: How long a call counts.
        circuit_success_threshold: Probes that must succeed for it to close.
        circuit_half_open_max_calls: Probes that may be at work at once.
        api_timeout: What a call of a provider has.
        db_timeout: What a question to the store's server has in a health check.
        network_timeout: What a question to the events' server has in a health check.
        node_timeout: What a node of a workflow has that says nothing itself.
    """

    retry_max_attempts: Attempts = 3
    retry_min_wait: Wait = 1.0
    retry_max_wait: Wait = 60.0
    retry_multiplier: Annotated[float, Field(ge=1)] = 2.0
    retry_jitter: bool = True
    circuit_failure_threshold: Attempts = 5
    circuit_timeout: Wait = 60.0
    circuit_window: Seconds = 120.0
    circuit_success_threshold: Attempts = 2
    circuit_half_open_max_calls: Attempts = 1
    api_timeout: Seconds = 10.0
    db_timeout: Seconds = 5.0
    network_timeout: Seconds = 15.0
    node_timeout: Seconds = 30.0


class EmergencyConfig(_Section):
    """Limits whose breach stops trading.

    Attributes:
        daily_loss_limit: Lowest profit of a day, so not above 0; None: there is no limit.
        max_position_size: Largest position, long or short.
        max_drawdown_percent: Largest drawdown, in percent.
        auto_halt_on_limit: Whether a breach halts.
        persist_state: Whether a close stores what is known of the limits; a halt is stored anyway.
        alert_at: From which part of a limit on there is an alert.
        on_breach: Whether a breach halts all that changes positions, or exits go on ("reduce").
    """

    daily_loss_limit: float | None = -500.0
    max_position_size: Annotated[float, Field(gt=0)] | None = 10_000.0
    max_drawdown_percent: Annotated[float, Field(gt=0, le=100)] | None = 20.0
    auto_halt_on_limit: bool = True
    persist_state: bool = True
    alert_at: Annotated[float, Field(gt=0, le=1)] = 0.8
    on_breach: Annotated[Literal["halt", "reduce"], BeforeValidator(_lower)] = "halt"

    @model_validator(mode="after")
    def _is_a_floor(self) -> EmergencyConfig:
        if self.daily_loss_limit is not None and self.daily_loss_limit > 0:
            raise ValueError(
                "daily_loss_limit is the lowest profit that is borne, so it is negative: "
                "write -500 for a loss of 500"
            )
        return self
