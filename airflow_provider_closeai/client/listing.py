"""Reading the listing so that it is whole, whatever appears or vanishes while its pages are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from airflow_provider_closeai.client.errors import ListingUnstable
from airflow_provider_closeai.client.models import SubAccount, SubAccountPage, UnreadableItem

#: Returns a page: its number from 1, accounts per page (-1: all), the platform's alias filter.
ReadPage = Callable[[int, int, str | None], SubAccountPage]
Item = SubAccount | UnreadableItem


def read_all(read_page: ReadPage, size: int, alias: str | None) -> Iterator[Item]:
    """
    Stream the listing, each account once, until it is proven whole.

    :param read_page: reads one page.
    :param size: accounts per page.
    :param alias: the platform's own filter: a short cut, believed when its answer is proven whole.
        Otherwise accounts of other aliases come too.
    :raises ListingUnstable: where three readings do not agree with their own totals.
    """
    seen: set[int | str] = set()
    previous: set[int | str] | None = None
    readings = [_Reading(read_page, size, alias)] if alias is not None else []
    readings += [_Reading(read_page, size), _Reading(read_page, size), _Reading(read_page, -1)]
    for reading in readings:
        for key, item in reading:
            if key not in seen:
                seen.add(key)
                yield item
        if reading.is_whole or (reading.adds_up and reading.keys == previous):
            return
        previous = reading.keys if reading.adds_up and reading.alias is None else None
    raise ListingUnstable(
        f"The listing does not agree with its own total ({len(reading.keys)} accounts read, total "
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

    A total that is no more than a full page may count that page only: then the next page is asked.
    """

    def __init__(self, read_page: ReadPage, size: int, alias: str | None = None) -> None:
        self._read_page = read_page
        self._size = size
        self.alias = alias
        self.keys: set[int | str] = set()
        self.total: int | None = None
        self._is_steady = True
        self._totals_agree = True
        self._totals_count_pages = True
        self._pages = 0
        self._pages_with_news = 0

    def __iter__(self) -> Iterator[tuple[int | str, Item]]:
        while True:
            answer = self._read_page(self._pages + 1, self._size, self.alias)
            self._pages += 1
            items: list[Item] = [*(answer.items or ()), *answer.unreadable]
            new = {key: item for key, item in map(self._keyed, enumerate(items)) if key not in self.keys}
            self._note(answer.total, len(items), len(new))
            self.keys.update(new)
            yield from new.items()
            size = answer.page_size or self._size
            if not new or self._is_end(answer.total, len(items), is_full=0 < size <= len(items)):
                return

    def _keyed(self, numbered: tuple[int, Item]) -> tuple[int | str, Item]:
        place, item = numbered
        return (f"{self._pages}:{place}" if item.id is None else item.id), item

    def _note(self, total: int | None, length: int, new: int) -> None:
        self._pages_with_news += bool(new)
        if length and not new and (self._size != -1 or total is None):
            self._is_steady = False  # pages shifted, or the platform ignores their number
        if length or self._pages == 1:
            self._totals_agree = self._totals_agree and (self._pages == 1 or total == self.total)
            self._totals_count_pages = self._totals_count_pages and total == length
            self.total = total

    def _is_end(self, total: int | None, length: int, *, is_full: bool) -> bool:
        if self._size == -1 and not is_full:
            return True
        if total is None or (is_full and total <= length):
            return False  # goes on until a page brings nothing new
        return len(self.keys) >= total

    @property
    def adds_up(self) -> bool:
        """Whether as many accounts came as ``total`` said; true where no total counts them all."""
        if self._totals_count_pages and self._pages_with_news > 1:
            return self._is_steady
        return self._is_steady and self._totals_agree and self.total in (None, len(self.keys))

    @property
    def is_whole(self) -> bool:
        """Whether it is proven complete by itself."""
        is_one_page = self._pages_with_news <= 1
        return self.adds_up and is_one_page and (self._size == -1 or self.total is not None)
