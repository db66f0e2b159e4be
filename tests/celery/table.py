"""The table of what was tried over hosts, and what went wrong."""

from __future__ import annotations

import os
from dataclasses import dataclass

#: With CLOSEAI_RIG_LOCK=host creates are kept apart on one host only, and no task notes what it posts: rows
#: that need that must go wrong, or they prove nothing.
IS_GUARDED = os.environ.get("CLOSEAI_RIG_LOCK") != "host"
ROWS: list[Row] = []


@dataclass
class Row:
    """
    One scenario.

    :param scenario: what happens.
    :param trials: how often it was tried.
    :param wrong: trials that ended with another number of accounts than was wanted.
    :param lost: trials whose result does not name what is there, or that failed without need.
    :param leaked: keys that were found where none may be.
    """

    scenario: str
    trials: int = 0
    wrong: int = 0
    lost: int = 0
    leaked: int = 0

    def __post_init__(self) -> None:
        ROWS.append(self)

    @property
    def is_good(self) -> bool:
        """Whether it was tried, and nothing went wrong."""
        return self.trials > 0 and not (self.wrong or self.lost or self.leaked)

    @property
    def is_as_expected(self) -> bool:
        """Whether nothing went wrong, or something did where nothing guards against it."""
        return self.is_good if IS_GUARDED else self.wrong > 0


def table() -> str:
    """Give the table as Markdown."""
    width = max(len(row.scenario) for row in ROWS)
    lines = [("scenario", "trials", "wrong", "lost", "leaked"), ("-" * width, *["-" * 6] * 4)]
    lines += [(row.scenario, *map(str, (row.trials, row.wrong, row.lost, row.leaked))) for row in ROWS]
    return "\n".join(
        f"| {name:<{width}} | " + " | ".join(f"{cell:>6}" for cell in cells) + " |" for name, *cells in lines
    )
