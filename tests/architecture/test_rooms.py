"""No import circle between modules, and no import from a room above; imports for types alone count too."""

import tomllib
from collections.abc import Iterable, Iterator

import grimp
import pytest

from tests.support.repository import text


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("dispatcher", exclude_type_checking_imports=False, cache_dir=None)


def layers() -> list[set[str]]:
    """Return the layers of the import-linter contract, the uppermost first."""
    contracts = tomllib.loads(text("pyproject.toml"))["tool"]["importlinter"]["contracts"]
    [contract] = [each for each in contracts if each["type"] == "layers"]
    return [{room.strip() for room in layer.split("|")} for layer in contract["layers"]]


def imports(graph: grimp.ImportGraph) -> Iterator[tuple[str, str]]:
    """Yield each import as a pair of module names: the importer and the imported module."""
    for module in graph.modules:
        for imported in graph.find_modules_directly_imported_by(module):
            yield module, imported


def in_circles(pairs: Iterable[tuple[str, str]]) -> set[str]:
    """Return the modules that are left when each one without an importer or without an import is taken away."""
    left = set(pairs)
    while True:
        importers, imported = {pair[0] for pair in left}, {pair[1] for pair in left}
        kept = {pair for pair in left if pair[0] in imported and pair[1] in importers}
        if kept == left:
            return importers
        left = kept


def test_modules_have_no_import_cycle(graph: grimp.ImportGraph):
    assert in_circles(imports(graph)) == set()


def test_rooms_import_only_from_layers_below(graph: grimp.ImportGraph):
    depth = {room: number for number, layer in enumerate(layers()) for room in layer}
    between = [
        (importer, imported)
        for importer, imported in imports(graph)
        if "dispatcher" not in (importer, imported) and importer.split(".")[1] != imported.split(".")[1]
    ]
    assert between
    upward = [
        f"{importer} imports {imported}"
        for importer, imported in between
        if depth[importer.split(".")[1]] >= depth[imported.split(".")[1]]
    ]
    assert upward == []
