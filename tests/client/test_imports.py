"""What a thread imports first while another one imports the same."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import airflow_provider_closeai

PACKAGE = Path(airflow_provider_closeai.__file__).parent

#: Airflow imports requests in one thread, and we in another one that comes in the middle of it.
TOGETHER = """
import importlib, sys, threading, time
from _frozen_importlib import _blocking_on

def airflow():
    sys.settrace(pause)
    import requests

def pause(frame, event, _):
    if frame.f_code.co_name == "<module>" and frame.f_code.co_filename.endswith("requests/exceptions.py"):
        us.start()
        while us.is_alive() and not _blocking_on.get(us.ident):
            time.sleep(0.001)

def ours():
    importlib.import_module(sys.argv[1])
    import requests
    requests.exceptions.SSLError  # and it is whole

us = threading.Thread(target=ours)
them = threading.Thread(target=airflow)
them.start()
them.join()
assert us.ident, "nobody came in the middle"
us.join()
"""


@pytest.mark.parametrize("module", ["client.connections", "client.proxies", "client.transport"])
def test_a_thread_that_imports_requests_at_the_same_time_does_no_harm(module: str) -> None:
    command = [sys.executable, "-c", TOGETHER, f"airflow_provider_closeai.{module}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def statements(path: Path) -> Iterator[ast.stmt]:
    """Give what a module does when it is imported, without what only type checkers read."""
    for each in ast.parse(path.read_text(encoding="utf-8")).body:
        if not (isinstance(each, ast.If) and "TYPE_CHECKING" in ast.unparse(each.test)):
            yield each


def test_no_package_imports_its_own_modules() -> None:
    """Who imports one of them meanwhile has its lock and waits for the package's: half of it is seen."""
    checked = 0
    for path in PACKAGE.rglob("__init__.py"):
        package = ".".join(path.parent.relative_to(PACKAGE.parent).parts)
        for each in statements(path):
            if isinstance(each, ast.ImportFrom):
                assert not f"{each.module}.".startswith(f"{package}."), path
        checked += 1
    assert checked > 10


def test_requests_is_imported_before_its_parts_and_those_of_urllib3() -> None:
    found = 0
    for path in PACKAGE.rglob("*.py"):
        is_there = False
        for each in statements(path):
            is_there |= isinstance(each, ast.Import) and each.names[0].name == "requests"
            if isinstance(each, ast.ImportFrom) and str(each.module).startswith(("requests.", "urllib3.")):
                assert is_there, path
                found += 1
    assert found
