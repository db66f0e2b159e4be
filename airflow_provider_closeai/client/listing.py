"""Reads the complete listing, whatever appears or vanishes while its pages are read.

When accounts appear or vanish, pages shift, and an account at a page's edge can be missed.
What proves that none was missed, cheapest first:

- one page: it cannot shift;
- ids fall from the first to the last account, and all pages have the same ``total``: a deletion that moves
  accounts to a page already read must then have been balanced by a creation, which comes before them and
  moves them back;
- ids rise, all pages have the same ``total``, and the first and the last page are the same at the end as at
  the beginning: nothing was created, since it would be last, so nothing was deleted either;
- otherwise: two readings in a row agree with their own ``total`` and give the same accounts;
- or everything in one answer.

A total no larger than a full page may count that page only, so the next page is read too. A page counts as
full unless it is shorter than the page size that the platform reports; a reported 0 says nothing, and -1 says
nothing if fewer accounts came than the total says, or if there is no total.
"""

from __future__ import annotations

import operator
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from airflow_provider_closeai.client.errors import ListingUnstable, Rejected
from airflow_provider_closeai.client.models import Item, SubAccountPage

#: Returns a page: its number from 1, accounts per page (-1: all), the platform's alias filter.
ReadPage = Callable[[int, int, str | None], SubAccountPage]
_MOST_ID = 2**63  # of 8 bytes in an array


def read_all(read_page: ReadPage, size: int, alias: str | None = None) -> Iterator[Item]:
    """
    Stream the listing, each account once, until it is proven complete.

    :param alias: for the platform's own filter: a shortcut, used if its answer is proven complete.
        Otherwise accounts of other aliases come too.
    :raises ListingUnstable: no reading could be proven complete.
    """
    seen: list[_Ids] = []
    nameless: set[str] = set()
    readings = [_Reading(read_page, size, alias)] if alias is not None else []
    readings += [_Reading(read_page, each) for each in (size, size, -1, -1)]
    previous: _Ids | None = None
    for reading in readings:
        seen_nameless = frozenset(nameless)
        for item in reading:
            if item.id is not None:
                is_known = bool(seen) and any(item.id in ids for ids in seen)
            else:
                is_known = item.digest in seen_nameless
                nameless.add(item.digest)
            if not is_known:
                yield item
        if reading.is_whole or (reading.adds_up and previous is not None and reading.ids == previous):
            return
        seen.append(reading.ids)
        previous = reading.ids if reading.adds_up and reading.alias is None else None
    raise ListingUnstable(
        f"The listing does not agree with its own total ({reading.count} accounts read, total "
        f"{reading.total}), each time that it was read. Nothing was concluded from it. Try again when "
        "nothing else creates or deletes accounts.",
        call="list",
    )


class _Ids:
    """The ids read, in 8 bytes each while they only rise or only fall."""

    def __init__(self) -> None:
        self.step = 0
        self._ordered = array("q")
        self._others: set[int] | None = None

    def add(self, number: int) -> bool:
        """Add an id; return whether it is new."""
        if self.extend([number]):
            return True
        if self._others is None:
            self._others = set(self._ordered)
        if number in self._others:
            return False
        self._others.add(number)
        return True

    def extend(self, numbers: Sequence[int]) -> bool:
        """Add ids that continue to rise or fall; ``False``: they do not, and none was added."""
        line = [*self._ordered[-1:], *numbers]
        rises, falls = (all(map(compare, line, line[1:])) for compare in (operator.lt, operator.gt))
        goes_on = {1: rises, -1: falls, 0: rises or falls}[self.step]
        is_short = all(-_MOST_ID < number < _MOST_ID for number in (*line[:1], *line[-1:]))
        if self._others is not None or not goes_on or not is_short:
            return False
        if rises != falls:
            self.step = 1 if rises else -1
        self._ordered.extend(numbers)
        return True

    @property
    def is_ordered(self) -> bool:
        """Whether they only rise, or only fall."""
        return self._others is None

    def __len__(self) -> int:
        return len(self._ordered if self._others is None else self._others)

    def __contains__(self, number: int) -> bool:
        if self._others is not None:
            return number in self._others
        if self.step < 0:
            at = bisect_left(self._ordered, -number, key=int.__neg__)
        else:
            at = bisect_left(self._ordered, number)
        return at < len(self._ordered) and self._ordered[at] == number

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Ids):
            return NotImplemented
        if self._others is None and other._others is None:
            return self._ordered == other._ordered
        return set(self) == set(other)

    def __iter__(self) -> Iterator[int]:
        return iter(self._ordered if self._others is None else self._others)

    __hash__ = None  # type: ignore[assignment]


class _Reading:
    """One reading of the whole listing, page by page."""

    def __init__(self, read_page: ReadPage, size: int, alias: str | None = None) -> None:
        self._read_page = read_page
        self._size = size
        self.alias = alias
        self.ids = _Ids()
        self.total: int | None = None
        self._nameless: set[str] = set()
        self._last_total: int | None = None  # of the empty page after the others
        self._is_steady = True
        self._is_proven = False
        self._totals_agree = True
        self._totals_count_pages = True
        self._dates_follow_ids = True
        self._last_date = ""
        self._pages = 0
        self._pages_with_news = 0

    @property
    def count(self) -> int:
        """How many accounts were read."""
        return len(self.ids) + len(self._nameless)

    def __iter__(self) -> Iterator[Item]:
        first = page = self._page(1)
        yield from self._news(first)
        last = self._number_of_last(first)
        ahead = self._page(last) if last > 2 and self.ids.step >= 0 else None
        while not self._is_end(page):
            try:
                page = self._page(self._pages + 1)
            except Rejected as error:
                if error.status in (401, 403) or self.total != self.count:
                    raise
                self._is_steady = (
                    False  # perhaps no such page exists: only everything in one answer proves it
                )
                break
            news = self._news(page)
            yield from news
            if not news:
                break
        if last > 1 and self.adds_up and self.ids.is_ordered and self._dates_follow_ids:
            self._is_proven = self.ids.step < 0 or (
                (ahead is None or _ids_of(ahead) == _ids_of(page)) and self._is_unchanged(first)
            )

    def _is_unchanged(self, first: SubAccountPage) -> bool:
        now = self._page(1)
        return now.total == first.total and _ids_of(now) == _ids_of(first)

    def _page(self, number: int) -> SubAccountPage:
        return self._read_page(number, self._size, self.alias)

    def _news(self, page: SubAccountPage) -> list[Item]:
        """Return what is new on a page, and note what it says of the entire listing."""
        self._pages += 1
        items = page.items or ()
        news: list[Item] = list(items)
        if not self.ids.extend([item.id for item in items]):
            news = [item for item in items if self.ids.add(item.id)]
        alike: Counter[str] = Counter()
        for odd in page.unreadable:
            alike[odd.digest] += 1
            name = f"{odd.digest}:{alike[odd.digest]}"
            if odd.id is None and name not in self._nameless:
                self._nameless.add(name)
                news.append(odd)
            elif odd.id is not None and self.ids.add(odd.id):
                news.append(odd)
        self._note(page, len(news))
        return news

    def _note(self, page: SubAccountPage, new: int) -> None:
        length = _length(page)
        self._pages_with_news += bool(new)
        is_capped = self._size != -1 or (page.total is None and page.page_size is not None)
        if length and not new and is_capped:
            self._is_steady = False  # pages shifted, or the platform ignores their number
        if length or self._pages == 1:
            self._totals_agree = self._totals_agree and (self._pages == 1 or page.total == self.total)
            self._totals_count_pages = self._totals_count_pages and page.total == length
            self.total = page.total
        else:
            self._last_total = page.total
        for account in (page.items or ())[:: max(len(page.items or ()) - 1, 1)]:
            then, now = self._last_date, account.created_at or ""
            self._dates_follow_ids &= bool(now) and (
                not then or now == then or (now > then) == (self.ids.step > 0)
            )
            self._last_date = now

    def _number_of_last(self, first: SubAccountPage) -> int:
        """Return the number of the last page; 1 unless the total says that there are more."""
        length, total = _length(first), first.total
        if self._size == -1 or total is None or not 0 < length < total:
            return 1
        return -(-total // length)

    def _is_end(self, page: SubAccountPage) -> bool:
        length, size = _length(page), page.page_size or None
        is_full = size is None or 0 < size <= length
        has_all = size != -1 or (page.total is not None and self.count >= page.total)
        if not length or (self._size == -1 and not is_full and has_all):
            return True
        if page.total is None or (is_full and page.total <= length):
            return False  # read on until a page has nothing new
        return self.count >= page.total

    @property
    def adds_up(self) -> bool:
        """Whether as many accounts came as ``total`` says; true if no total counts them all."""
        if self._totals_count_pages and self._pages_with_news > 1:
            return self._is_steady
        return self._is_steady and self._totals_agree and self.total in (None, self.count)

    @property
    def is_whole(self) -> bool:
        """Whether this reading alone is proven complete."""
        if not self.adds_up:
            return False
        if self._pages_with_news > 1:
            return self._is_proven
        if self._pages > 1:  # a total that counts one page misses what shifted to an earlier page
            return self.total is not None and self.total == self._last_total
        return self._size == -1 or self.total is not None


def _length(page: SubAccountPage) -> int:
    return len(page.items or ()) + len(page.unreadable)


def _ids_of(page: SubAccountPage) -> list[int | None]:
    return [*(account.id for account in page.items or ()), *(odd.id for odd in page.unreadable)]
