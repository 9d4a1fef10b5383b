"""README and docs: their links lead somewhere and their commands exist."""

import re
from pathlib import Path

import pytest

from tests.docs.doc_commands import PAGES, commands, consoles
from tests.platforms.deploy_files import known
from tests.platforms.outside_docker import COMPOSE
from tests.support.repository import ROOT, text


def anchors(page: str) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", text(page), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES)
def test_links_have_a_target(page: str):
    for target in re.findall(r"\]\(([^)]+)\)", text(page)):
        if target.startswith("https:"):
            continue
        file, _, anchor = target.partition("#")
        path = f"{Path(page).parent / file}" if file else page
        assert (ROOT / path).exists(), target
        assert not anchor or anchor in anchors(path), target


@pytest.mark.parametrize("page", PAGES)
def test_named_files_exist(page: str):
    for name in re.findall(r"(?<![\w./])(?:docker|examples|ops|bin)/[\w./-]+\w", text(page)):
        assert (ROOT / name).exists() or name == "docker/own.env", name


@pytest.mark.parametrize("page", PAGES)
def test_named_commands_exist(page: str):
    for command in commands(page):
        assert known(command.replace("ID", "1")), command


def test_named_services_and_profiles_exist():
    services, profiles = set(COMPOSE["services"]), {"observability", "pgbouncer", "novu"}
    assert {each for service in COMPOSE["services"].values() for each in service.get("profiles", [])} == profiles
    for line in consoles("docs/docker.md"):
        assert set(re.findall(r"--profile (\S+)", line)) <= profiles
        if found := re.search(r"compose .*\b(up|logs|run|exec)\b([^#>]*)", line):
            words = [word for word in found[2].split() if word[0] != "-"]
            assert set(words if found[1] in {"up", "logs"} else words[:1]) <= services, line


def test_services_without_a_profile_are_in_the_table():
    always = [name for name, service in COMPOSE["services"].items() if not service.get("profiles")]
    assert [name for name in always if f"`{name}`" not in text("docs/docker.md")] == []
