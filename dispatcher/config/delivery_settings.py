"""The settings of delivery: database, Novu, Temporal's queue and workers, claims and retries."""

from datetime import timedelta
from typing import Literal
from uuid import UUID

from pydantic import AliasChoices, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from dispatcher.config.conninfo import URL_EXAMPLE, conninfo
from dispatcher.config.setting_sources import names_of
from dispatcher.config.setting_types import Bytes, Duration, DurationOrOff, Uuids
from dispatcher.config.sizes import Size
from dispatcher.models.errors import ConfigurationError
from dispatcher.models.notification import DEFAULT_LIMITS

MAX_SWEEP_INTERVAL = timedelta(seconds=30)
"""Sweeps rescue orphaned rows and report that the process is alive. Both have documented time limits."""


class DeliverySettings(BaseSettings):
    """One field for each variable. The first alias is our name, the other ones are XNovu's."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", validate_by_name=True, hide_input_in_errors=True)

    database_url: SecretStr = Field(
        validation_alias=AliasChoices("DATABASE_URL"),
        description="PostgreSQL database of the outbox. Remote hosts need TLS unless the URL sets sslmode=disable.",
        examples=[URL_EXAMPLE],
    )
    listen_database_url: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("DISPATCHER_LISTEN_DATABASE_URL"),
        description="Direct connection for LISTEN if DATABASE_URL leads to a pooler. Default: DATABASE_URL.",
        examples=[URL_EXAMPLE],
    )
    outbox: str = Field(
        default="notify.ent_notification",
        validation_alias=AliasChoices("DISPATCHER_OUTBOX"),
        description="Table of the notifications, as schema.table. Parts may be quoted as in SQL.",
        pattern=r'^(?:"(?:[^"]|"")+"|[^".]+)\.(?:"(?:[^"]|"")+"|[^".]+)$',
    )
    installation: UUID | None = Field(
        default=None,
        validation_alias=AliasChoices("DISPATCHER_INSTALLATION"),
        description="Id of the installation whose database this is, from dispatcher.installation. If the database has"
        " another one, it is a copy, and nothing is sent. The setting also confirms a moved database as the original.",
    )
    novu_secret_key: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("NOVU_SECRET_KEY"),
        description="API key of the Novu environment. Needed to send; commands that only read work without it.",
    )
    novu_api_url: str = Field(
        default="https://api.novu.co",
        validation_alias=AliasChoices("NOVU_API_URL"),
        description="Base URL of Novu's API: https://eu.api.novu.co for the EU, or your own installation.",
        pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*)?$",
    )
    task_queue: str = Field(
        default="xnovu-notification-processing",
        validation_alias=AliasChoices("TEMPORAL_TASK_QUEUE"),
        description="Beginning of the name of our Temporal task queues; the installation's short id follows."
        " Every process of one installation uses the same.",
    )
    max_concurrent_activities: int = Field(
        default=100,
        validation_alias=AliasChoices("TEMPORAL_MAX_CONCURRENT_ACTIVITIES"),
        description="Maximum number of activities that one process runs at the same time.",
        ge=1,
        le=10_000,
    )
    max_concurrent_workflows: int = Field(
        default=50,
        validation_alias=AliasChoices("TEMPORAL_MAX_CONCURRENT_WORKFLOWS"),
        description="Maximum number of workflow tasks that one process runs at the same time.",
        ge=2,
        le=10_000,
    )
    max_cached_workflows: int = Field(
        default=100,
        validation_alias=AliasChoices("TEMPORAL_MAX_CACHED_WORKFLOWS"),
        description="Maximum number of unfinished workflows that one process keeps in memory.",
        ge=0,
        le=100_000,
    )
    create_namespace: bool = Field(
        default=True,
        validation_alias=AliasChoices("DISPATCHER_CREATE_NAMESPACE"),
        description="Create the Temporal namespace if it is missing.",
    )
    namespace_retention: Duration = Field(
        default=timedelta(days=7),
        validation_alias=AliasChoices("DISPATCHER_NAMESPACE_RETENTION"),
        description="How long Temporal keeps ended workflows in a namespace that we create. Set it to the retention of"
        " your namespace if you create it: the ledger keeps everything for at least this time.",
        ge=timedelta(days=1),
        le=timedelta(days=365),
    )
    enterprise_ids: Uuids = Field(
        default=(),
        validation_alias=AliasChoices("DISPATCHER_ENTERPRISE_IDS", "DAEMON_ENTERPRISE_IDS"),
        description="Claim only rows of these enterprises: UUIDs separated by commas. Empty means all.",
        examples=["4c7b1f0e-52a1-4f7e-9d0a-3d5f0b6c8e21"],
    )
    notify_mode: Literal["adaptive", "always", "off"] = Field(
        default="adaptive",
        validation_alias=AliasChoices("DISPATCHER_NOTIFY_MODE"),
        description="adaptive: commits send NOTIFY only while all dispatchers are idle. always: every commit sends"
        " NOTIFY. off: no LISTEN; the table is polled about every 0.4 s.",
    )
    sweep_interval: Duration = Field(
        default=timedelta(seconds=10),
        validation_alias=AliasChoices(
            "DISPATCHER_SWEEP_INTERVAL", "POLL_INTERVAL_MS", "SCHEDULED_POLL_INTERVAL_MS", "FAILED_POLL_INTERVAL_MS"
        ),
        description="Interval of the sweep, which finds rows that a wake-up missed, rows to retry and rows that got"
        " stuck. A value above 30s counts as 30s.",
        ge=timedelta(milliseconds=100),
    )
    lease: Duration = Field(
        default=timedelta(seconds=60),
        validation_alias=AliasChoices("DISPATCHER_LEASE"),
        description="Lease of a claimed notification. If it is not renewed within this time, another dispatcher may"
        " take it over.",
        ge=timedelta(seconds=5),
        le=timedelta(hours=1),
    )
    batch_size: int = Field(
        default=100,
        validation_alias=AliasChoices("DISPATCHER_BATCH_SIZE", "POLL_BATCH_SIZE"),
        description="Maximum number of notifications in one workflow while there is a backlog. 1 means no batches.",
        ge=1,
        le=100,
    )
    max_runs: int = Field(
        default=8,
        validation_alias=AliasChoices("DISPATCHER_MAX_RUNS"),
        description="Maximum number of runs of one notification. If the last one fails, it becomes a dead letter.",
        ge=1,
        le=100,
    )
    max_recipients: int = Field(
        default=DEFAULT_LIMITS.max_recipients,
        validation_alias=AliasChoices("DISPATCHER_MAX_RECIPIENTS"),
        description="Maximum number of recipients of one notification. One with more becomes a dead letter, unread.",
        ge=1,
        le=1_000_000,
    )
    max_payload: Bytes = Field(
        default=Size(DEFAULT_LIMITS.max_payload_bytes),
        validation_alias=AliasChoices("DISPATCHER_MAX_PAYLOAD"),
        description="Maximum size of payload and overrides of one notification together. A larger one becomes a dead"
        " letter, unread. The default is the limit of Novu's cloud; your own Novu only limits a whole call, to about"
        " 20 MB. Checking a payload can take 25 times its size of memory for a moment.",
        ge=1024,
        le=16 * 1024**2,
        examples=["2MB"],
    )
    retry_horizon: Duration = Field(
        default=timedelta(hours=6),
        validation_alias=AliasChoices("DISPATCHER_RETRY_HORIZON"),
        description="Time after the first run during which a failed notification is retried.",
        ge=timedelta(seconds=1),
        le=timedelta(days=30),
    )
    ledger_retention: DurationOrOff = Field(
        default=timedelta(days=30),
        validation_alias=AliasChoices("DISPATCHER_LEDGER_RETENTION"),
        description="How long the ledger keeps the recipients of a notification that was sent or retracted. After that"
        " a retraction cancels nothing at Novu. Also how long it keeps anything of a deleted row. A value below 26h,"
        " DISPATCHER_NAMESPACE_RETENTION or DISPATCHER_RETRY_HORIZON counts as the longest of them. off: keep all.",
        examples=["90d", "off"],
    )
    lookup_time: Duration = Field(
        default=timedelta(minutes=5),
        validation_alias=AliasChoices("DISPATCHER_LOOKUP_TIME"),
        description="Only for a Novu without idempotency: time after a call with an unknown outcome during which Novu"
        " is asked for its run, before the call is made again. Longer than Novu's worker ever lags.",
        ge=timedelta(seconds=15),
        le=timedelta(minutes=30),
    )
    error_texts: Literal["full", "codes"] = Field(
        default="full",
        validation_alias=AliasChoices("DISPATCHER_ERROR_TEXTS"),
        description="full: keep Novu's text about a failure, which may repeat payload values. codes: only its code.",
    )
    reconnect_delay: Duration = Field(
        default=timedelta(seconds=1),
        validation_alias=AliasChoices("SUBSCRIPTION_RECONNECT_DELAY"),
        description="Pause in milliseconds before the listener first reconnects. It doubles with each further attempt.",
        ge=timedelta(milliseconds=10),
        le=timedelta(minutes=1),
        examples=["1000"],
    )

    @field_validator("database_url", "listen_database_url")
    @classmethod
    def _check_postgres_url(cls, url: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if url is not None:
            conninfo(url, variable=names_of(cls.model_fields[str(info.field_name)])[0])
        return url

    @field_validator("sweep_interval")
    @classmethod
    def _check_sweep_interval(cls, interval: timedelta) -> timedelta:
        return min(interval, MAX_SWEEP_INTERVAL)

    @property
    def listen_url(self) -> SecretStr:
        """The URL for LISTEN: the direct connection if one is set, otherwise `database_url`."""
        return self.listen_database_url or self.database_url

    def require_novu_key(self) -> SecretStr:
        """Return Novu's key; ConfigurationError with the remedy if it is not set."""
        if self.novu_secret_key is None:
            raise ConfigurationError("NOVU_SECRET_KEY is not set: copy the environment's API key from Novu's dashboard")
        return self.novu_secret_key
