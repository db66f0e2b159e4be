"""What a module that runs a whole Airflow needs of the machine, and where that Airflow lives."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

AIRFLOW = tuple(int(part) for part in version("apache-airflow").split(".")[:2])


def needs_airflow(*least: int, why: str) -> list[pytest.MarkDecorator]:
    """
    Give the marks of a module that runs a real Airflow.

    :param least: the version: ``3, 1``.
    :param why: what earlier ones lack.
    """
    return [
        pytest.mark.e2e,
        pytest.mark.skipif(least > AIRFLOW, reason=why),
        pytest.mark.skipif(sys.platform != "linux", reason="the processes' keeper needs Linux"),
    ]


@contextlib.contextmanager
def new_home(name: str) -> Iterator[Path]:
    """Give an empty folder that other users may pass through, and take it away, unless it is to be kept."""
    home = Path(tempfile.mkdtemp(prefix=f"closeai-{name}-"))
    home.chmod(0o711)  # PostgreSQL does not run as root
    try:
        yield home
    finally:
        if "CLOSEAI_E2E_KEEP" not in os.environ:
            shutil.rmtree(home, ignore_errors=True)
