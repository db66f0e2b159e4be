"""What a DAG file pays for our operators: no module but theirs is loaded, and nothing deprecated is used."""

from __future__ import annotations

import json
from typing import Any

from airflow_cell import python

LOAD = """
import contextlib, importlib, json, pkgutil, sys
from airflow.providers.common.compat import sdk
for name in ("DAG", "task", "BaseOperator", "BaseSensorOperator", "conf", "PokeReturnValue", "Asset",
             "AirflowFailException", "BaseOperatorLink", "RetryDecision", "RetryPolicy"):
    with contextlib.suppress(ImportError, AttributeError):  # the last two are of Airflow 3.3
        getattr(sdk, name)
before = set(sys.modules)
import airflow_provider_closeai.operators, airflow_provider_closeai.sensors
names = [found.name for package in (airflow_provider_closeai.operators, airflow_provider_closeai.sensors)
         for found in pkgutil.iter_modules(package.__path__, package.__name__ + ".")]
for name in names:
    importlib.import_module(name)
print("found", json.dumps([names, sorted(set(sys.modules) - before)]))
"""

WARN = """
import importlib, json, pkgutil, warnings
import airflow
import airflow_provider_closeai as package
told, names = [], []
def note(message, category, filename, lineno, file=None, line=None):
    if "airflow_provider_closeai" in filename:
        told.append(f"{filename}:{lineno} {category.__name__}: {message}")
warnings.showwarning = note
warnings.simplefilter("always")
for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    if not found.name.endswith("__main__"):
        importlib.import_module(found.name)
        names.append(found.name)
print("found", json.dumps([names, told]))
"""


def child(code: str) -> Any:
    done = python("-c", code)
    lines = [line for line in done.stdout.splitlines() if line.startswith("found ")]
    assert lines, done.stderr
    return json.loads(lines[0].removeprefix("found "))


def test_operators_and_sensors_load_nothing_but_themselves_and_their_defaults() -> None:
    names, loaded = child(LOAD)
    assert {
        "airflow_provider_closeai.operators.sub_accounts",
        "airflow_provider_closeai.sensors.health",
    } <= set(names)
    package = "airflow_provider_closeai"
    own = tuple(
        f"{package}.{name}" for name in ("asset_names", "operators", "sensors", "cost_defaults", "paths")
    )
    assert [name for name in loaded if name != package and not name.startswith(own)] == []


def test_no_module_of_ours_uses_anything_deprecated() -> None:
    names, told = child(WARN)
    assert f"{'airflow_provider_closeai'}.triggers.health" in names
    assert told == []
