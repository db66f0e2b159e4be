"""Texts that came from elsewhere, made safe to show."""

from __future__ import annotations

import unicodedata

_LONGEST = 120


def shown(alias: str) -> str:
    """
    Return an alias for a person: what is not visible is escaped, and a long one is cut.

    :param alias: whatever the platform gave.
    """
    cut = alias if len(alias) <= _LONGEST else f"{alias[:_LONGEST]}… ({len(alias):,} characters)"
    return "".join(
        char
        if unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
        else f"\\u{ord(char):04x}"
        for char in cut
    )
