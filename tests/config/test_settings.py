"""Settings: what is read from where, what is refused and how that is said, and that no secret gets out."""

from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from dispatcher.cli.setting_origins import setting_origins
from dispatcher.config.loading import ALL_INTERFACES, load
from dispatcher.config.setting_sources import ACCEPTED_NOT_USED, ENV_FILE
from dispatcher.config.settings import Settings, variable_names
from dispatcher.models.errors import ConfigurationError

SECRET = "hunter2hunter2"


URL = f"postgres://app:{SECRET}@db.example.com:5432/shop"


REQUIRED = {"DATABASE_URL": URL}


XNOVU = f"""
# as XNovu's example has it
DATABASE_URL="postgresql://postgres.abc:{SECRET}@aws-0-eu.pooler.supabase.com:6543/postgres?pgbouncer=true"
NEXT_PUBLIC_SUPABASE_URL=https://abc.supabase.co
NEXT_PUBLIC_SUPABASE_ANON_KEY={SECRET}
SUPABASE_SERVICE_ROLE_KEY={SECRET}
NOVU_SECRET_KEY={SECRET}
NOVU_API_URL=https://eu.api.novu.co
NEXT_PUBLIC_NOVU_SUBSCRIBER_ID=
TEMPORAL_ADDRESS=temporal.example.com:7233
TEMPORAL_NAMESPACE=xnovu
TEMPORAL_TASK_QUEUE=xnovu-prod
TEMPORAL_TLS=false
TEMPORAL_API_KEY={SECRET}
TEMPORAL_MAX_CONCURRENT_ACTIVITIES=20
TEMPORAL_MAX_CONCURRENT_WORKFLOWS=10
TEMPORAL_MAX_CACHED_WORKFLOWS=30
POLL_INTERVAL_MS=5000
FAILED_POLL_INTERVAL_MS=60000
SCHEDULED_POLL_INTERVAL_MS=30000
POLL_BATCH_SIZE=500
RULE_POLL_INTERVAL_MS=30000
WORKER_HEALTH_PORT=3001
DAEMON_HEALTH_PORT=3001
WORKER_LOG_LEVEL=warn
DAEMON_LOG_LEVEL=debug
LOG_LEVEL=info
DAEMON_ENTERPRISE_IDS=4c7b1f0e-52a1-4f7e-9d0a-3d5f0b6c8e21, 9e107d9d-372b-4b26-9d8c-1a2b3c4d5e6f
SUBSCRIPTION_RECONNECT_DELAY=2500
SUBSCRIPTION_MAX_RETRIES=10
SUBSCRIPTION_HEALTH_CHECK_INTERVAL=30000
"""


def refused(**environ: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(None, REQUIRED | environ)
    return str(caught.value)


def test_defaults_need_only_a_database() -> None:
    settings = load(None, REQUIRED)
    assert settings.model_dump() == Settings(database_url=SecretStr(URL)).model_dump()
    assert (settings.outbox, settings.lease, settings.batch_size) == (
        "notify.ent_notification",
        timedelta(seconds=60),
        100,
    )
    assert settings.listen_url == settings.database_url


def test_env_file_of_xnovu_loads_unchanged(tmp_path: Path) -> None:
    file = tmp_path / "xnovu.env"
    file.write_text(XNOVU)
    settings = load(file, {})
    assert settings.sweep_interval == timedelta(seconds=5)
    assert settings.reconnect_delay == timedelta(milliseconds=2500)
    assert (settings.batch_size, settings.log_level, settings.task_queue) == (100, "warning", "xnovu-prod")
    assert settings.max_concurrent_activities == 20
    assert settings.enterprise_ids[0] == UUID("4c7b1f0e-52a1-4f7e-9d0a-3d5f0b6c8e21")
    assert len(settings.enterprise_ids) == 2
    assert settings.temporal_environment["TEMPORAL_ADDRESS"] == "temporal.example.com:7233"


def test_origins_name_the_source_of_each_value(tmp_path: Path) -> None:
    file = tmp_path / "xnovu.env"
    file.write_text(XNOVU)
    settings = load(file, {"DISPATCHER_LEASE": "30s", "POLL_BATCH_SIZE": "7"})
    told = {one.variable: one for one in setting_origins(settings)}
    assert told["DISPATCHER_LEASE"][1:] == ("30s", "environment")
    assert told["DISPATCHER_BATCH_SIZE"][1:] == ("7", "environment as POLL_BATCH_SIZE")
    assert told["DISPATCHER_SWEEP_INTERVAL"][1:] == ("5s", f"{file} as POLL_INTERVAL_MS")
    assert told["DISPATCHER_MAX_RUNS"][1:] == ("8", "default")
    assert told["TEMPORAL_ADDRESS"][1:] == ("temporal.example.com:7233", str(file))
    assert told["FAILED_POLL_INTERVAL_MS"].source.endswith("not used: POLL_INTERVAL_MS comes first")
    for name, reason in ACCEPTED_NOT_USED.items():
        assert told[name].source == f"{file}; accepted, not used: {reason}"
    assert not [one for one in told.values() if SECRET in str(one)]


def test_environment_beats_the_file_under_every_name(tmp_path: Path) -> None:
    file = tmp_path / "mine.env"
    file.write_text("DISPATCHER_SWEEP_INTERVAL=20s\nTEMPORAL_ADDRESS=file:1\n")
    settings = load(file, REQUIRED | {"POLL_INTERVAL_MS": "700", "TEMPORAL_ADDRESS": "environment:1"})
    assert settings.sweep_interval == timedelta(milliseconds=700)
    assert settings.temporal_environment == {"TEMPORAL_ADDRESS": "environment:1"}


def test_our_name_beats_xnovus_names_in_their_order() -> None:
    environ = {"FAILED_POLL_INTERVAL_MS": "3000", "SCHEDULED_POLL_INTERVAL_MS": "2000"}
    assert load(None, REQUIRED | environ).sweep_interval == timedelta(seconds=2)
    assert load(None, REQUIRED | environ | {"DISPATCHER_SWEEP_INTERVAL": "PT9S"}).sweep_interval == timedelta(seconds=9)


def test_empty_variable_counts_as_unset() -> None:
    environ = {"DISPATCHER_LEASE": "", "NOVU_SECRET_KEY": "  ", "TEMPORAL_API_KEY": "", "POLL_BATCH_SIZE": "5"}
    settings = load(None, REQUIRED | environ | {"DISPATCHER_BATCH_SIZE": ""})
    assert (settings.lease, settings.novu_secret_key, settings.batch_size) == (timedelta(minutes=1), None, 5)
    assert settings.temporal_environment == {}


def test_newline_after_a_key_is_removed() -> None:
    assert load(None, REQUIRED | {"NOVU_SECRET_KEY": "abc\n"}).require_novu_key().get_secret_value() == "abc"


def test_only_the_default_env_file_may_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(ENV_FILE, REQUIRED).max_runs == 8
    Path(".env").write_text("DISPATCHER_MAX_RUNS=3\n")
    assert load(environ=REQUIRED).max_runs == 3
    with pytest.raises(ConfigurationError, match=r"other\.env does not exist"):
        load(Path("other.env"), REQUIRED)
    Path("binary.env").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match=r"binary\.env cannot be read"):
        load(Path("binary.env"), REQUIRED)


def test_settings_built_by_hand_ignore_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPATCHER_MAX_RUNS", "3")
    assert Settings(database_url=SecretStr(URL)).max_runs == 8


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load(None, REQUIRED).max_runs = 9  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("DISPATCHER_LEASE", "30", "DISPATCHER_LEASE should be a duration such as"),
        ("DISPATCHER_LEASE", "4s", "DISPATCHER_LEASE should be greater than or equal to 5 seconds"),
        ("DISPATCHER_SWEEP_INTERVAL", "0s", "DISPATCHER_SWEEP_INTERVAL should be greater"),
        ("DISPATCHER_RETRY_HORIZON", "400d", "DISPATCHER_RETRY_HORIZON should be less than or equal to 30 days"),
        ("POLL_INTERVAL_MS", "10s", "POLL_INTERVAL_MS should be a whole number of milliseconds"),
        ("POLL_BATCH_SIZE", "0", "POLL_BATCH_SIZE should be greater than or equal to 1"),
        ("DISPATCHER_BATCH_SIZE", "101", "DISPATCHER_BATCH_SIZE should be less than or equal to 100"),
        ("DISPATCHER_OUTBOX", "ent_notification", "DISPATCHER_OUTBOX is not understood"),
        ("DISPATCHER_OUTBOX", 'a.b"; DROP', "DISPATCHER_OUTBOX is not understood"),
        ("DISPATCHER_ENTERPRISE_IDS", "acme", "DISPATCHER_ENTERPRISE_IDS should be a valid UUID"),
        ("DISPATCHER_NOTIFY_MODE", "on", "DISPATCHER_NOTIFY_MODE should be 'adaptive', 'always' or 'off'"),
        ("DISPATCHER_CREATE_NAMESPACE", "perhaps", "DISPATCHER_CREATE_NAMESPACE should be a valid boolean"),
        ("WORKER_LOG_LEVEL", "loud", "WORKER_LOG_LEVEL should be 'debug', 'info'"),
        ("NOVU_API_URL", "api.novu.co", "NOVU_API_URL is not understood"),
        ("DISPATCHER_LISTEN_DATABASE_URL", "mysql://x", "DISPATCHER_LISTEN_DATABASE_URL is not a Postgres URL"),
        ("DISPATCHER_BACH_SIZE", "5", "DISPATCHER_BACH_SIZE is not a setting: did you mean DISPATCHER_BATCH_SIZE?"),
    ],
)
def test_wrong_value_is_named(name: str, value: str, said: str) -> None:
    message = refused(**{name: value})
    assert message.startswith(said)
    assert "\n" not in message


def test_several_problems_make_one_line() -> None:
    message = refused(DISPATCHER_LEASE="1s", DISPATCHER_MAX_RUNS="0")
    assert "DISPATCHER_LEASE should" in message
    assert "DISPATCHER_MAX_RUNS should" in message
    assert "\n" not in message


def test_missing_variables_are_named_with_their_remedy() -> None:
    with pytest.raises(
        ConfigurationError, match=r"DATABASE_URL is not set.*postgres://user:password@host:5432/database"
    ):
        load(None, {})
    with pytest.raises(ConfigurationError, match="NOVU_SECRET_KEY is not set"):
        load(None, REQUIRED).require_novu_key()


@pytest.mark.parametrize("service", ["DISPATCHER", "DISPATCHER_WEB", "DISPATCHER_PORT_OF_CALL"])
def test_kubernetes_service_variables_are_ignored(service: str) -> None:
    ours = {
        "SERVICE_HOST": "10.0.0.1",
        "SERVICE_PORT": "3001",
        "SERVICE_PORT_HTTP": "3001",
        "PORT": "tcp://10.0.0.1:3001",
        "PORT_3001_TCP": "tcp://10.0.0.1:3001",
        "PORT_3001_TCP_ADDR": "10.0.0.1",
        "PORT_3001_TCP_PORT": "3001",
        "PORT_3001_TCP_PROTO": "tcp",
    }
    load(None, REQUIRED | {f"{service}_{name}": value for name, value in ours.items()})


@pytest.mark.parametrize("slip", ["DISPATCHER_HTPP_PORT", "DISPATCHER_PORT", "DISPATCHER_WEB_PORT_3001_TPC"])
def test_misspelt_setting_is_not_taken_for_a_kubernetes_service(slip: str) -> None:
    assert slip in refused(**{slip: "3001", "DISPATCHER_WEB_SERVICE_HOST": "10.0.0.1"})


def test_port_of_the_platform_listens_on_all_addresses(tmp_path: Path) -> None:
    assert load(None, REQUIRED | {"PORT": "8080"}).http_host in ("::", "0.0.0.0")
    assert load(None, REQUIRED | {"PORT": "8080", "DISPATCHER_HTTP_HOST": "127.0.0.1"}).http_host == "127.0.0.1"
    assert load(None, REQUIRED | {"PORT": "8080", "DISPATCHER_HTTP_PORT": "3001"}).http_host == "127.0.0.1"
    file = tmp_path / "project.env"  # of a project that says so to its own web server
    file.write_text("PORT=3000")
    assert load(file, REQUIRED).http_host == "127.0.0.1"
    origin = next(each for each in setting_origins(load(None, REQUIRED | {"PORT": "8080"})) if "HOST" in each.variable)
    assert origin == ("DISPATCHER_HTTP_HOST", ALL_INTERFACES, "environment as PORT")


def test_trigger_api_needs_a_token() -> None:
    assert not load(None, REQUIRED).http_api
    assert "DISPATCHER_HTTP_API needs DISPATCHER_HTTP_TOKEN" in refused(DISPATCHER_HTTP_API="true")
    assert load(None, REQUIRED | {"DISPATCHER_HTTP_API": "true", "DISPATCHER_HTTP_TOKEN": "x" * 16}).http_api


@given(st.sampled_from(sorted({name for field in Settings.model_fields for name in variable_names(field)})))
def test_error_never_repeats_a_value(name: str) -> None:
    try:
        load(None, REQUIRED | {name: f"mysql://:{SECRET}@ {SECRET}"})
    except ConfigurationError as error:
        assert SECRET not in str(error)  # noqa: PT017


def test_every_setting_is_described() -> None:
    for field, about in Settings.model_fields.items():
        assert about.description, field
        assert about.description.endswith("."), field
