"""For which aliases the platform's own filter is trusted when it finds no account.

What the filter does is not documented: it may be exact, match parts, know wildcards, trim, or read another
encoding. Plain aliases survive all of that. For any other alias, one account found is proof enough, since a
filter treats all accounts of an alias alike; an empty result is believed once it has found an alias with the
same kinds of characters. Once it has missed an account that is listed, it is not used again.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable

import msgspec

from airflow_provider_closeai.client.cache import Cache

_PLAIN = re.compile(r"[A-Za-z0-9 _.:/@-]")
_MAX_LENGTH = 255  # of an alias in a URL
_MOST_SHAPES = 50
#: Added to the found shapes once the filter has missed an account that is listed.
MISSED = ("missed",)


def is_sendable(alias: str) -> bool:
    """Return whether an alias can be part of a URL."""
    return 0 < len(alias) <= _MAX_LENGTH and not any(unicodedata.category(char)[0] == "C" for char in alias)


def shape_of(alias: str) -> frozenset[str]:
    """Return an alias's characters that are not plain: letters and digits by kind, others as they are."""
    shape = set()
    for char in set(alias):
        if not _PLAIN.fullmatch(char):
            kind = unicodedata.category(char)
            is_word = kind[0] in "LMN"
            # Some databases compare characters beyond U+FFFF differently.
            shape.add(f"{kind}{'+' * (ord(char) > 0xFFFF)}" if is_word else char)
    if alias != alias.strip():
        shape.add("space at an end")
    if not unicodedata.is_normalized("NFC", alias):
        shape.add("not NFC")
    return frozenset(shape)


def is_trusted(alias: str, found: Iterable[Iterable[str]]) -> bool:
    """Return whether an empty result is believed; ``found``: shapes that the filter has found."""
    shape, shapes = shape_of(alias), list(found)
    return MISSED not in shapes and (not shape or any(shape <= set(other) for other in shapes))


class AliasFilter:
    """
    What this client, and all that share its cache, know of the platform's filter.

    :param cache: read again as long as an alias is not trusted.
    """

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._shapes: set[tuple[str, ...]] = set()
        self._has_read_shapes = False
        self._found: set[tuple[str, int]] = set()
        self._unproven: set[str] = set()  # aliases that only a full listing has shown

    def may_ask(self, alias: str) -> bool:
        """Return whether the filter may be asked: it has never missed an account."""
        is_askable = is_sendable(alias) and alias not in self._unproven
        return is_askable and (self.is_trusted(alias) or MISSED not in self._shapes)

    def is_trusted(self, alias: str) -> bool:
        """Return whether an empty result is believed."""
        is_known = self._has_read_shapes and is_trusted(alias, self._shapes)
        if not is_known and MISSED not in self._shapes:
            self._shapes |= set(self._cache.read().found_shapes)
            self._has_read_shapes = True
        return is_trusted(alias, self._shapes)

    def has_found(self, alias: str, account_id: int) -> bool:
        """Return whether the filter has found an account."""
        return (alias, account_id) in self._found

    def note_found(self, alias: str, ids: Collection[int]) -> None:
        """Note the accounts that the filter has found."""
        self._found |= {(alias, each) for each in ids}
        if ids and not self.is_trusted(alias) and len(self._shapes) < _MOST_SHAPES:
            self._note(tuple(sorted(shape_of(alias))))

    def note_missed(self) -> None:
        """Note that the filter missed a listed account: it is not used again."""
        self._note(MISSED)

    def doubt(self, aliases: Iterable[str]) -> None:
        """Stop using the filter for these aliases."""
        self._unproven |= set(aliases)

    def _note(self, shape: tuple[str, ...]) -> None:
        if shape not in self._shapes:
            self._shapes.add(shape)
            self._cache.change(
                lambda old: msgspec.structs.replace(old, found_shapes=(*old.found_shapes, shape))
            )
