"""Texts that came from elsewhere, made safe to show."""

from __future__ import annotations

import unicodedata

_LONGEST = 120
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_UNSEEN = ("Cc", "Cs", "Co", "Zl", "Zp")


def shown(alias: str) -> str:
    """
    Return an alias for a person: what turns or hides the text around it is escaped, and a long one is cut.

    :param alias: whatever the platform gave.
    """
    cut = alias if len(alias) <= _LONGEST else f"{alias[:_LONGEST]}… ({len(alias):,} characters)"
    return "".join(
        f"\\u{ord(char):04x}" if char in _BIDI or unicodedata.category(char) in _UNSEEN else char
        for char in cut
    )
