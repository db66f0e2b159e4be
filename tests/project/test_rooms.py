"""The front doors of the rooms; which room may import which: import-linter, in ``make lint``."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import airflow_provider_closeai

PACKAGE = Path(airflow_provider_closeai.__file__).parent
ROOMS = ("client", "costs", "local_state", "provisioning", "roster", "simulator", "sinks")
DECISIONS = (
    "create.py",
    "delete.py",
    "refusals.py",
    "reprice.py",
    "requests.py",
    "rotate.py",
    "selection.py",
)

PROBE = """
import importlib, pkgutil, sys
sys.modules["airflow"] = None
name = "airflow_provider_closeai." + sys.argv[1]
room = importlib.import_module(name)
loaded = [module for module in sys.modules if module.startswith(name + ".")]
wrong = [public for public in room.__all__ if getattr(room, public, None) is None]
for found in pkgutil.walk_packages(room.__path__, name + "."):
    if not found.name.endswith(("__main__", "pytest_plugin")):
        importlib.import_module(found.name)
names = {public: getattr(getattr(room, public), "__name__", public) for public in room.__all__}
print(len(loaded), wrong, [public for public, found in names.items() if found.rpartition(".")[2] != public])
"""


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_is_there_without_airflow_and_nothing_is_loaded_before(room: str) -> None:
    """Also once all modules are loaded: a module of the same name would then stand in the name's place."""
    done = subprocess.run([sys.executable, "-c", PROBE, room], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert re.fullmatch(r"\d+ \[\] \[\]\n", done.stdout), done.stdout
    if room != "local_state":  # no DAG file imports it
        assert done.stdout.startswith("0 ")


def test_every_error_is_public() -> None:
    """Whoever catches an error must be able to import it."""
    for room in ROOMS:
        public = importlib.import_module(f"airflow_provider_closeai.{room}").__all__
        source = "".join(path.read_text() for path in (PACKAGE / room).rglob("*.py"))
        errors = re.findall(r"^class (\w+)\((?:CloseAIError|Rejected)\b", source, re.MULTILINE)
        assert [name for name in errors if name not in public] == [], room


def test_decisions_ask_no_clock() -> None:
    """What import-linter cannot see: ``datetime`` may be imported, and not asked what the time is."""
    files = [*(PACKAGE / "costs/accounting").glob("*.py")]
    files += [PACKAGE / "provisioning" / name for name in DECISIONS]
    assert [str(file) for file in files if ".now(" in file.read_text() or ".today(" in file.read_text()] == []
