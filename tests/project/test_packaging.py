"""The wheel holds exactly the package, and its entry points lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import entry_points
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_wheel_contains_exactly_the_package(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    package = ROOT / "airflow_provider_closeai"
    source = {
        str(path.relative_to(ROOT))
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    info = {name for name in names if ".dist-info/" in name}
    assert names - info == source
    assert "airflow_provider_closeai/py.typed" in names
    assert {name.rpartition("/")[2] for name in info} >= {"METADATA", "WHEEL", "RECORD", "entry_points.txt"}
    assert any(name.endswith("LICENSE") for name in info)


def test_the_same_tree_gives_the_same_bytes(tmp_path: Path) -> None:
    def built(folder: str) -> dict[str, bytes]:
        subprocess.run(
            [sys.executable, "-m", "hatchling", "build", "-d", tmp_path / folder],
            cwd=ROOT,
            check=True,
            capture_output=True,
        )
        return {path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()}

    first = built("first")
    assert {name.rpartition(".")[2] for name in first} == {"gz", "whl"}
    assert built("second") == first


def test_every_dependency_is_listed_with_its_licence() -> None:
    with open(ROOT / "pyproject.toml", "rb") as file:
        project = tomllib.load(file)["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    wanted = {re.split(r"[\[<>=!~]", line)[0] for group in groups for line in group}
    page = (ROOT / "docs/stability.md").read_text()
    assert set(re.findall(r"^\| `([\w-]+)`", page, re.MULTILINE)) == wanted


def test_entry_points_load() -> None:
    (provider,) = [
        point for point in entry_points(group="apache_airflow_provider") if "closeai" in point.value
    ]
    assert provider.load()()["package-name"] == "airflow-provider-closeai"
    (plugin,) = [point for point in entry_points(group="pytest11") if "closeai" in point.value]
    assert plugin.load()
