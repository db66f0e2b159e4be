"""Run the fault matrix and write what each cell sends into tests/faults/wire_traces.txt (about a minute)."""

from __future__ import annotations

import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "faults"))

from fault_kinds import CELLS
from fault_matrix import TRACES, run_cell

HEAD = """\
# What each cell of the fault matrix sends. Written by: python scripts/renew_traces.py
# fault-call-place-when | the faulty try waits | sends | its retry, or a second run, waits | sends
# A, B: the bases, the better first; A': where A has moved; D: discovery; ✗: no usable answer.
"""


def main() -> None:
    """Run all cells, one process per processor; a cell that breaks a promise ends it."""
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        lines = list(pool.map(run_cell, CELLS, chunksize=4))
    TRACES.write_text(HEAD + "\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(lines)} cells -> {TRACES}")


if __name__ == "__main__":
    main()
