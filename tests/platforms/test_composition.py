"""docker/: the composition and the image as files; what runs of them is in test_outside_docker.py."""

import configparser
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dispatcher.config.settings import Settings, variable_names
from tests.platforms.deploy_files import known
from tests.platforms.outside_docker import (
    COMPOSE,
    build_steps,
    copied,
    defaults,
    health_check,
    instructions,
    let_through,
)
from tests.support.repository import ROOT, text

SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"] == "dispatcher:local"}
MODULE = ["python", "-m"]
CHECK = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]


def schema_says(file: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*CHECK, str(file)], capture_output=True, text=True, check=False)


def test_compose_file_fits_composes_schema():
    done = schema_says(ROOT / "docker/compose.yaml")
    assert done.returncode == 0, done.stdout


def test_misspelt_compose_key_is_detected(tmp_path: Path):
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(text("docker/compose.yaml").replace("stop_grace_period", "stop_grace_perod"))
    assert schema_says(wrong).returncode == 1


def test_dockerfile_satisfies_its_linter(tmp_path: Path):
    linter = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([linter, ROOT / "docker/Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    (tmp_path / "Dockerfile").write_text("FROM python\nRUN cd /tmp && apt-get install curl\n")
    assert subprocess.run([linter, tmp_path / "Dockerfile"], capture_output=True, check=False).returncode == 1


def test_image_runs_without_root_and_has_a_health_check():
    found = dict(instructions())
    assert found["USER"] == "10001:10001"
    assert found["STOPSIGNAL"] == "SIGTERM"
    assert known(found["CMD"].strip("[]").replace('"', "").replace(",", ""))
    assert known(health_check())
    assert "ENTRYPOINT" not in found
    stages = [rest for word, rest in instructions() if word == "FROM" and rest.startswith("python:")]
    assert len({stage.split()[0] for stage in stages}) == 1, "the environment is bound to the Python it was made with"


def test_image_copies_exactly_the_needed_files():
    assert set(copied()) == set(let_through())
    assert all((ROOT / name).exists() for name in copied())
    assert all("hashes" in " ".join(step) or "venv" in step or "--no-deps" in step for step in build_steps())


def test_image_builds_with_the_pinned_uv():
    pinned = re.search(r"^uv==(\S+)", text("requirements-dev.txt"), re.MULTILINE)
    assert pinned
    assert f"FROM ghcr.io/astral-sh/uv:{pinned[1]} AS uv" in text("docker/Dockerfile")


def images() -> Iterator[str]:
    yield from (service["image"] for service in SERVICES.values() if "build" not in service)
    for word, rest in instructions():
        if word == "FROM":
            yield rest.split()[0]


@pytest.mark.parametrize("image", sorted(set(images())))
def test_every_image_is_pinned_to_a_full_version(image: str):
    assert re.search(r":v?\d+\.\d+", image), image


def test_compose_uses_no_shell_variable():
    assert "$" not in text("docker/compose.yaml")
    assert OURS["dispatcher"]["env_file"] == ["defaults.env", {"path": "own.env", "required": False}]
    assert "docker/own.env" in text(".gitignore").splitlines()


def test_every_port_is_published_on_loopback_only():
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert len({port.rsplit(":", 1)[0] for port in ports}) == len(ports)


@pytest.mark.parametrize("name", SERVICES)
def test_services_wait_only_for_reachable_conditions(name: str):
    for other, wait in SERVICES[name].get("depends_on", {}).items():
        awaited = SERVICES[other]
        if wait["condition"] == "service_healthy":
            assert awaited["healthcheck"]["test"][0] == "CMD"
        else:
            assert wait["condition"] == "service_completed_successfully"
            assert "restart" not in awaited
        # A profile that starts without what it waits for would not start at all.
        assert not awaited.get("profiles") or awaited["profiles"] == SERVICES[name].get("profiles")


@pytest.mark.parametrize("name", SERVICES)
def test_mounted_files_volumes_and_configs_exist(name: str):
    for mount in SERVICES[name].get("volumes", []):
        source = mount.split(":")[0]
        assert (ROOT / "docker" / source).exists() if source.startswith(".") else source in COMPOSE["volumes"], mount
    assert {each["source"] for each in SERVICES[name].get("configs", [])} <= set(COMPOSE["configs"])


def test_postgres_keeps_its_data_where_its_image_expects_the_volume():
    assert SERVICES["postgres"]["image"].startswith("postgres:18.")
    assert SERVICES["postgres"]["volumes"] == ["postgres:/var/lib/postgresql"]


@pytest.mark.parametrize("name", OURS)
def test_containers_run_existing_commands_with_few_rights(name: str):
    service = OURS[name]
    if service["command"][:2] == MODULE:
        assert (ROOT / (service["command"][2].replace(".", "/") + ".py")).exists() or (
            ROOT / service["command"][2].replace(".", "/") / "__main__.py"
        ).exists()
    else:
        assert known(service["command"])
    assert service["read_only"]
    assert service["init"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["stop_grace_period"] == "30s"


def test_compose_defaults_are_settings_and_name_services():
    found = defaults()
    names = {name for field in Settings.model_fields for name in variable_names(field)}
    assert {name for name in found if not name.startswith("TEMPORAL_")} <= names
    for name in ("DATABASE_URL", "TEMPORAL_ADDRESS", "NOVU_API_URL"):
        host = re.search(r"(?:.*@|.*//|^)([a-z-]+):\d+", found[name])
        assert host
        assert host[1] in SERVICES
    assert "sslmode=disable" in found["DATABASE_URL"], "the other container has no TLS"
    assert f"--api-key={found['NOVU_SECRET_KEY']}" in SERVICES["novu-standin"]["command"]
    assert COMPOSE["configs"]["http-token"]["content"] == found["DISPATCHER_HTTP_TOKEN"]
    assert SERVICES["web"]["ports"] == [f"127.0.0.1:3001:{found['DISPATCHER_HTTP_PORT']}"]


def test_pooler_uses_transaction_mode_and_the_compose_database():
    found = configparser.ConfigParser(delimiters="=", comment_prefixes=";", interpolation=None)
    found.read_string(text("docker/pgbouncer/pgbouncer.ini"))
    mine, database = found["pgbouncer"], SERVICES["postgres"]["environment"]
    assert mine["pool_mode"] == "transaction"
    assert f"dbname={database['POSTGRES_DB']}" in found["databases"][database["POSTGRES_DB"]]
    assert "host=postgres" in found["databases"][database["POSTGRES_DB"]]
    assert text("docker/pgbouncer/users.txt") == '"{POSTGRES_USER}" "{POSTGRES_PASSWORD}"\n'.format(**database)
    mounted = {mount.split(":")[1] for mount in SERVICES["pgbouncer"]["volumes"]}
    assert {mine["auth_file"], SERVICES["pgbouncer"]["entrypoint"][1]} == mounted
    assert f":{mine['listen_port']}/" in text("docker/defaults.env")


def test_novus_encryption_key_has_the_required_length():
    assert len(SERVICES["novu-api"]["environment"]["STORE_ENCRYPTION_KEY"]) == 32
    assert SERVICES["novu-api"]["environment"]["IS_API_IDEMPOTENCY_ENABLED"] == "true"


def test_grafana_gets_its_dashboard_and_data_source():
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == "/var/lib/dashboards/dispatcher.json"
    assert "../ops/grafana:/var/lib/dashboards:ro" in SERVICES["grafana"]["volumes"]
    assert "url: http://prometheus:9090" in text("docker/grafana/provisioning/datasources/prometheus.yml")
    assert "path: /var/lib/dashboards" in text("docker/grafana/provisioning/dashboards/dispatcher.yml")
