"""Reading the listing so that it is whole, whatever appears or vanishes while its pages are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from airflow_provider_closeai.client.errors import ListingUnstable
from airflow_provider_closeai.client.models import SubAccount, SubAccountPage

#: Returns a page: its number from 1, accounts per page (-1: all), the platform's alias filter.
ReadPage = Callable[[int, int, str | None], SubAccountPage]


def read_all(read_page: ReadPage, size: int, alias: str | None) -> Iterator[SubAccount]:
    """
    Stream the listing, each account once, until it is proven whole.

    :param read_page: reads one page.
    :param size: accounts per page.
    :param alias: the platform's own filter: a short cut, believed when its answer is whole by itself.
        Otherwise accounts of other aliases come too.
    :raises ListingUnstable: where three readings do not agree with their own totals.
    """
    seen: set[int] = set()
    previous: set[int] | None = None
    readings = [_Reading(read_page, size, alias)] if alias is not None else []
    readings += [_Reading(read_page, size), _Reading(read_page, size), _Reading(read_page, -1)]
    for reading in readings:
        for account in reading:
            if account.id not in seen:
                seen.add(account.id)
                yield account
        if reading.is_whole or (reading.adds_up and reading.ids == previous):
            return
        previous = reading.ids if reading.adds_up and reading.alias is None else None
    raise ListingUnstable(
        f"The listing does not agree with its own total ({len(reading.ids)} accounts read, total "
        f"{reading.total}), three times in a row. Nothing was concluded from it. Try again when nothing "
        "else creates or deletes accounts.",
        call="list",
    )


class _Reading:
    """
    One reading of the whole listing, page by page.

    Pages shift while they are read when accounts appear or vanish: an account on a page's edge is then
    missed. A reading of one page cannot shift. One of several pages is believed when it agrees with its
    own total and the next reading brings the same accounts: a deletion that hid an account from the first
    is missing from the second. As a last resort everything is asked in one answer.
    """

    def __init__(self, read_page: ReadPage, size: int, alias: str | None = None) -> None:
        self._read_page = read_page
        self._size = size
        self.alias = alias
        self.ids: set[int] = set()
        self.total: int | None = None
        self.is_steady = True
        self.pages = 0

    def __iter__(self) -> Iterator[SubAccount]:
        while True:
            answer = self._read_page(self.pages + 1, self._size, self.alias)
            self.is_steady = self.is_steady and self.total in (None, answer.total)
            self.total = answer.total
            items = answer.items or ()
            new = {account.id: account for account in items if account.id not in self.ids}
            # A page that only repeats is not the end: pages shifted, or the platform ignores their number.
            self.is_steady = self.is_steady and bool(new or not items)
            if self._size == -1 and self.total is None and 0 < (answer.page_size or 0) <= len(items):
                self.is_steady = False  # a full page that nothing counts: "everything" may have been capped
            self.pages += 1
            self.ids.update(new)
            yield from new.values()
            if not new or self._size == -1 or (self.total is not None and len(self.ids) >= self.total):
                return

    @property
    def adds_up(self) -> bool:
        """Whether as many accounts came as every page's ``total`` said; true where there is no total."""
        return self.is_steady and self.total in (None, len(self.ids))

    @property
    def is_whole(self) -> bool:
        """Whether it is proven complete by itself."""
        return self.adds_up and (self._size == -1 or (self.pages == 1 and self.total is not None))
