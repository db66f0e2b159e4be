"""Which aliases the platform's own filter can be trusted with, where it finds none.

What the filter does is not documented: it may be exact, match parts, know wildcards, trim, or read another
encoding. Plain aliases survive all of that. Of any other alias an account that it finds is proof enough,
since accounts of one alias are all alike to a filter; that it finds none is believed once it has found an
alias of the same characters. Once it was seen to miss an account that is listed, it is used no more.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

_PLAIN = re.compile(r"[A-Za-z0-9 _.:/@-]")
_MAX_LENGTH = 255  # of an alias in an address
#: Stands among the shapes that were found once the filter was seen to miss an account that is listed.
MISSED = ("missed",)


def is_sendable(alias: str) -> bool:
    """Whether an alias can be part of an address."""
    return 0 < len(alias) <= _MAX_LENGTH and not any(unicodedata.category(char)[0] == "C" for char in alias)


def shape_of(alias: str) -> frozenset[str]:
    """Return what is not plain in an alias: letters and digits by their kind, all else as it is."""
    shape = set()
    for char in set(alias):
        if not _PLAIN.fullmatch(char):
            kind = unicodedata.category(char)
            is_word = kind[0] in "LMN"
            # Beyond the first 65,536 characters some databases compare otherwise.
            shape.add(f"{kind}{'+' * (ord(char) > 0xFFFF)}" if is_word else char)
    if alias != alias.strip():
        shape.add("space at an end")
    if not unicodedata.is_normalized("NFC", alias):
        shape.add("not NFC")
    return frozenset(shape)


def is_trusted(alias: str, found: Iterable[Iterable[str]]) -> bool:
    """Whether the filter is believed where it finds no account; ``found``: shapes that it has found."""
    shape, shapes = shape_of(alias), list(found)
    return MISSED not in shapes and (not shape or any(shape <= set(other) for other in shapes))
