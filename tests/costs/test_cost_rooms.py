"""The rooms of costs/: arrows point one way, no two files import each other, accounting does no I/O."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import airflow_provider_closeai

PACKAGE = Path(airflow_provider_closeai.__file__).parent
OURS = "airflow_provider_closeai."


def imports() -> dict[str, set[str]]:
    """Map each module of costs/ to what it imports, lazily or not."""
    found: dict[str, set[str]] = {}
    for path in (PACKAGE / "costs").rglob("*.py"):
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        names = found.setdefault(module, set())
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module)
                names.update(f"{node.module}.{alias.name}" for alias in node.names)
            elif isinstance(node, ast.Import):
                names.update(alias.name for alias in node.names)
    found.pop("costs.__init__")  # its names are for type checkers, and imported on first use
    return found


def test_no_two_files_import_each_other() -> None:
    known = imports()
    graph = {
        module: {name.removeprefix(OURS) for name in names} & known.keys() for module, names in known.items()
    }
    assert list(TopologicalSorter(graph).static_order())  # raises CycleError


def test_arrows_point_one_way() -> None:
    allowed = {
        "accounting": ("accounting", "errors"),
        "store": ("store", "accounting", "errors", "tables"),
        "render": ("render", "accounting", "errors", "tables"),
    }
    for module, names in imports().items():
        room = module.split(".")[1]
        for name in names:
            if room in allowed and name.startswith(f"{OURS}costs."):
                assert name.split(".")[2] in allowed[room], (module, name)
            assert not name.startswith(("airflow.", f"{OURS}operators", f"{OURS}provisioning")), (
                module,
                name,
            )


def test_accounting_does_no_io() -> None:
    for module, names in imports().items():
        if module.startswith("costs.accounting."):
            assert not names & {"io", "os", "pathlib", "time", "logging", "tempfile"}, module
            source = (PACKAGE / Path(*module.split("."))).with_suffix(".py").read_text()
            assert ".now(" not in source, module
