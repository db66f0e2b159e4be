"""Listing: each account once, none lost, whatever the platform's filters, totals and pages do."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any

import pytest
from support import Asked, client_of, fixed_client, item, platform

from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.errors import ListingUnstable, Rejected
from airflow_provider_closeai.simulator import Request, Simulator


def fill(sim: Simulator, number: int, alias: str = "a") -> list[int]:
    return [sim.add_account(alias)["id"] for _ in range(number)]


def listed(client: CloseAIClient, **options: Any) -> list[int]:
    return [account.id for account in client.iter_sub_accounts(**options)]


@pytest.mark.parametrize("order", ["id", "newest"])
@pytest.mark.parametrize("number", [0, 1, 4, 5, 6, 11])
def test_every_account_comes_once(order: str, number: int) -> None:
    with Simulator(order=order) as sim:
        ids = fill(sim, number)
        found = listed(client_of(sim, page_size=5))
        assert sorted(found) == ids


@pytest.mark.parametrize(
    ("number", "pages"),
    [(4, "1"), (5, "12"), (6, "121"), (10, "121"), (11, "13231"), (16, "142341")],
)
def test_what_a_quiet_listing_costs(sim: Simulator, number: int, pages: str) -> None:
    fill(sim, number)
    listed(client_of(sim, page_size=5))
    assert "".join(request.query["page"] for request in sim.requests if request.call == "list") == pages


def test_everything_in_one_answer(sim: Simulator) -> None:
    ids = fill(sim, 7)
    assert listed(client_of(sim, page_size=-1)) == ids
    [request] = [request for request in sim.requests if request.call == "list"]
    assert request.query == {"page": "1", "page_size": "-1"}


def test_it_streams(sim: Simulator) -> None:
    fill(sim, 20)
    accounts = client_of(sim, page_size=5).iter_sub_accounts()
    assert sim.count("list") == 0
    next(accounts)
    assert sim.count("list") == 1
    assert len(list(itertools.islice(accounts, 5))) == 5
    assert sim.count("list") == 3, "the second page, and the last one beforehand"


def change_at(sim: Simulator, page: int, change: Callable[[], None], skip: int = 0) -> None:
    """Change something just before a page is read."""
    left = [skip]

    def hook(request: Request) -> None:
        if request.call == "list" and request.query["page"] == str(page):
            if left[0] == 0:
                sim.on_request = None
                change()
            left[0] -= 1

    sim.on_request = hook


@pytest.mark.parametrize("order", ["id", "newest"])
@pytest.mark.parametrize("during", [0, 1], ids=["first reading", "second reading"])
@pytest.mark.parametrize("page", [2, 3])
@pytest.mark.parametrize(("deleted", "created"), [(1, 0), (0, 1), (1, 1), (2, 1), (2, 2), (5, 5), (0, 5)])
def test_changes_between_pages_lose_no_account_that_was_there_throughout(
    order: str, during: int, page: int, deleted: int, created: int
) -> None:
    with Simulator(order=order) as sim:
        ids = fill(sim, 14)
        first = ids if order == "id" else ids[::-1]
        gone = first[:deleted]

        def change() -> None:
            for account_id in gone:
                sim.delete_account(account_id)
            fill(sim, created)

        change_at(sim, page, change, skip=during)
        found = listed(client_of(sim, page_size=5))
        assert len(found) == len(set(found))
        assert set(ids) - set(gone) <= set(found)


@pytest.mark.parametrize("order", ["id", "newest"])
def test_a_change_before_every_page_loses_no_account(order: str) -> None:
    with Simulator(order=order) as sim:
        ids = fill(sim, 15)
        victims = iter(ids[:5] + ids[-5:])
        gone: set[int] = set()

        def hook(request: Request) -> None:
            victim = next(victims, None)
            if request.call == "list" and victim is not None:
                gone.add(victim)
                sim.delete_account(victim)
                fill(sim, 1)

        sim.on_request = hook
        found = listed(client_of(sim, page_size=3))
        assert set(ids) - gone <= set(found)
        assert len(found) == len(set(found))


@pytest.mark.parametrize("alias_filter", ["exact", "substring", "ignored"])
@pytest.mark.parametrize("total_counts", ["filtered", "all"])
@pytest.mark.parametrize("omit_total", [False, True])
@pytest.mark.parametrize("page_size", [3, 500])
def test_alias_is_exact_whatever_filter_and_total_do(
    alias_filter: str, total_counts: str, omit_total: bool, page_size: int
) -> None:
    with Simulator(alias_filter=alias_filter, total_counts=total_counts, omit_total=omit_total) as sim:
        fill(sim, 4, "other")
        ids = fill(sim, 4, "team")
        fill(sim, 4, "team2")
        fill(sim, 1, "Team")
        client = client_of(sim, page_size=page_size)
        assert listed(client, alias="team") == ids
        assert listed(client, alias="nobody") == []
        assert listed(client, alias="") == []


def test_a_filter_that_works_costs_one_request(sim: Simulator) -> None:
    fill(sim, 30, "other")
    ids = fill(sim, 2, "team")
    assert listed(client_of(sim, page_size=5), alias="team") == ids
    [request] = [request for request in sim.requests if request.call == "list"]
    assert request.query["alias"] == "team"


ODD = [
    "ünïcode",
    "测试",
    "a%b",
    "a_b",
    "a\\b",
    "a+b",
    "a&b=c",
    "a b",
    "#a",
    "a?b",
    "%",
    "'a'",
    '"',
    "a;b",
    "😀",
    "a/b",
]


@pytest.mark.parametrize("alias_filter", ["exact", "ignored"])
@pytest.mark.parametrize("alias", ODD)
def test_odd_aliases_are_found_exactly(alias: str, alias_filter: str) -> None:
    with Simulator(alias_filter=alias_filter) as sim:
        [account_id] = fill(sim, 1, alias)
        fill(sim, 1, alias + "x")
        fill(sim, 1, alias.replace("+", " ").replace("_", "x"))
        assert listed(client_of(sim), alias=alias)[0] == account_id


@pytest.mark.parametrize(
    ("first", "like_it"),
    [("团队-甲", "财务 乙"), ("R&D (1)", "R&D (2)"), ("équipe", "ünïcode"), (" a", " b")],
)
def test_that_an_odd_alias_is_absent_is_believed_once_the_filter_has_found_its_like(
    sim: Simulator, first: str, like_it: str
) -> None:
    fill(sim, 12, "other")
    client = client_of(sim, page_size=5)

    def calls(alias: str, found: int) -> int:
        before = sim.count("list")
        assert len(listed(client, alias=alias)) == found
        return sim.count("list") - before

    assert calls(like_it, 0) > 1, "the whole listing says so"
    fill(sim, 1, first)
    assert calls(first, 1) == 1
    assert calls(like_it, 0) == 1
    assert calls(like_it + "#", 0) > 1, "of that character nothing is known"
    assert len(listed(client_of(sim, page_size=5), alias=like_it)) == 0
    assert sim.requests[-1].query["alias"] == like_it, "other processes know it too"


def filtering(matches: Callable[[str, str], bool | None]) -> Callable[[Asked], tuple[int, Any]]:
    """A platform of 30 accounts whose filter does as it is told; ``None``: it fails."""
    accounts = [item(number, f"other-{number}") for number in range(1, 30)] + [item(30, "团队 (1)")]

    def reply(asked: Asked) -> tuple[int, Any]:
        wanted = asked.query.get("alias")
        kept = accounts if wanted is None else [each for each in accounts if matches(wanted, each["alias"])]
        if wanted is not None and any(matches(wanted, each["alias"]) is None for each in accounts):
            return 400, {"error": {"message": "bad pattern"}}
        page, size = int(asked.query["page"]), int(asked.query["page_size"])
        return 200, {"items": kept[(page - 1) * size : page * size], "total": len(kept)}

    return reply


@pytest.mark.parametrize(
    "matches",
    [
        lambda wanted, alias: wanted.isascii() and wanted == alias,
        pytest.param(
            lambda wanted, alias: wanted.encode("ascii", "ignore").decode() == alias, marks=pytest.mark.slow
        ),
        lambda wanted, alias: bool(re.search(wanted, alias)),
        lambda wanted, alias: None if "(" in wanted else wanted in alias,
        pytest.param(lambda wanted, alias: wanted.split()[0] == alias, marks=pytest.mark.slow),
    ],
    ids=["ASCII only", "drops letters", "regular expression", "refuses", "first word"],
)
def test_an_alias_that_a_filter_cannot_take_is_found_all_the_same(
    matches: Callable[[str, str], bool | None],
) -> None:
    with platform(filtering(matches)) as (origin, _):
        client = fixed_client(origin, page_size=10)
        for _ in range(2):
            assert listed(client, alias="团队 (1)") == [30]
            assert listed(client, alias="团队 (2)") == []


@pytest.mark.parametrize("alias", ["", "a\nb", "a" * 256, "a\x00", "\ud83d"])
def test_what_no_address_should_hold_is_never_sent(sim: Simulator, alias: str) -> None:
    assert listed(client_of(sim), alias=alias) == []
    assert not [request for request in sim.requests if "alias" in request.query]


@pytest.mark.parametrize("omit_total", [False, True])
@pytest.mark.parametrize("order", ["id", "newest"])
def test_a_platform_that_caps_pages(omit_total: bool, order: str) -> None:
    with Simulator(max_page_size=4, omit_total=omit_total, order=order) as sim:
        ids = fill(sim, 11)
        assert sorted(listed(client_of(sim, page_size=500))) == ids


@pytest.mark.parametrize("omit_total", [False, True])
@pytest.mark.parametrize("total_counts", ["filtered", "all"])
@pytest.mark.parametrize("number", [4, 11, 12])
def test_page_size_of_everything_that_is_capped_is_no_end(
    total_counts: str, omit_total: bool, number: int
) -> None:
    with Simulator(max_page_size=4, total_counts=total_counts, omit_total=omit_total) as sim:
        ids = fill(sim, number)
        assert listed(client_of(sim, page_size=-1)) == ids


def ignoring_page(total: bool, everything: bool) -> Callable[[Asked], tuple[int, Any]]:
    accounts = [item(number) for number in range(1, 8)]

    def reply(asked: Asked) -> tuple[int, Any]:
        size = int(asked.query["page_size"])
        shown = accounts if size == -1 and everything else accounts[: abs(size) if size != -1 else 3]
        return 200, {"items": shown, **({"total": len(accounts)} if total else {})}

    return reply


@pytest.mark.parametrize("total", [True, False])
def test_a_platform_that_ignores_page_is_asked_for_everything(total: bool) -> None:
    with platform(ignoring_page(total, everything=True)) as (origin, asked):
        assert listed(fixed_client(origin, page_size=3)) == [1, 2, 3, 4, 5, 6, 7]
        assert asked[-1].query["page_size"] == "-1"
        assert len(asked) <= 10


def test_a_listing_that_never_adds_up_is_not_believed() -> None:
    with platform(ignoring_page(total=True, everything=False)) as (origin, asked):
        accounts = fixed_client(origin, page_size=3).iter_sub_accounts()
        with pytest.raises(ListingUnstable, match="3 accounts read, total 7") as caught:
            list(accounts)
        assert not caught.value.permanent
        assert len(asked) <= 10


@pytest.mark.parametrize("empty", [{"items": [], "total": 0}, {"items": None, "total": 0}, {"items": []}])
def test_an_empty_listing(empty: dict[str, Any]) -> None:
    with platform(lambda asked: (200, empty)) as (origin, _):
        assert listed(fixed_client(origin)) == []


def test_by_key_the_key_is_never_part_of_an_address(sim: Simulator) -> None:
    fill(sim, 3)
    wanted = sim.add_account("b")
    client = client_of(sim)
    assert listed(client, sk=wanted["token"]) == [wanted["id"]]
    assert listed(client, sk="sk-unknown") == []
    assert listed(client, alias="a", sk=wanted["token"]) == []
    assert not [request for request in sim.requests if "sk" in request.query]


def test_by_id_it_stops_where_it_is_found(sim: Simulator) -> None:
    ids = fill(sim, 10)
    client = client_of(sim, page_size=5)
    found = client.get_sub_account(ids[1])
    assert found is not None
    assert found.id == ids[1]
    assert sim.count("list") == 1
    assert client.get_sub_account(999) is None


def bare_page(accounts: list[dict[str, Any]], asked: Asked, cap: int) -> list[dict[str, Any]]:
    size = int(asked.query["page_size"])
    size = cap if size == -1 else min(cap, size)
    number = int(asked.query["page"])
    return accounts[(number - 1) * size : number * size]


@pytest.mark.parametrize("size", [3, 500, -1])
@pytest.mark.parametrize("total", [True, False])
def test_a_platform_that_caps_pages_and_says_nothing_of_it(size: int, total: bool) -> None:
    def reply(asked: Asked) -> tuple[int, Any]:
        shown = bare_page([item(number) for number in range(1, 12)], asked, cap=4)
        return 200, {"items": shown, **({"total": len(shown)} if total else {})}

    with platform(reply) as (origin, _):
        assert listed(fixed_client(origin, page_size=size)) == list(range(1, 12))


@pytest.mark.parametrize("alias", [None, "a"])
def test_what_shifts_into_a_page_that_counts_itself_is_not_missed(alias: str | None) -> None:
    with Simulator(total_counts="page") as sim:
        ids = fill(sim, 6)
        change_at(sim, 2, lambda: sim.delete_account(ids[0]))
        assert set(ids[1:]) <= set(listed(client_of(sim, page_size=5), alias=alias))


@pytest.mark.parametrize("total", [True, False])
def test_entries_without_an_id_come_once_and_hide_nothing(total: bool) -> None:
    accounts = [item(number) for number in range(1, 10)]
    for number in (1, 4, 8):
        accounts[number]["id"] = None
    asked_pages: list[str] = []

    def reply(asked: Asked) -> tuple[int, Any]:
        asked_pages.append(asked.query["page"])
        if len(asked_pages) == 2:
            del accounts[0]
            accounts.append(item(20))
        shown = bare_page(accounts, asked, cap=3)
        return 200, {"items": shown, "pageSize": 3, **({"total": len(accounts)} if total else {})}

    with platform(reply) as (origin, _):
        found = list(fixed_client(origin, page_size=3).iter_listing())
    assert {entry.id for entry in found} >= {3, 4, 6, 7, 8, 20}
    assert sum(entry.id is None for entry in found) == 3


@pytest.mark.parametrize("shown", [item(0, id=None), None, "text"])
def test_a_platform_that_ignores_page_is_left_in_the_end(shown: Any) -> None:
    with platform(lambda asked: (200, {"items": [shown] * 3, "pageSize": 3})) as (origin, asked):
        with pytest.raises(ListingUnstable):
            list(fixed_client(origin, page_size=3).iter_listing())
        assert len(asked) <= 10


def test_a_page_that_fails_is_asked_again_elsewhere(sim: Simulator) -> None:
    ids = fill(sim, 12)
    sim.fault("list", "error_after", skip=1)
    assert listed(client_of(sim, page_size=5)) == ids
    assert [request.host for request in sim.requests if request.call == "list"][:3] == [
        "base-0",
        "base-0",
        "base-1",
    ]


def test_entries_that_are_all_alike_are_all_counted() -> None:
    with platform(lambda asked: (200, {"items": [None] * 3, "total": 3, "pageSize": 500})) as (origin, asked):
        assert len(list(fixed_client(origin).iter_listing())) == 3
        assert len(asked) == 1


def capped(says: int | None, total: int | None, cap: int = 5) -> Callable[[Asked], tuple[int, Any]]:
    """A platform of 12 accounts that caps pages; ``says``: as ``pageSize``."""
    accounts = [item(number, f"a-{number}") for number in range(1, 13)]

    def reply(asked: Asked) -> tuple[int, Any]:
        page = int(asked.query["page"])
        shown = accounts[(page - 1) * cap : page * cap]
        answer = {"items": shown, "total": len(shown) if total is None else total, "pageSize": says}
        return 200, {name: value for name, value in answer.items() if value is not None}

    return reply


@pytest.mark.parametrize(
    ("page_size", "says", "total"), [(5, 0, None), (500, 0, None), (500, 0, 12), (-1, -1, 12), (-1, 0, None)]
)
def test_a_page_size_that_says_nothing_ends_no_listing(page_size: int, says: int, total: int | None) -> None:
    with platform(capped(says, total)) as (origin, _):
        assert len(listed(fixed_client(origin, page_size=page_size))) == 12


def test_everything_in_a_page_that_names_no_total_is_read_on() -> None:
    def reply(asked: Asked) -> tuple[int, Any]:
        status, answer = capped(-1, 12)(asked)
        return status, {name: value for name, value in answer.items() if name != "total"}

    with platform(reply) as (origin, _):
        assert len(listed(fixed_client(origin, page_size=-1))) == 12


@pytest.mark.parametrize("number", [4, 5, 6, 10])
@pytest.mark.parametrize("status", [400, 404, 416, 422])
def test_a_page_after_the_last_may_be_refused(
    number: int, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    items = [item(each) for each in range(1, number + 1)]

    def reply(asked: Asked) -> tuple[int, Any]:
        page, size = int(asked.query["page"]), int(asked.query["page_size"])
        shown = items if size == -1 else items[(page - 1) * size : page * size]
        if not shown:
            return status, {"detail": "Invalid page."}
        return 200, {"items": shown, "total": len(items), "page": page, "pageSize": size}

    with platform(reply) as (origin, _):
        client = fixed_client(origin, page_size=5)
        assert [account.id for account in client.iter_sub_accounts()] == [each["id"] for each in items]
        assert "It comes last" not in caplog.text


@pytest.mark.parametrize("is_capped", [False, True])
def test_a_refused_page_proves_no_end(is_capped: bool) -> None:
    """The total counts the page only, and the second page is refused: only all in one answer is complete."""
    items = [item(each) for each in range(1, 13)]

    def reply(asked: Asked) -> tuple[int, Any]:
        if int(asked.query["page"]) > 1:
            return 400, {"message": "try again"}
        size = int(asked.query["page_size"])
        shown = items if size == -1 and not is_capped else items[:5]
        reported = -1 if len(shown) == 12 else 5
        return 200, {"items": shown, "total": len(shown), "page": 1, "pageSize": reported}

    with platform(reply) as (origin, _):
        listed = fixed_client(origin, page_size=5).iter_sub_accounts()
        if is_capped:
            with pytest.raises((ListingUnstable, Rejected)):
                list(listed)
        else:
            assert [account.id for account in listed] == [each["id"] for each in items]
