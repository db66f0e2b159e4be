"""What a rotation decides: from ages, from what the sink holds, and from the time alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_closeai.client.errors import InvalidParameter
from airflow_provider_closeai.client.models import SecretToken, SubAccount
from airflow_provider_closeai.provisioning.errors import ClockDisagrees
from airflow_provider_closeai.provisioning.requests import RotateRequest
from airflow_provider_closeai.provisioning.rotate import check_clock, decide, next_due

NOW = datetime(2027, 1, 1, tzinfo=UTC)
EVER = "ever"  # the sink has held it since it was created
UNDATED = "undated"  # the sink holds it, and cannot say since when


def day(number: float) -> timedelta:
    return timedelta(days=number)


def request(count: int = 1, **options: Any) -> RotateRequest:
    return RotateRequest.parse("a", {"m": 1}, 1, count, **{"every": "90d", "grace": "7d", **options})


def account(number: int, age: float | str | None, **fields: Any) -> SubAccount:
    created = age if age is None or isinstance(age, str) else (NOW - day(age)).isoformat()
    key = SecretToken(f"sk-{number:012}")
    return SubAccount(
        id=number, token=key, alias="a", created_at=created, **{"token_type": "slave", **fields}
    )


def plan_of(
    ages: list[Any], held: list[Any], count: int = 1, **options: Any
) -> tuple[list[int], list[int], int]:
    """Decide for accounts with ids from 1; ``held``: for how many days the sink has held each."""
    accounts = [account(number, age) for number, age in enumerate(ages, 1)]
    plan = decide(request(count, **options), accounts, held_by(ages, held), NOW)
    return list(plan.deliver), [each.id for each in plan.delete], plan.create


def held_by(ages: list[Any], held: list[Any]) -> dict[int, datetime | None]:
    found: dict[int, datetime | None] = {}
    for number, (age, days) in enumerate(zip(ages, held, strict=True), 1):
        if days == UNDATED:
            found[number] = None
        elif days is not None:
            found[number] = NOW - day(age if days == EVER else days)
    return found


@pytest.mark.parametrize(
    ("ages", "held", "options", "expected"),
    [
        ([], [], {}, ([], [], 1)),
        ([], [], {"count": 3}, ([], [], 3)),
        ([10], [EVER], {}, ([], [], 0)),
        ([10], [None], {}, ([1], [], 0)),
        ([89.9], [EVER], {}, ([], [], 0)),
        ([90], [EVER], {}, ([], [], 1)),
        # an old one goes once a newer one is grace old, and has been in the sink for grace
        ([97, 6.9], [EVER, EVER], {}, ([], [], 0)),
        ([97, 7], [EVER, EVER], {}, ([], [1], 0)),
        ([97, 7], [EVER, 6.9], {}, ([], [], 0)),
        ([97, 30], [EVER, None], {}, ([2], [], 0)),
        # a sink that cannot say since when: from the creation; a run that delivers deletes nothing
        ([97, 7], [UNDATED, UNDATED], {}, ([], [1], 0)),
        ([97, 6.9], [UNDATED, UNDATED], {}, ([], [], 0)),
        ([97, 7], [UNDATED, None], {}, ([2], [], 0)),
        ([97, 7, 5], [UNDATED, UNDATED, None], {}, ([3], [], 0)),
        ([200, 92], [UNDATED, UNDATED], {}, ([], [1], 0)),
        ([97, 8], [UNDATED, UNDATED], {"count": 2}, ([], [], 1)),
        # two old ones, as nothing ran for long: what goes makes room for what comes
        ([180, 90], [EVER, EVER], {}, ([], [1], 1)),
        # count newer ones, not all young ones
        ([91, 60, 30], [EVER] * 3, {"count": 3}, ([], [], 1)),
        ([98, 60, 30, 7], [EVER] * 4, {"count": 3}, ([], [1], 0)),
        ([98, 60, 30, 7, 1], [EVER] * 5, {"count": 3}, ([], [1], 0)),
        ([98, 95, 30, 8, 1], [EVER] * 5, {"count": 3}, ([], [1], 0)),
        # a whole set comes of age at once, and twice the count is the most
        ([90, 90, 90], [EVER] * 3, {"count": 3}, ([], [], 3)),
        ([91, 91, 91, 1], [EVER] * 4, {"count": 3}, ([], [], 2)),
        ([97, 97, 97, 95, 95, 95], [EVER, EVER, EVER, 1, 1, 1], {"count": 3, "max_rotate": 9}, ([], [], 0)),
        # more than count that are young are left alone
        ([50, 40, 30], [EVER] * 3, {}, ([], [], 0)),
        # adoption: few at a time, oldest first
        ([400] * 40, [None] * 40, {"count": 40}, (list(range(1, 41)), [], 4)),
        ([400] * 40, [EVER] * 40, {"count": 40}, ([], [], 4)),
        ([400] * 40 + [3] * 4, [EVER] * 44, {"count": 40}, ([], [], 0)),
        ([400] * 40 + [7] * 4, [EVER] * 44, {"count": 40}, ([], [1, 2, 3, 4], 4)),
        ([400] * 40, [EVER] * 40, {"count": 40, "max_rotate": 7}, ([], [], 7)),
        ([400] * 40, [EVER] * 40, {"count": 40, "max_rotate": "100%"}, ([], [], 40)),
        ([91] * 40, [None] * 40, {"count": 40}, (list(range(1, 41)), [], 4)),
        ([91] * 40, [0.5] * 40, {"count": 40}, ([], [], 4)),
        ([400, 300, 200], [EVER] * 3, {"count": 1}, ([], [1], 0)),
        ([400, 300, 200], [EVER] * 3, {"count": 9}, ([], [], 7)),
        # adopted ones took the successor of one that was rotated in time: it has no second one
        ([81, 65, 53], [EVER] * 3, {"count": 3, "every": "40d", "grace": "5d"}, ([], [], 2)),
        ([81, 65, 53, 1, 1], [EVER] * 5, {"count": 3, "every": "40d", "grace": "5d"}, ([], [], 0)),
        # not before rotate_from, and not just before the end
        ([97, 7], [EVER, EVER], {"rotate_from": "2027-01-01T01:00:00+00:00"}, ([], [], 0)),
        ([97, 97], [EVER, EVER], {"rotate_from": "2027-02-01T00:00+08:00", "count": 3}, ([], [], 1)),
        ([97, 7], [EVER, EVER], {"rotate_from": "2027-01-01T08:00+08:00"}, ([], [1], 0)),
        ([95], [EVER], {"expires": "2027-01-08T00:00:00+00:00"}, ([], [], 0)),
        ([95], [EVER], {"expires": "2027-01-08T00:00:01+00:00"}, ([], [], 1)),
        # nobody can tell how old they are: they count, and are left alone
        ([None], [None], {}, ([1], [], 0)),
        (["yesterday"], [None], {"count": 2}, ([1], [], 1)),
        (["2026-01-01T00:00:00"], [None], {}, ([1], [], 0)),
        ([None, 97, 8], [None, EVER, EVER], {"count": 2}, ([1], [2], 0)),
        ([None, 97], [None, EVER], {"count": 1}, ([1], [], 0)),
    ],
)
def test_what_is_done(ages: list[Any], held: list[Any], options: Any, expected: Any) -> None:
    assert plan_of(ages, held, **options) == expected


@pytest.mark.parametrize("fields", [{"enabled": False}, {"token_type": None}])
def test_a_key_that_may_not_work_relieves_none(fields: dict[str, Any]) -> None:
    accounts = [account(1, 97), account(2, 30, **fields)]
    held = {1: NOW - day(97), 2: NOW - day(30)}
    plan = decide(request(), accounts, held, NOW)
    assert (plan.delete, plan.create) == ((), 0)


def test_each_thing_to_do_has_a_reason() -> None:
    accounts = [account(1, 180), account(2, 90), account(3, 8)]
    plan = decide(request(2), accounts, {1: NOW - day(180), 2: NOW - day(90), 3: NOW - day(8)}, NOW)
    assert plan.reasons == (
        "Delete [1]: older than 90 days, and enough newer keys (2) have been in the sink for 7 days.",
        "Create 1: fewer keys than wanted (2) are younger than 90 days.",
    )


def test_the_create_counts_all_but_the_old() -> None:
    accounts = [account(1, 100), account(2, 95), account(3, 30), account(4, None)]
    plan = decide(request(4), accounts, {}, NOW)
    create = plan.creation(request(4))
    assert (plan.create, create.count, create.besides) == (1, 3, frozenset({1, 2})), "adopted: one at a time"


@pytest.mark.parametrize(
    ("ages", "held", "days", "what"),
    [
        ([10], [EVER], 80, "Create 1"),
        ([95, 1], [EVER, EVER], 6, "Delete [1]"),
        ([95, 10], [EVER, 3], 4, "Delete [1]"),
    ],
)
def test_when_the_next_thing_is_due(ages: list[Any], held: list[Any], days: float, what: str) -> None:
    accounts = [account(number, age) for number, age in enumerate(ages, 1)]
    due = next_due(request(), accounts, held_by(ages, held), NOW)
    assert due is not None
    assert timedelta(0) <= due[0] - (NOW + day(days)) <= timedelta(minutes=1)
    assert due[1].reasons[0].startswith(what)


@pytest.mark.parametrize("begins", ["9999-12-31T23:59:59Z", "9999-12-31T23:59:59+08:00"])
def test_a_rotation_may_begin_at_the_calendars_end(begins: str) -> None:
    assert next_due(request(rotate_from=begins), [account(1, 10)], {1: NOW}, NOW) is None


def test_what_never_changes_is_never_due() -> None:
    assert next_due(request(), [account(1, None)], {1: None}, NOW) is None


# --- Clocks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("minutes", "newest", "agrees"),
    [(0, 5, True), (9.9, 5, True), (-9.9, 5, True), (10.1, 5, False), (-10.1, 5, False), (0, -0.01, False),
     (0, -0.006, True), (None, 5, False)],
)  # fmt: skip
def test_clocks_must_agree(minutes: float | None, newest: float, agrees: bool) -> None:
    theirs = None if minutes is None else (NOW + timedelta(minutes=minutes)).timestamp()
    accounts = [account(1, 300), account(2, newest), account(3, None)]
    if agrees:
        check_clock(accounts, theirs, NOW)
    else:
        with pytest.raises(ClockDisagrees, match="Nothing was changed"):
            check_clock(accounts, theirs, NOW)


# --- Parameters --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"grace": "59m"}, "grace is 59 min: give at least 1 h"),
        (
            {"every": "13d"},
            "every is 13 days, and grace is 7 days: give every as at least 2 x",
        ),
        ({"every": 90}, "every is 90, no span of time"),
        ({"every": "90"}, "every is '90', no span of time"),
        ({"every": "xd"}, "every is 'xd'"),
        ({"every": "nand"}, "every is 'nand'"),
        ({"every": "1e300d"}, "every is '1e300d'"),
        ({"every": "d"}, "every is 'd'"),
        ({"every": None}, "every is None"),
        ({"grace": "-7d"}, "grace is"),
        ({"max_rotate": 0}, "max_rotate is 0"),
        ({"max_rotate": "0%"}, "max_rotate is '0%'"),
        ({"max_rotate": "101%"}, "max_rotate is '101%'"),
        ({"max_rotate": "many%"}, "max_rotate is 'many%'"),
        ({"max_rotate": 0.1}, "max_rotate is 0.1"),
        ({"max_rotate": True}, "max_rotate is True"),
        ({"rotate_from": "soon"}, "rotate_from is 'soon', which is not a moment"),
        ({"rotate_from": "2027-01-01T00:00:00"}, "rotate_from is .* with a time zone"),
        ({"count": 0}, "count is 0"),
    ],
)
def test_what_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParameter, match=f"{message}.*Nothing was sent"):
        request(**options)


@pytest.mark.parametrize(
    ("text", "span"),
    [("90d", day(90)), (" 12 H ", day(0.5)), ("2w", day(14)), ("180m", day(0.125)), ("1.5d", day(1.5))],
)
def test_spans_are_text_too(text: str, span: timedelta) -> None:
    assert request(every=text, grace="1h").every == span


@pytest.mark.parametrize(
    ("value", "count", "number"),
    [
        ("10%", 40, 4),
        ("10 %", 1, 1),
        ("10%", 19, 1),
        ("100%", 3, 3),
        (5, 1, 5),
        ("5", 1, 5),
        ("12.5%", 40, 5),
    ],
)
def test_max_rotate_is_a_number_or_a_share_of_count(value: Any, count: int, number: int) -> None:
    assert request(count, max_rotate=value).max_rotate == number
