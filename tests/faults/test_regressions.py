"""What the matrix and the random sequences found, each as the shortest story that showed it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fault_deployment import Deployment, Spec, Trouble
from fault_world import World

from airflow_provider_closeai.client.errors import OutcomeUnknown
from airflow_provider_closeai.provisioning.errors import NotConfirmed
from airflow_provider_closeai.provisioning.health import check_bases

ENSURE = Spec("ensure", count=2)


@contextmanager
def deployment(lag: float = 12.0, other_lag: float | None = None, **settings: Any) -> Iterator[Deployment]:
    made = Deployment((lag, lag if other_lag is None else other_lag), **settings)
    try:
        yield made
        made.settle_down()
    finally:
        made.close()


def prices(of: Deployment) -> list[set[str]]:
    return [{entry["model"] for entry in account["model_pricing"]} for account in of.sim.accounts()]


@pytest.mark.parametrize("own_journal", [False, True])
@pytest.mark.parametrize("again", [False, True])
def test_a_base_that_lags_behind_the_one_that_confirmed(own_journal: bool, again: bool) -> None:
    """
    Base A had shown the new accounts, so the note said that nothing was in doubt. Then A died, and B, whose
    listing lagged, showed none: the next ensure of the alias created them a second time.
    """
    with deployment(lag=0.0, other_lag=20.0) as host:
        spec = Spec("ensure", count=2, own_journal=own_journal)
        task = host.task(spec)
        host.run([task])
        host.sim.stop_base(0)
        [(accounts, error)] = host.run([task if again else host.task(spec)])
        assert error is None
        assert len(accounts) == 2
        assert host.sim.count("create") == 1


@pytest.mark.parametrize("dies", range(6, 12))
def test_a_post_that_had_to_wait_is_younger_than_its_note(dies: int) -> None:
    """
    A create was noted, met a 429 with ``Retry-After: 45``, was sent 45 s later, and its task was killed. The
    note was then older than ``settle``, the accounts younger: another task believed the listing and created
    them again.
    """
    with deployment() as host:
        waits = (("create", "rate_limit", None, 1, 0, {"retry_after": 45}),)
        host.run([host.task(ENSURE)], Trouble(faults=waits, crashes=(dies,)))
        [(accounts, error)] = host.run([host.task(ENSURE)])
        assert error is None
        assert len(accounts) == len(host.sim.accounts()) == 2


@pytest.mark.parametrize("dies", range(2, 10))
def test_a_merge_after_a_killed_merge(dies: int) -> None:
    """
    A merge was executed and its task killed. While the listing still showed the old prices, the next merge
    read them, and sent them back: the model of the first was gone, and nobody was told.
    """
    with deployment() as host:
        host.seed("team")
        host.run([host.task(Spec("merge", model="m1"))], Trouble(crashes=(dies,)))
        before = prices(host)[0]
        host.run([host.task(Spec("merge", model="m2"))])
        assert prices(host) == [before | {"m2"}]


def test_a_merge_after_one_whose_reading_back_failed() -> None:
    """The same without a kill: the first merge ended in an error when it wanted to read back."""
    with deployment() as host:
        host.seed("team")
        host.seed("team")
        no_listing = Trouble(faults=(("list", "cut_before", None, None, 1, {}),))
        [(_, error)] = host.run([host.task(Spec("merge", model="m1"))], no_listing)
        assert isinstance(error, OutcomeUnknown)
        host.run([host.task(Spec("merge", model="m2"))])
        assert prices(host) == [{"m0", "m1", "m2"}] * 2


def test_a_merge_on_a_base_that_lags_behind_the_one_that_confirmed() -> None:
    """The same without any failure but a base's death between the two merges."""
    with deployment(lag=0.0, other_lag=12.0) as host:
        host.seed("team")
        host.run([host.task(Spec("merge", model="m1"))])
        host.sim.stop_base(0)
        host.run([host.task(Spec("merge", model="m2"))])
        assert prices(host) == [{"m0", "m1", "m2"}]


def test_a_merge_into_one_account_does_not_forget_what_was_sent_to_another() -> None:
    with deployment() as host:
        host.seed("team")
        host.seed("team-a")
        host.run([host.task(Spec("merge", model="m1"))], Trouble(crashes=(5,)))
        assert prices(host) == [{"m0", "m1"}, {"m0"}]
        host.run([host.task(Spec("merge", alias="team-a", model="m2"))])
        host.run([host.task(Spec("merge", model="m3"))])
        assert prices(host) == [{"m0", "m1", "m3"}, {"m0", "m2"}]


def test_a_merge_that_was_never_sent_makes_nobody_wait() -> None:
    with deployment() as host:
        host.seed("team")
        refused = Trouble(faults=(("update", "rate_limit", None, 99, 0, {"retry_after": 600}),))
        [(_, error)] = host.run([host.task(Spec("merge", model="m1"))], refused)
        assert error is not None
        begin = host.world.clock.now
        host.run([host.task(Spec("merge", model="m2"))])
        assert host.world.clock.now - begin < 30, "it waited for what was never sent"


def test_a_write_whose_first_answer_was_lost_is_not_said_to_have_changed_nothing() -> None:
    """
    An update was executed, its answer lost; sent again it met 429 until the attempts ran out. The error said
    that nothing was changed. Now its outcome is unknown, and reading back shows that it was done.
    """
    with deployment(lag=0.0) as host:
        host.seed("team")
        faults: tuple[Any, ...] = (
            ("update", "cut_after", None, 1, 0, {}),
            ("update", "rate_limit", None, 99, 0, {"retry_after": 7}),
        )
        [(accounts, error)] = host.run([host.task(Spec("merge", model="m1"))], Trouble(faults=faults))
        assert error is None
        assert [set(account.pricing) for account in accounts] == prices(host) == [{"m0", "m1"}]


@pytest.mark.parametrize(("kind", "call"), [("merge", "update"), ("delete", "delete"), ("ensure", "create")])
def test_a_write_in_doubt_is_not_forgotten_when_reading_back_fails(kind: str, call: str) -> None:
    """
    A write was executed, its answer lost, and the listing that should have told failed as well. The error was
    the listing's: "Nothing was sent, nothing was changed".
    """
    with deployment(lag=0.0) as host:
        host.seed("team")
        lost: Any = (call, "cut_after", None, None, 0, {})
        no_listing: Any = ("list", "rate_limit", None, None, 1, {"retry_after": 600})
        [(_, error)] = host.run([host.task(Spec(kind, count=2))], Trouble(faults=(lost, no_listing)))
        assert isinstance(error, OutcomeUnknown)
        assert "may have been executed" in str(error)
        assert "nothing was changed" not in str(error)


def test_an_account_that_is_deleted_while_others_are_created() -> None:
    """
    One was there, three were created, and another task deleted the first before the read-back: the create
    said success, and returned three of four.
    """
    with deployment(lag=0.0) as host:
        host.seed("team")
        first = host.sim.accounts()[0]["id"]

        def vanish(call: str, base: str) -> None:
            if call == "create":
                host.world.after = None
                host.sim.delete_account(first)
                host.gone.add(first)

        host.world.after = vanish
        task = host.task(Spec("ensure", count=4))
        [(_, error)] = host.run([task])
        assert isinstance(error, NotConfirmed)
        [(accounts, error)] = host.run([task])
        assert error is None
        assert len(accounts) == len(host.sim.accounts()) == 4


def test_a_cache_that_vanishes_while_bases_are_probed() -> None:
    """
    The shared cache was emptied (a cleaner of the temporary directory, an edited Variable) between reading
    the bases and noting their health: then no base was known, the sensor waited on, a call failed with
    ``ValueError``.
    """
    with World() as world:
        client = world.client()
        assert client.list_bases()

        def vanish(call: str, base: str) -> None:
            if call == "healthy":
                client.cache.change(lambda old: type(old)())

        world.after = vanish
        assert check_bases(lambda: client, "all").base == world.sim.base_urls[0]
        world.sim.stop_base(0)
        assert list(client.iter_sub_accounts()) == []
        world.sim.start_base(0)
        world.clock.advance(301)
        assert list(client.iter_sub_accounts()) == []
