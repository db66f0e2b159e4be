"""The tutorials, word by word: one shell, from the first command to the last."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
from deployment import free_ports
from doc_blocks import ROOT, SHELL, Block, assert_shows, blocks_of

pytestmark = pytest.mark.e2e

PAGES = ("ten-teams", "bill", "gate")
# What a simulator that does not start says of it is in its log.
AWAIT = """await() {
  for _ in $(seq 600); do [ -s "$1" ] && return; sleep 0.1; done
  cat "$(dirname "$1")"/*.log; return 1
}
"""
HANG = 800  # seconds: each command starts an Airflow


def ports() -> dict[str, str]:
    """Choose ports for the simulator in the place of those that the pages name."""
    return {str(8800 + offset): str(port) for offset, port in enumerate(free_ports(3))}


def run(script: str, home: Path) -> list[str]:
    """Run a script in a shell that knows nothing; give what each of its parts printed."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL") if name in os.environ}
    log = home / "output"
    with log.open("w") as output:
        shell = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=ROOT,
            env={**kept, "HOME": str(home), "TMPDIR": str(home)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = shell.wait(HANG)
        finally:
            with contextlib.suppress(ProcessLookupError):  # nothing of it is left
                os.killpg(shell.pid, signal.SIGKILL)
    printed = log.read_text()
    assert code == 0, printed[-8000:]
    return printed.split("\n=== next\n")


def prepared(block: Block) -> str:
    """Wait for the file that a block reads: a person would not be as fast as this."""
    files = re.findall(r"^source (.*)$", block.text, re.MULTILINE)
    return "".join(f"await {file}\n" for file in files) + block.text


def test_the_tutorials_run_word_by_word(tmp_path: Path) -> None:
    blocks = [block for page in PAGES for block in blocks_of(ROOT / f"docs/tutorials/{page}.md")]
    commands = [
        block
        for block in blocks
        if block.language in SHELL and not block.is_run_elsewhere and block.first_line != "make demo"
    ]
    assert len(commands) > 20
    script = AWAIT + "\necho; echo === next\n".join(map(prepared, commands)) + "\nkill %1\n"
    numbers = ports()

    def moved(text: str) -> str:
        return re.sub(r"\b880[0-2]\b", lambda number: numbers[number[0]], text)

    printed = run(moved(script), tmp_path)
    assert len(printed) == len(commands)
    shown = [block for block in commands if block.shows]
    assert len(shown) > 8
    for block, output in zip(commands, printed, strict=True):
        assert_shows(Block(block.document, block.language, block.text, moved(block.shows)), output)


def test_the_demo_of_the_readme(tmp_path: Path) -> None:
    [demo] = [block for block in blocks_of(ROOT / "README.md") if block.first_line == "make demo"]
    [output] = run(demo.text, tmp_path)
    assert len(demo.shows.splitlines()) == 8
    assert_shows(demo, output)
