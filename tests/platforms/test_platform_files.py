"""Procfile, app.json and the examples: as far as they can be checked without the platforms they are for."""

import configparser
import json
import re
import subprocess
import tomllib
from typing import Any

import kubernetes_validate
import pytest

from dispatcher.config.settings import Settings, variable_names
from tests.platforms.deploy_files import HEALTH_PATHS, documents, known, procfile
from tests.support.repository import ROOT, text

SETTINGS = {name for field in Settings.model_fields for name in variable_names(field)}
RELEASE, RUN, WEB = "dispatcher db upgrade", "dispatcher run", "dispatcher web"
KUBERNETES = sorted((ROOT / "examples/kubernetes").glob("*.yaml"))
UNITS = {file.stem: file for file in (ROOT / "examples/systemd").glob("*.service")}
SECONDS = {"s": 1, "m": 60, "": 1}

APP_JSON = {"name", "description", "keywords", "env", "formation", "buildpacks", "scripts", "addons", "environments"}
FLY = {
    "": {
        "app", "primary_region", "kill_signal", "kill_timeout", "deploy", "processes", "env", "http_service", "checks",
        "vm",
    },
    "deploy": {"release_command", "release_command_timeout", "strategy"},
    "http_service": {
        "processes", "internal_port", "force_https", "auto_stop_machines", "auto_start_machines",
        "min_machines_running", "checks",
    },
    "check": {"processes", "type", "port", "method", "path", "interval", "timeout", "grace_period"},
    "vm": {"memory", "cpu_kind", "cpus"},
}  # fmt: skip
RENDER = {
    "type", "name", "runtime", "plan", "buildCommand", "preDeployCommand", "startCommand", "maxShutdownDelaySeconds",
    "healthCheckPath", "envVars",
}  # fmt: skip
SYSTEMD = {
    "Unit": {"Description", "Wants", "Requires", "After", "StartLimitIntervalSec"},
    "Service": {
        "Type", "RemainAfterExit", "EnvironmentFile", "ExecStartPre", "ExecStart", "Restart", "RestartSec",
        "RestartPreventExitStatus", "KillSignal", "KillMode", "TimeoutStopSec", "DynamicUser", "CapabilityBoundingSet",
        "LockPersonality", "MemoryMax", "NoNewPrivileges", "PrivateDevices", "PrivateTmp", "ProtectControlGroups",
        "ProtectHome", "ProtectKernelModules", "ProtectKernelTunables", "ProtectSystem", "RestrictAddressFamilies",
        "RestrictNamespaces", "RestrictSUIDSGID", "SystemCallArchitectures",
    },
    "Install": {"WantedBy"},
}  # fmt: skip


def seconds(length: str | int) -> float:
    """Return a time-out as platforms write it, in seconds."""
    number, unit = re.fullmatch(r"(\d+)([a-z]?)", str(length)).groups()  # pyright: ignore[reportOptionalMemberAccess]
    return int(number) * SECONDS[unit]


def test_unknown_command_is_detected():
    for wrong in ("dispatcher nope", "dispatcher db nope", "other run"):
        with pytest.raises(AssertionError):
            known(wrong)
    with pytest.raises(Exception, match="--nope"):
        known("dispatcher db upgrade --nope")


def test_procfile_has_the_release_phase_and_the_process():
    found = procfile()
    assert (found["release"], found["dispatcher"]) == (RELEASE, RUN)
    assert set(found) <= {"release", "dispatcher", "web"}
    assert all(map(known, found.values()))


def test_app_json_names_procfile_processes_and_existing_settings():
    found = json.loads(text("app.json"))
    assert set(found) <= APP_JSON
    assert set(found["formation"]) == set(procfile()) - {"release"}
    assert found["formation"]["dispatcher"]["quantity"] == 1
    for name, about in found["env"].items():
        assert name in SETTINGS or name.startswith("TEMPORAL_"), name
        assert set(about) <= {"description", "required", "value", "generator"}
        assert about["description"].endswith(".")
    assert {name for name, about in found["env"].items() if about.get("required")} == {
        "DATABASE_URL",
        "NOVU_SECRET_KEY",
        "TEMPORAL_ADDRESS",
    }


def test_every_platform_uses_the_same_python():
    version = text(".python-version").strip()
    assert re.fullmatch(r"3\.\d+", version)
    assert set(re.findall(r"^FROM python:(\d\.\d+)\.\d+-slim", text("docker/Dockerfile"), re.MULTILINE)) == {version}
    assert f"python{version} -m venv" in text("examples/systemd/dispatcher.service")


def test_buildpack_hook_is_executable_and_has_one_package_list():
    assert (ROOT / "bin/post_compile").stat().st_mode & 0o111
    assert (ROOT / "requirements.txt").exists()
    assert not [name for name in ("uv.lock", "Pipfile.lock", "poetry.lock") if (ROOT / name).exists()]


def test_dokku_files_name_existing_commands_and_settings():
    found = json.loads(text("examples/dokku/app.json"))
    assert set(found) == {"formation", "healthchecks"}
    assert set(found["formation"]) <= set(procfile())
    paths = {check["path"] for checks in found["healthchecks"].values() for check in checks if "path" in check}
    assert paths <= HEALTH_PATHS
    script = text("examples/dokku/setup.sh")
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    assert "appjson-path examples/dokku/app.json" in script
    assert set(re.findall(r"\b(DISPATCHER_\w+|NOVU_\w+)=", script)) <= SETTINGS
    stop = re.search(r"stop-timeout-seconds (\d+)", script)
    assert stop
    assert int(stop[1]) >= 30


def test_fly_file_names_existing_commands_and_settings():
    found = tomllib.loads(text("examples/fly/fly.toml"))
    assert set(found) == FLY[""]
    assert set(found["deploy"]) <= FLY["deploy"]
    assert set(found["http_service"]) <= FLY["http_service"]
    assert all(set(each) <= FLY["vm"] for each in found["vm"])
    assert (found["kill_signal"], found["deploy"]["release_command"]) == ("SIGTERM", RELEASE)
    assert seconds(found["kill_timeout"]) >= 30
    assert found["processes"] == {"dispatcher": RUN, "web": WEB}
    assert found["http_service"]["processes"] == ["web"]
    assert found["http_service"]["auto_stop_machines"] == "off"
    assert set(found["env"]) <= SETTINGS
    port = int(found["env"]["DISPATCHER_HTTP_PORT"])
    assert found["http_service"]["internal_port"] == port
    checks = [*found["checks"].values(), *found["http_service"]["checks"]]
    for check in checks:
        assert set(check) <= FLY["check"]
        assert check["path"] in HEALTH_PATHS
        assert check.get("port", port) == port
        assert seconds(check["timeout"]) < seconds(check["interval"])


def test_render_file_names_existing_commands_and_settings():
    (found,) = documents("examples/render/render.yaml")
    assert set(found) == {"envVarGroups", "services"}
    groups = {group["name"]: {each["key"] for each in group["envVars"]} for group in found["envVarGroups"]}
    by_type = {service["type"]: service for service in found["services"]}
    assert {kind: service["startCommand"] for kind, service in by_type.items()} == {"worker": RUN, "web": WEB}
    assert by_type["worker"]["preDeployCommand"] == RELEASE
    assert by_type["web"]["healthCheckPath"] in HEALTH_PATHS
    for service in found["services"]:
        assert set(service) <= RENDER
        assert 30 <= service["maxShutdownDelaySeconds"] <= 300
        assert service["buildCommand"].endswith("&& pip install --no-deps .")
        names = {each["key"] for each in service["envVars"] if "key" in each}
        names |= {name for each in service["envVars"] if "fromGroup" in each for name in groups[each["fromGroup"]]}
        assert {name for name in names if not name.startswith("TEMPORAL_")} <= SETTINGS
        assert "DATABASE_URL" in names
    assert "NOVU_SECRET_KEY" in {each.get("key") for each in by_type["worker"]["envVars"]}


@pytest.mark.parametrize("file", KUBERNETES, ids=lambda file: file.name)
def test_kubernetes_manifests_fit_kubernetes_schema(file: Any):
    for document in documents(str(file.relative_to(ROOT))):
        kubernetes_validate.validate(document, "1.34", strict=True)


def test_wrong_manifest_is_detected():
    document = documents("examples/kubernetes/dispatcher.yaml")[0]
    document["spec"]["template"]["spec"]["terminationGracePeriod"] = 30
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document, "1.34", strict=True)


def pods() -> list[dict[str, Any]]:
    found = [each for file in KUBERNETES for each in documents(str(file.relative_to(ROOT)))]
    return [each["spec"]["template"]["spec"] for each in found if each["kind"] in {"Deployment", "Job"}]


def test_kubernetes_pods_run_our_commands_without_privileges_and_with_time_to_stop():
    commands: set[str] = set()
    for pod in pods():
        (container,) = pod["containers"]
        commands.add(" ".join(container["command"]))
        assert pod["enableServiceLinks"] is False
        assert pod["securityContext"]["runAsUser"] == 10001
        locked = container["securityContext"]
        assert (locked["readOnlyRootFilesystem"], locked["allowPrivilegeEscalation"]) == (True, False)
        assert locked["capabilities"]["drop"] == ["ALL"]
        if pod.get("restartPolicy") != "Never":
            assert pod["terminationGracePeriodSeconds"] >= 30
            probes = {kind: container[kind]["httpGet"] for kind in container if kind.endswith("Probe")}
            assert {kind: probe["path"] for kind, probe in probes.items()} == {
                "startupProbe": "/startupz",
                "livenessProbe": "/livez",
                # Never one that is red for an outage elsewhere: rollouts and evictions wait for what is ready.
                "readinessProbe": "/livez" if "web" in container["command"] else "/startupz",
            }
            assert {probe["port"] for probe in probes.values()} == {"http"}
    assert commands == {RELEASE, RUN, WEB}
    assert all(map(known, commands))


def test_kubernetes_allows_eviction_of_unhealthy_pods():
    (budget,) = [each for each in documents("examples/kubernetes/dispatcher.yaml") if each["kind"].endswith("Budget")]
    assert budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_kubernetes_settings_exist_and_reach_their_pods():
    config, *secrets = documents("examples/kubernetes/settings.yaml")
    named = {each["metadata"]["name"]: {*each["stringData"]} for each in secrets}
    assert {name for name in {*config["data"]}.union(*named.values()) if not name.startswith("TEMPORAL_")} <= SETTINGS
    for pod in pods():
        (container,) = pod["containers"]
        settings, secret = container["envFrom"]
        assert settings == {"configMapRef": {"name": config["metadata"]["name"]}}
        given = named[secret["secretRef"]["name"]]
        assert "DATABASE_URL" in given
        assert ("NOVU_SECRET_KEY" in given) == ("web" not in container["command"])
    ports = {port["containerPort"] for pod in pods() for port in pod["containers"][0].get("ports", [])}
    assert ports == {int(config["data"]["DISPATCHER_HTTP_PORT"])}


def unit(name: str) -> configparser.ConfigParser:
    """Return a unit of systemd, all of whose keys we know."""
    found = configparser.ConfigParser(interpolation=None)
    found.optionxform = str  # pyright: ignore[reportAttributeAccessIssue]
    found.read_string(UNITS[name].read_text())
    assert {section: set(found[section]) - SYSTEMD[section] for section in found.sections()} == {
        section: set() for section in found.sections()
    }
    return found


@pytest.mark.parametrize(("name", "command"), [("dispatcher", RUN), ("dispatcher-web", f"{WEB} --port 3002")])
def test_systemd_runs_our_processes(name: str, command: str):
    """Both on one machine, so they cannot have the same port."""
    service = unit(name)["Service"]
    assert service["ExecStart"] == f"/opt/dispatcher/bin/{command}"
    assert known(service["ExecStart"])
    assert "ExecStartPre" not in service, "RestartPreventExitStatus does not look at it"
    assert (service["KillSignal"], service["Restart"]) == ("SIGTERM", "always")
    assert int(service["TimeoutStopSec"]) >= 30
    assert service["RestartPreventExitStatus"] == "2"


def test_systemd_upgrades_before_run_and_does_not_restart_after_exit_2():
    """A `Restart` of a required unit ends the start of those that require it; an active one is not started again."""
    release, asking = unit("dispatcher-release"), unit("dispatcher")["Unit"]
    assert "dispatcher-release.service" in asking["Requires"].split()
    assert "dispatcher-release.service" in asking["After"].split()
    service = release["Service"]
    assert (service["Type"], service["RemainAfterExit"]) == ("oneshot", "yes")
    assert not {"Restart", "TimeoutStartSec"} & set(service)
    assert service["ExecStart"] == f"/opt/dispatcher/bin/{RELEASE}"
    assert known(service["ExecStart"])
    assert known(service["ExecStartPre"])
    assert service["ExecStartPre"].startswith("/opt/dispatcher/bin/dispatcher db wait ")
    assert "Install" not in release
