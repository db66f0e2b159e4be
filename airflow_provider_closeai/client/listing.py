"""Reading the listing so that it is whole, whatever appears or vanishes while its pages are read."""

from __future__ import annotations

from collections import Counter
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
    :raises ListingUnstable: where no reading agrees with its own total and with the next.
    """
    seen: set[int | str] = set()
    previous: set[int | str] | None = None
    readings = [_Reading(read_page, size, alias)] if alias is not None else []
    readings += [_Reading(read_page, each) for each in (size, size, -1, -1)]
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
        f"{reading.total}), each time that it was read. Nothing was concluded from it. Try again when "
        "nothing else creates or deletes accounts.",
        call="list",
    )


class _Reading:
    """
    One reading of the whole listing, page by page.

    Pages shift while they are read when accounts appear or vanish: an account on a page's edge is then
    missed. A reading of one page cannot shift. One of several pages is believed when it agrees with its
    own total and the next reading brings the same accounts: a deletion that hid an account from the first
    is missing from the second. As a last resort everything is asked in one answer.

    A total that is no more than a full page may count that page only: then the next page is asked. A page
    is taken for full unless it is shorter than the size that the platform itself says it used.
    """

    def __init__(self, read_page: ReadPage, size: int, alias: str | None = None) -> None:
        self._read_page = read_page
        self._size = size
        self.alias = alias
        self.keys: set[int | str] = set()
        self.total: int | None = None
        self._last_total: int | None = None  # of the empty page after the others
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
            new = {key: item for key, item in _keyed(items) if key not in self.keys}
            self._note(answer, len(items), len(new))
            self.keys.update(new)
            yield from new.items()
            is_full = answer.page_size is None or 0 < answer.page_size <= len(items)
            if not new or self._is_end(answer.total, len(items), is_full=is_full):
                return

    def _note(self, answer: SubAccountPage, length: int, new: int) -> None:
        total = answer.total
        self._pages_with_news += bool(new)
        is_capped = self._size != -1 or (total is None and answer.page_size is not None)
        if length and not new and is_capped:
            self._is_steady = False  # pages shifted, or the platform ignores their number
        if length or self._pages == 1:
            self._totals_agree = self._totals_agree and (self._pages == 1 or total == self.total)
            self._totals_count_pages = self._totals_count_pages and total == length
            self.total = total
        else:
            self._last_total = total

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
        if not self.adds_up or self._pages_with_news > 1:
            return False
        if self._pages > 1:  # a total that counts one page did not see what shifted into the page before
            return self.total is not None and self.total == self._last_total
        return self._size == -1 or self.total is not None


def _keyed(items: list[Item]) -> Iterator[tuple[int | str, Item]]:
    """Name each entry by its id, or else by its content and by how many like it came before on its page."""
    alike: Counter[str] = Counter()
    for item in items:
        if item.id is None:
            alike[item.digest] += 1
            yield f"{item.digest}:{alike[item.digest]}", item
        else:
            yield item.id, item
