"""The documents' blocks of code, and where each command is run."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
SHELL = ("bash", "console", "sh", "shell")

#: Commands that tests/project/test_docs_commands.py and tests/e2e/test_tutorials.py do not run, by how their
#: block begins, and why.
ELSEWHERE = {
    "make demo-costs": "tests/costs/test_demo_costs.py runs its script; it writes into the repository",
    "make build": "tests/project/test_packaging.py builds; pip would change the environment of the tests",
    "make env": "it made the environment that this test runs in",
    "make lint": "CI runs it beside the tests, and it is minutes",
    ".venv/$(make -s main-cell)/bin/pytest": "it is how this test is run",
}


@dataclass(frozen=True)
class Block:
    """A fenced block of a document, and the block of text behind it, which says what it shows."""

    document: str
    language: str
    text: str
    shows: str = ""

    @property
    def first_line(self) -> str:
        return self.text.strip().partition("\n")[0]

    @property
    def is_run_elsewhere(self) -> bool:
        return self.text.startswith(tuple(ELSEWHERE))


def blocks_of(document: Path) -> list[Block]:
    """Read a document's blocks in their order."""
    name = str(document.relative_to(ROOT))
    found: list[Block] = []
    fences = re.finditer(r"^( *)```(\S*)[^\n]*\n(.*?)^\1```$", document.read_text(), re.MULTILINE | re.DOTALL)
    for fence in fences:
        text = textwrap.dedent(fence[3])
        if fence[2] == "text" and found and not found[-1].shows:
            found[-1] = Block(name, found[-1].language, found[-1].text, text)
        else:
            found.append(Block(name, fence[2], text))
    return found


def all_blocks(*languages: str) -> list[Block]:
    """Read the blocks of all documents that are in one of the languages."""
    return [block for page in DOCUMENTS for block in blocks_of(page) if block.language in languages]


def assert_shows(block: Block, output: str) -> None:
    """Find each line that the document shows in what the command printed; ``...`` stands for anything."""
    for line in block.shows.splitlines():
        parts = [" +".join(map(re.escape, part.split(" "))) for part in re.split(r"\.\.\.", line.strip())]
        assert re.search(".*".join(parts), output), f"{block.document}: {line!r} is not in\n{output[-5000:]}"
