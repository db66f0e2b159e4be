"""Run the tests cell by cell, and fail unless every cell has the right Airflow, ran tests and passed.

Usage: matrix.py CELL... [-- PYTEST_ARGUMENT...]      (a cell is a pin file: airflow-3.3.2-py311)
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent


class CellError(Exception):
    """The cell failed for another reason than a failing test."""


@dataclass
class Cell:
    name: str
    airflow: str = "-"
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    problem: str = ""

    def run(self, arguments: list[str]) -> None:
        start = time.monotonic()
        try:
            self._run(arguments)
        except (CellError, OSError) as error:  # OSError: the venv's Python is gone
            self.problem = str(error)
            self.failed = self.failed or 1  # the totals must not read like a success
        self.seconds = time.monotonic() - start

    def _run(self, arguments: list[str]) -> None:
        venv = Path(".venv", self.name)
        if subprocess.run([os.environ.get("MAKE", "make"), "-s", f"{venv}/.stamp"], cwd=ROOT).returncode:
            raise CellError("no environment: its Python is missing or the install failed, see above")

        self.airflow, python = self._versions(venv)
        if self.name != f"airflow-{self.airflow}-py{python}":
            raise CellError(f"the environment holds Airflow {self.airflow} on Python {python}")

        report = ROOT / venv / "junit.xml"
        report.unlink(missing_ok=True)
        # Tests wait as well as compute; each worker imports Airflow, and begins with a stretch of them.
        # One that hangs fails the cell: a worker in its place would begin with the same test.
        parallel = ["-n", "4", "--dist", "worksteal", "--max-worker-restart", "0"]
        command = [f"{venv}/bin/pytest", *parallel, f"--junitxml={report}", "tests", *arguments]
        status = subprocess.run(command, cwd=ROOT).returncode
        if report.exists():
            self._count(report)
        if status == 5 or self.passed + self.failed == 0:
            raise CellError("ran no test")
        if status and not self.failed:
            raise CellError(f"pytest exited with {status}")
        if not self.passed:
            raise CellError("no test passed")

    def _versions(self, venv: Path) -> list[str]:
        code = "import airflow, sys; print(airflow.__version__, '%d%d' % sys.version_info[:2])"
        with tempfile.TemporaryDirectory() as home:  # importing Airflow may write a configuration there
            done = subprocess.run(
                [f"{venv}/bin/python", "-c", code],
                cwd=ROOT,
                env={**os.environ, "AIRFLOW_HOME": home},
                stdout=subprocess.PIPE,
                text=True,
            )
        if done.returncode:
            raise CellError("Airflow does not import")
        return done.stdout.split()[-2:]

    def _count(self, report: Path) -> None:
        for case in ElementTree.parse(report).iter("testcase"):
            outcomes = {child.tag for child in case}
            if outcomes & {"failure", "error"}:
                self.failed += 1
            elif "skipped" in outcomes:
                self.skipped += 1
            else:
                self.passed += 1


def main(argv: list[str]) -> int:
    names, arguments = argv, []
    if "--" in argv:
        names, arguments = argv[: argv.index("--")], argv[argv.index("--") + 1 :]
    if not names:
        sys.exit("matrix.py: no cell to run")

    cells = [Cell(name) for name in names]
    for cell in cells:
        print(f"\n=== {cell.name}", flush=True)
        cell.run(arguments)

    line = "{:<22} {:<8} {:>7} {:>7} {:>8} {:>8}  {}".format
    print("\n" + line("cell", "airflow", "passed", "failed", "skipped", "seconds", "").rstrip())
    for cell in cells:
        counts = (cell.passed, cell.failed, cell.skipped, f"{cell.seconds:.0f}")
        print(line(cell.name, cell.airflow, *counts, cell.problem).rstrip())
    failed = sum(cell.failed for cell in cells)
    print()
    print(
        f"{sum(cell.passed for cell in cells)} passed, {failed} failed, "
        f"{sum(cell.skipped for cell in cells)} skipped"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
