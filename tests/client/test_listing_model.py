"""A listing that is read while accounts come and go: none that stayed is missed, whatever happens."""

from __future__ import annotations

import contextlib
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import examples

from airflow_provider_closeai.client.errors import ListingUnstable
from airflow_provider_closeai.client.listing import read_all
from airflow_provider_closeai.client.models import SecretToken, SubAccount, SubAccountPage

#: What happens before a page is answered: accounts deleted (places, in thousandths), accounts created.
CHANGES = st.lists(st.tuples(st.lists(st.integers(0, 999), max_size=2), st.integers(0, 2)), max_size=14)


class Platform:
    """
    Accounts in the order of their ids, or the other way round.

    :param cap: the most accounts that it puts on a page, whatever is asked for.
    :param says_size: whether it says how many it puts there.
    """

    def __init__(
        self,
        number: int,
        newest_first: bool,
        counts: str,
        changes: list[tuple[list[int], int]],
        cap: int = 10_000,
        says_size: bool = True,
    ) -> None:
        self.newest_first, self.counts, self.cap, self.says_size = newest_first, counts, cap, says_size
        self.changes = iter(changes)
        self.next_id = 1
        self.ids: list[int] = []
        self.create(number)
        self.stayed = set(self.ids)
        self.calls = 0

    def create(self, number: int) -> None:
        self.ids += range(self.next_id, self.next_id + number)
        self.next_id += number

    def page(self, number: int, size: int, alias: str | None) -> SubAccountPage:
        self.calls += 1
        deleted, created = next(self.changes, ([], 0))
        for place in deleted:
            if self.ids:
                gone = self.ids.pop(place * len(self.ids) // 1000)
                self.stayed.discard(gone)
        self.create(created)
        ids = self.ids[::-1] if self.newest_first else self.ids
        size = self.cap if size == -1 else min(size, self.cap)
        shown = ids[(number - 1) * size : number * size]
        total = {"all": len(ids), "page": len(shown), "none": None}[self.counts]
        items = tuple(account(each) for each in shown)
        return SubAccountPage(items, total, size if self.says_size else None)


def account(number: int) -> SubAccount:
    return SubAccount(
        id=number, token=SecretToken("sk-a"), created_at=f"2026-01-01T00:00:00.{number:06d}+08:00"
    )


@pytest.mark.property
@settings(max_examples=examples(300, 20_000), deadline=None)
@given(
    number=st.integers(0, 17),
    newest_first=st.booleans(),
    counts=st.sampled_from(["all", "all", "page", "none"]),
    size=st.sampled_from([1, 2, 3, 4, 5, -1]),
    cap=st.sampled_from([2, 3, 5, 10_000]),
    says_size=st.booleans(),
    changes=CHANGES,
)
def test_none_that_stayed_is_missed_and_none_comes_twice(
    number: int,
    newest_first: bool,
    counts: str,
    size: int,
    cap: int,
    says_size: bool,
    changes: list[tuple[list[int], int]],
) -> None:
    platform = Platform(number, newest_first, counts, changes, cap, says_size)
    found: list[int] = []
    with contextlib.suppress(ListingUnstable):
        found.extend(item.id for item in read_all(platform.page, size) if item.id is not None)
        if counts == "all":  # else a deletion at the very edge of two readings can hide one
            assert platform.stayed <= set(found)
    assert len(found) == len(set(found))


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("size", [2, *(pytest.param(it, marks=pytest.mark.slow) for it in (1, 3))])
def test_one_deletion_and_one_creation_at_any_two_moments(newest_first: bool, size: int) -> None:
    """Together they leave the total as it was; every number, every place, every two calls."""
    for number, deleted_at, created_at in itertools.product(range(2, 9), range(9), range(9)):
        for place in range(number):
            changes: list[tuple[list[int], int]] = [([], 0)] * 9
            changes[deleted_at] = ([-(-place * 1000 // number)], 0)
            changes[created_at] = (changes[created_at][0], 1)
            platform = Platform(number, newest_first, "all", changes)
            with contextlib.suppress(ListingUnstable):
                found = [item.id for item in read_all(platform.page, size)]
                assert platform.stayed <= set(found), (number, deleted_at, created_at, place)
                assert len(found) == len(set(found))


def calls(number: int, size: int, newest_first: bool = False, counts: str = "all") -> int:
    platform = Platform(number, newest_first, counts, [])
    assert len(list(read_all(platform.page, size))) == number
    return platform.calls


def test_what_a_quiet_listing_costs() -> None:
    assert calls(4, 5) == 1
    assert calls(5, 5) == 2, "a total that is no more than the page may count the page"
    assert calls(6, 5) == calls(10, 5) == 3, "both pages, and the first once more"
    assert calls(11, 5) == 5
    assert calls(1000, 5) == 202
    assert calls(1000, 5, newest_first=True) == 200
