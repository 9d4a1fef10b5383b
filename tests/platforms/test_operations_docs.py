"""deploy.md, docker.md, runbook.md: their links lead somewhere and their commands exist."""

import re

import pytest
from outside_docker import COMPOSE
from stated import PENDING_COMMANDS, ROOT, known, text

PAGES = ["docs/deploy.md", "docs/docker.md", "docs/runbook.md"]
# To be emptied when the branches that write these are merged.
PENDING = PENDING_COMMANDS | {"doctor"}


def anchors(page: str) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", text(page), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}


def consoles(page: str) -> list[str]:
    blocks = re.findall(r"^```console\n(.*?)^```", text(page), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in re.findall(r"^\$ (.+)$", block, re.MULTILINE)]


def ours(page: str) -> set[str]:
    """Return every command of ours that a page names, in a console or in a sentence."""
    named = set(re.findall(r"`(dispatcher [a-z][^`]*)`", text(page).replace("\n", " ")))
    for line in consoles(page):
        found = re.search(r"(?:^|dispatcher:\S+ )(dispatcher [a-z].*)$", line.partition("#")[0].strip())
        named |= {found[1]} if found else set[str]()
    return {re.sub(r"\s+", " ", command) for command in named}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str):
    for target in re.findall(r"\]\(([^)]+)\)", text(page)):
        file, _, anchor = target.partition("#")
        path = f"docs/{file}" if file else page
        assert (ROOT / path).exists(), target
        assert not anchor or anchor in anchors(path), target


@pytest.mark.parametrize("page", PAGES)
def test_files_of_ours_that_are_named_exist(page: str):
    for name in re.findall(r"(?:docker|examples|ops|bin)/[\w./-]+\w", text(page)):
        assert (ROOT / name).exists() or name == "docker/own.env", name


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_ours_exist(page: str):
    named = ours(page)
    assert named
    for command in named:
        if command.split()[1] not in PENDING:
            assert known(command.replace("ID", "1").replace("PID", "1")), command


def test_the_pages_name_services_and_profiles_that_exist():
    services, profiles = set(COMPOSE["services"]), {"observability", "pgbouncer", "novu"}
    assert {each for service in COMPOSE["services"].values() for each in service.get("profiles", [])} == profiles
    for line in consoles("docs/docker.md"):
        assert set(re.findall(r"--profile (\S+)", line)) <= profiles
        if found := re.search(r"compose .*\b(up|logs|run|exec)\b([^#>]*)", line):
            words = [word for word in found[2].split() if word[0] != "-"]
            assert set(words if found[1] in {"up", "logs"} else words[:1]) <= services, line


def test_what_starts_without_a_profile_is_in_the_table():
    always = [name for name, service in COMPOSE["services"].items() if not service.get("profiles")]
    assert [name for name in always if f"`{name}`" not in text("docs/docker.md")] == []
