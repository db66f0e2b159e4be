"""Which aliases the platform's own filter can be trusted with, where it finds none.

What the filter does is not documented: it may be exact, match parts, know wildcards, trim, or read another
encoding. Plain aliases survive all of that. Of any other alias an account that it finds is proof enough,
since accounts of one alias are all alike to a filter; that it finds none is believed once it has found an
alias of the same characters. Once it was seen to miss an account that is listed, it is used no more.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable

import msgspec

from airflow_provider_closeai.client.cache import Cache

_PLAIN = re.compile(r"[A-Za-z0-9 _.:/@-]")
_MAX_LENGTH = 255  # of an alias in an address
_MOST_SHAPES = 50
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


class AliasFilter:
    """
    What is known of the platform's filter: by this client, and by all that share its cache.

    :param cache: asked once, and again where it may know more.
    """

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._shapes: set[tuple[str, ...]] = set()
        self._has_read_shapes = False
        self._found: set[tuple[str, int]] = set()
        self._unproven: set[str] = set()  # only a listing of all has shown them

    def may_ask(self, alias: str) -> bool:
        """Whether it may be asked: it was never seen to miss an account."""
        is_askable = is_sendable(alias) and alias not in self._unproven
        return is_askable and (self.is_trusted(alias) or MISSED not in self._shapes)

    def is_trusted(self, alias: str) -> bool:
        """Whether it is believed where it finds no account."""
        is_known = self._has_read_shapes and is_trusted(alias, self._shapes)
        if not is_known and MISSED not in self._shapes:
            self._shapes |= set(self._cache.read().found_shapes)
            self._has_read_shapes = True
        return is_trusted(alias, self._shapes)

    def has_found(self, alias: str, account_id: int) -> bool:
        """Whether it has found an account."""
        return (alias, account_id) in self._found

    def note_found(self, alias: str, ids: Collection[int]) -> None:
        """Note the accounts that it has found."""
        self._found |= {(alias, each) for each in ids}
        if ids and not self.is_trusted(alias) and len(self._shapes) < _MOST_SHAPES:
            self._note(tuple(sorted(shape_of(alias))))

    def note_missed(self) -> None:
        """Note that it misses an account that is listed: it is used no more."""
        self._note(MISSED)

    def doubt(self, aliases: Iterable[str]) -> None:
        """Do not use it for these aliases any more."""
        self._unproven |= set(aliases)

    def _note(self, shape: tuple[str, ...]) -> None:
        if shape not in self._shapes:
            self._shapes.add(shape)
            self._cache.change(
                lambda old: msgspec.structs.replace(old, found_shapes=(*old.found_shapes, shape))
            )
