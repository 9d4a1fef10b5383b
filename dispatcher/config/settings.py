"""The settings, as one frozen object: one field for each environment variable.

The fields of delivery are in `delivery_settings`; here are those of the process: its port, Sentry and logs.
`loading.load` builds it from the environment and a `.env` file. The connection variables of Temporal are no fields
here: `temporal_environment` passes them to `temporalio.envconfig`.
"""

from typing import Any, Literal

from pydantic import AliasChoices, Field, PrivateAttr, SecretStr, ValidationInfo, field_validator

from dispatcher.config.delivery_settings import DeliverySettings
from dispatcher.config.setting_sources import SettingOrigins, merge_sources, names_of, read_sources
from dispatcher.config.setting_types import LogLevel


class Settings(DeliverySettings):
    """All settings. The first alias of a field is our name, the other ones are XNovu's."""

    http_host: str = Field(
        default="127.0.0.1",
        validation_alias=AliasChoices("DISPATCHER_HTTP_HOST"),
        description="Address of the health port. All interfaces if a platform sets PORT. Beyond loopback, only the bare"
        " health paths answer without a token.",
    )
    http_port: int = Field(
        default=3001,
        validation_alias=AliasChoices("DISPATCHER_HTTP_PORT", "PORT", "WORKER_HEALTH_PORT", "DAEMON_HEALTH_PORT"),
        description="Port for health, status and metrics. 0 chooses a free port and logs it.",
        ge=0,
        le=65_535,
    )
    http_token: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("DISPATCHER_HTTP_TOKEN"),
        description="Bearer token for all but the bare health paths, at least 16 characters (openssl rand -hex 32).",
    )
    http_api: bool = Field(
        default=False,
        validation_alias=AliasChoices("DISPATCHER_HTTP_API"),
        description="Serve the API that sends and retracts notifications over HTTP (docs/http.md). It needs the token.",
    )
    temporal_metrics: str | None = Field(
        default=None,
        validation_alias=AliasChoices("DISPATCHER_TEMPORAL_METRICS"),
        description="Address on which Temporal's SDK serves its own metrics, without a token. Off unless set.",
        pattern=r"^[^\s/]+:\d{1,5}$",
        examples=["127.0.0.1:9464"],
    )
    sentry_dsn: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("SENTRY_DSN"),
        description="Client key (DSN) of the Sentry project that gets the alerts. Off unless set.",
        examples=["https://0123456789abcdef@o1.ingest.sentry.io/1"],
    )
    sentry_environment: str = Field(
        default="production",
        validation_alias=AliasChoices("SENTRY_ENVIRONMENT"),
        description="Sentry environment of the alerts.",
    )
    sentry_release: str | None = Field(
        default=None,
        validation_alias=AliasChoices("SENTRY_RELEASE"),
        description="Release named in alerts. Default: the commit that the platform reports, or our version.",
        examples=["dispatcher@1.2.3"],
    )
    log_level: LogLevel = Field(
        default="info",
        validation_alias=AliasChoices("DISPATCHER_LOG_LEVEL", "WORKER_LOG_LEVEL", "DAEMON_LOG_LEVEL"),
        description="Lowest level that is logged: debug, info, warning, error or critical.",
    )
    log_format: Literal["auto", "console", "json", "logfmt"] = Field(
        default="auto",
        validation_alias=AliasChoices("DISPATCHER_LOG_FORMAT"),
        description="console, json or logfmt. auto: console on a terminal, json otherwise.",
    )

    _origins: SettingOrigins = PrivateAttr(default_factory=lambda: SettingOrigins(read_sources(None), {}))

    @classmethod
    def settings_customise_sources(cls, settings_cls: Any, init_settings: Any, *_: Any, **__: Any) -> Any:  # noqa: ARG003
        """Use the arguments only, so that `Settings(...)` is the same everywhere. `load` reads the environment."""
        return (init_settings,)

    @field_validator("http_token")
    @classmethod
    def _check_token_length(cls, token: SecretStr | None) -> SecretStr | None:
        if token is not None and len(token.get_secret_value()) < 16:
            raise ValueError("should have 16 characters or more")
        return token

    @field_validator("http_api")
    @classmethod
    def _check_api_has_token(cls, api: object, info: ValidationInfo) -> object:
        if api and info.data.get("http_token", "") is None:
            raise ValueError("needs DISPATCHER_HTTP_TOKEN, which is not set")
        return api

    @property
    def origins(self) -> SettingOrigins:
        """The sources, and the variable that filled each field."""
        return self._origins

    @property
    def temporal_environment(self) -> dict[str, str]:
        """The variables for `temporalio.envconfig` (`override_env_vars`): the environment over the `.env` file."""
        return {
            name: found.value
            for name, found in merge_sources(self.origins.sources).items()
            if name.startswith("TEMPORAL_")
        }


def variable_names(field: str) -> list[str]:
    """Return the names of the variables that fill `field`: ours first, then XNovu's."""
    return names_of(Settings.model_fields[field])
