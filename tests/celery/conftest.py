"""Lets the tests of many hosts use what those of one host have, and prints their table."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "e2e"))

from table import IS_GUARDED, ROWS, table

if importlib.util.find_spec("psycopg2") is None:
    collect_ignore_glob = ["test_*.py"]  # only in the environment of make test-celery


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not IS_GUARDED:
        items[:] = [item for item in items if item.get_closest_marker("needs_lock")]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if ROWS:
        terminalreporter.write_line("\n" + table())
