"""What ``make demo-costs`` shows."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "demo_costs.py"


def test_two_months_beside_the_platforms_books(tmp_path: Path) -> None:
    kept = tmp_path / "out" / "mine.txt"
    kept.parent.mkdir()
    kept.write_text("not of a demo")
    command = [sys.executable, str(SCRIPT), str(tmp_path / "out")]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert kept.exists()
    amounts = re.findall(r"keys spent ([\d.]+) CNY|books at this moment: ([\d.]+)", shown)
    assert len(amounts) == 3
    assert amounts[1][0] == amounts[2][1], "the open month is the platform's own, to the last decimal"
    pages = re.findall(r"file://(\S+)", shown)
    assert [Path(page).name for page in pages] == ["closeai-costs-2026-11.html", "closeai-costs-2026-12.html"]
    assert all("What happened" in Path(page).read_text() for page in pages)
