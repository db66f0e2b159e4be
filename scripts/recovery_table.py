"""Run the fault matrix and write what it finds into docs/recovery.md (about a minute)."""

from __future__ import annotations

import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "faults"))

from fault_matrix import CELLS, DOCUMENT, run_cell, updated


def main() -> None:
    """Run all cells, one process per processor, and replace the generated part of the document."""
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        rows = list(pool.map(run_cell, CELLS, chunksize=4))
    text = DOCUMENT.read_text(encoding="utf-8")
    DOCUMENT.write_text(updated(text, rows), encoding="utf-8")
    print(f"{len(rows)} cells -> {DOCUMENT}")


if __name__ == "__main__":
    main()
