"""The decision of a create: what it does next after what it saw. No simulator, no time."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from airflow_provider_closeai.client.errors import Declined, OutcomeUnknown, RateLimited
from airflow_provider_closeai.client.models import ModelPricing, SecretToken, SubAccount
from airflow_provider_closeai.provisioning.create import CreateDecision
from airflow_provider_closeai.provisioning.errors import NotConfirmed, TooManyAccounts, UnexpectedAnswer
from airflow_provider_closeai.provisioning.journal import Entry, Limits, believe_from
from airflow_provider_closeai.provisioning.requests import CreateRequest
from airflow_provider_closeai.provisioning.steps import Done, Earlier, Fail, List, Listing, Post, Wait

SETTLE, MAX_LATE, DEADLINE = 30.0, 60.0, 120.0
LIMITS = Limits(SETTLE, MAX_LATE, DEADLINE)
UNKNOWN = OutcomeUnknown("cut", call="create")


def account(number: int, factor: int = 1) -> SubAccount:
    pricing = (ModelPricing("m", Decimal(factor)),)
    return SubAccount(
        id=number, token=SecretToken(f"sk-{number}"), alias="a", token_type="slave", model_pricing=pricing
    )


def accounts(*numbers: int) -> list[SubAccount]:
    return [account(number) for number in numbers]


def decision(count: int = 2, *, earlier: Earlier | None = None, **options: Any) -> CreateDecision:
    request = CreateRequest.parse("a", {"m": 1}, 1, count, **{"settle": SETTLE, **options})
    return CreateDecision(request, max_late=MAX_LATE, earlier=earlier)


def look(made: CreateDecision, at: float, *numbers: int) -> Any:
    made.listed(Listing(accounts(*numbers), at, at))
    return made.next_step(at)


# --- The steps, as a table --------------------------------------------------------------------------------


def test_with_nothing_in_doubt_it_looks_posts_looks_and_is_done() -> None:
    made = decision()
    assert made.next_step(0) == List()
    assert look(made, 0) == Post(2)
    made.answered(accounts(1, 2), 2, 1)
    assert made.next_step(1) == List()
    assert look(made, 2, 1, 2) == Done(tuple(accounts(1, 2)))
    assert (len(made.created), made.is_settled) == (2, True)


def test_enough_is_enough_at_once_even_where_something_is_in_doubt() -> None:
    assert isinstance(look(decision(earlier=Earlier(believe_from=1000.0)), 0, 1, 2), Done)


def test_batches_follow_each_other_without_a_listing() -> None:
    made = decision(5, batch_size=2)
    assert look(made, 0) == Post(2)
    made.answered(accounts(1, 2), 2, 1)
    assert made.next_step(1) == Post(2)
    made.answered(accounts(3, 4), 2, 2)
    assert made.next_step(2) == Post(1)


def wait_out(made: CreateDecision, at: float, *numbers: int) -> float:
    """Follow the decision while it waits and lists the same; gives the time when it does something else."""
    while True:
        step = made.next_step(at)
        if isinstance(step, Wait):
            assert step.seconds > 0
            at += step.seconds
        elif isinstance(step, List):
            made.listed(Listing(accounts(*numbers), at, at, is_whole=step.is_whole))
        else:
            return at


def test_after_an_unknown_outcome_absence_is_believed_when_nothing_can_be_late_any_more() -> None:
    made = decision()
    look(made, 0)
    made.unknown(UNKNOWN, 10)
    at = wait_out(made, 10)
    assert at >= 10 + MAX_LATE + SETTLE
    assert at < 10 + MAX_LATE + SETTLE + 1
    assert made.next_step(at) == Post(2)


def test_absence_is_not_believed_while_the_listing_changes() -> None:
    made = decision(5)
    look(made, 0)
    made.unknown(UNKNOWN, 0)
    assert isinstance(look(made, MAX_LATE + SETTLE, 1), Wait)
    at = wait_out(made, MAX_LATE + SETTLE, 1)
    assert at >= MAX_LATE + SETTLE + SETTLE
    assert made.next_step(at) == Post(4)


def test_a_doubt_from_before_is_waited_for_and_one_that_is_over_must_still_be_steady() -> None:
    assert wait_out(decision(earlier=Earlier(believe_from=50.0)), 0) >= 50
    assert wait_out(decision(earlier=Earlier(believe_from=-1000.0)), 0) >= SETTLE


def test_what_was_proven_not_executed_costs_no_wait() -> None:
    made = decision()
    look(made, 0)
    error = RateLimited("later", call="create")
    made.not_executed(error)
    assert made.next_step(0) == Fail(error)
    assert made.posted_nothing


def test_a_no_is_looked_into_once() -> None:
    made = decision()
    look(made, 0)
    made.declined(Declined("no quota", call="create"), 1)
    assert made.next_step(1) == List()
    step = look(made, 1, 7)
    assert isinstance(step, Fail)
    assert "no quota" in str(step.error)
    assert "1 of 2" in str(step.error)
    done = decision()
    look(done, 0)
    done.declined(Declined("no quota", call="create"), 1)
    assert isinstance(look(done, 1, 7, 8), Done)


def test_three_unknown_posts_that_bring_nothing_end_it() -> None:
    made = decision()
    at = 0.0
    for _ in range(3):
        at = wait_out(made, at)
        assert made.next_step(at) == Post(2)
        made.unknown(UNKNOWN, at)
    wait_out(made, at)
    assert made.next_step(at) == Fail(UNKNOWN)


def test_unknown_posts_that_bring_something_do_not() -> None:
    made = decision(6, batch_size=1)
    at = 0.0
    for there in range(6):
        at = wait_out(made, at, *range(1, there + 1))
        assert made.next_step(at) == Post(1)
        made.unknown(UNKNOWN, at)
    wait_out(made, at, *range(1, 7))
    assert isinstance(made.next_step(at), Done)


def test_answers_that_name_nothing_new_end_it() -> None:
    made = decision()
    at = 0.0
    for _ in range(3):
        at = wait_out(made, at)
        made.answered([], 2, at)
    step = made.next_step(at)
    assert isinstance(step, Fail)
    assert isinstance(step.error, UnexpectedAnswer)


def test_a_surplus_is_refused_and_so_is_what_vanishes() -> None:
    step = look(decision(1), 0, 1, 2)
    assert isinstance(step, Fail)
    assert isinstance(step.error, TooManyAccounts)
    made = decision(3)
    look(made, 0, 1)
    made.answered(accounts(2, 3), 2, 1)
    assert made.next_step(1) == List()
    step = look(made, 2, 2, 3)
    assert isinstance(step, Fail)
    assert isinstance(step.error, NotConfirmed)


def test_a_base_that_does_not_show_yet_what_was_made_is_waited_for() -> None:
    made = decision(3)
    look(made, 0, 1)
    made.answered(accounts(2, 3), 2, 1)
    made.next_step(1)
    assert isinstance(look(made, 2), Wait), "it shows neither the old nor the new"
    made.next_step(3)
    assert isinstance(look(made, 3, 1, 2, 3), Done)


@pytest.mark.parametrize("hidden", [0, 1])
def test_what_is_never_shown_ends_after_settle(hidden: int) -> None:
    made = decision(2)
    look(made, 0)
    made.answered(accounts(1, 2), 2, 0)
    at = wait_out(made, 0, *range(1, 1 + hidden))
    assert at >= SETTLE
    assert isinstance(made.next_step(at), Done)
    assert not made.is_settled


# --- The journals ------------------------------------------------------------------------------------------

NOW = 1000.0
ON_ITS_WAY = DEADLINE + MAX_LATE + SETTLE


@pytest.mark.parametrize(
    ("here", "own", "is_retry", "expected"),
    [
        (None, None, False, None),
        (Entry(NOW - 1, "t", posted=False), None, False, None),
        (Entry(NOW - 1, "t"), None, False, NOW + MAX_LATE + SETTLE),
        (Entry(NOW - 130, "t"), None, False, NOW - 130 + ON_ITS_WAY),
        (Entry(NOW - ON_ITS_WAY, "t"), None, False, None),
        (Entry(NOW + 9e9, "t"), None, False, NOW + MAX_LATE + SETTLE),
        (Entry(NOW - 1, "t", settled=True), None, False, NOW - 1 + SETTLE),
        (Entry(NOW - SETTLE, "t", settled=True), None, False, None),
        (None, None, True, NOW + ON_ITS_WAY),
        (None, Entry(NOW - 1, "t", posted=False), True, None),
        (None, Entry(NOW - 1, "t"), True, NOW - 1 + ON_ITS_WAY),  # whoever noted it may live on
        (Entry(NOW - 1, "t"), Entry(NOW - 1, "t"), True, NOW + MAX_LATE + SETTLE),
        (None, Entry(NOW - 5000, "t"), True, None),
        (None, Entry(NOW - 5000, "t", settled=True), True, None),
        (None, Entry(NOW - 5000, "t", counter="another host"), True, NOW + ON_ITS_WAY),
        (None, Entry(NOW - 5000, "t", settled=True, counter="another host"), True, NOW + SETTLE),
        (Entry(NOW - 5000, "t", counter="before a reboot"), None, False, NOW + MAX_LATE + SETTLE),
        (Entry(NOW - 1, "t"), Entry(NOW - 1, "t", posted=False), True, NOW + MAX_LATE + SETTLE),
    ],
)
def test_from_when_absence_may_be_believed(
    here: Entry | None, own: Entry | None, is_retry: bool, expected: float | None
) -> None:
    assert believe_from(here, own, is_retry=is_retry, now=NOW, limits=LIMITS) == expected


@pytest.mark.parametrize("age", [1.0, SETTLE / 2, SETTLE - 1])
def test_absence_from_an_older_listing_is_not_believed_if_a_base_might_have_lagged(age: float) -> None:
    here = Entry(NOW - SETTLE, "t", settled=True)  # every base shows it by now, and did not before
    assert believe_from(here, None, is_retry=False, now=NOW, limits=LIMITS) is None
    since = NOW - age
    assert believe_from(here, None, is_retry=False, now=NOW, limits=LIMITS, since=since) == NOW


def test_no_more_is_made_than_may_be_however_many_are_missing_by_then() -> None:
    request = CreateRequest.parse("a", {"m": 1}, 1, 3, settle=SETTLE)
    limited = CreateDecision(msgspec.structs.replace(request, at_most=1), max_late=MAX_LATE, earlier=None)
    assert look(limited, 0, 1) == Post(1)
    limited.answered(accounts(2), 1, 1)
    limited.next_step(1)
    assert look(limited, 2, 1, 2) == Done(tuple(accounts(1, 2)))
