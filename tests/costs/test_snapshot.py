"""Snapshots: complete and consistent, or none."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from books import Book, Clock, local

from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.config import config_from
from airflow_provider_closeai.client.errors import ListingUnstable, NotSent, UnreadableAccount
from airflow_provider_closeai.client.models import ModelPricing, SecretToken, SubAccount, UnreadableItem
from airflow_provider_closeai.costs import (
    DeletionRequest,
    Ledger,
    Run,
    SnapshotRequest,
    record_deleted,
    snapshot,
)
from airflow_provider_closeai.costs.errors import NothingToDo, NotRead, SnapshotRefused
from airflow_provider_closeai.costs.store.kinds import CONTROL, DELETED, SNAPSHOTS
from airflow_provider_closeai.simulator import Simulator

KEY = "sk-do-not-write-me-down-0123456789"


def account(number: int, cost: str | None = "0.44000013", **fields: Any) -> SubAccount:
    return SubAccount(
        id=number,
        token=SecretToken(KEY),
        alias=fields.pop("alias", f"a-{number}"),
        token_type=fields.pop("token_type", "slave"),
        balance=Decimal("99.5"),
        monthly_cost=None if cost is None else Decimal(cost),
        model_pricing=(ModelPricing("gpt-4", Decimal("1.5")),),
        created_at="2026-05-24T23:13:16.878831+08:00",
        **fields,
    )


class Platform:
    """A client that lists what it is told to, and may move the clock meanwhile."""

    def __init__(
        self, *accounts: SubAccount | UnreadableItem, usage: Any = None, clock: Clock | None = None
    ) -> None:
        self.accounts = accounts
        self.usage = usage
        self.clock = clock
        self.takes = timedelta(0)
        self.disturbed = 0

    def iter_listing(self) -> Iterator[SubAccount | UnreadableItem]:
        yield from self.accounts
        if self.clock:
            self.clock.at += self.takes

    def main_usage(self) -> Decimal:
        if isinstance(self.usage, Exception):
            raise self.usage
        return Decimal(self.usage)


@pytest.fixture
def ledger(tmp_path: Path, clock: Clock) -> Ledger:
    clock.at = local("11-24 09:00")
    return Ledger(tmp_path / "ledger")


class Recorder:
    """Records into a ledger, at the clock's time."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self.ledger, self.clock = ledger, clock

    def take(self, client: Any, run: str = "a" * 12, **options: Any) -> Any:
        request = SnapshotRequest.parse(ledger=self.ledger.root, **options)
        return snapshot(request, lambda: client, run=Run(key=run), clock=self.clock)

    def deleted(self, accounts: list[SubAccount], listed_at: Any = None, run: str = "a" * 12) -> Any:
        request = DeletionRequest.parse(ledger=self.ledger.root)
        at = listed_at or self.clock()
        return record_deleted(request, accounts, at, run=Run(key=run), clock=self.clock)


@pytest.fixture
def recorder(ledger: Ledger, clock: Clock) -> Recorder:
    return Recorder(ledger, clock)


def test_the_columns(recorder: Recorder, ledger: Ledger) -> None:
    taken = recorder.take(Platform(account(2, alias="=b"), account(1, "0.1", enabled=False), usage="7"))
    text = (ledger.root / taken.file.name).read_text()
    assert text.splitlines() == [
        "observed_at,billing_month,sub_account_id,alias,enabled,balance,monthly_cost,model_pricing,"
        "created_at,user_id",
        "2026-11-24T01:00:00Z,2026-11,1,a-1,false,99.5,0.1,"
        '"[{""model"":""gpt-4"",""pricing_factor"":1.5}]",2026-05-24T23:13:16.878831+08:00,',
        "2026-11-24T01:00:00Z,2026-11,2,'=b,true,99.5,0.44000013,"
        '"[{""model"":""gpt-4"",""pricing_factor"":1.5}]",2026-05-24T23:13:16.878831+08:00,',
    ]
    assert taken.record() == {
        "file": taken.file.name,
        "billing_month": "2026-11",
        "observed_at": "2026-11-24T09:00:00+08:00",
        "sub_accounts": 2,
        "total": "0.54000013",
        "main_usage": "7",
    }
    assert ledger.rows(ledger.files(CONTROL, "2026-11")[0])[0][1:] == ("2026-11", Decimal(7))
    assert KEY not in text
    assert "sk-" not in text


def test_only_sub_accounts(recorder: Recorder, ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    assert recorder.take(Platform(account(1), account(2, token_type="master"), usage="7")).file.rows == 1
    assert "1 listed entries are not sub-accounts" in caplog.text


def test_a_missing_cost_stays_empty(
    recorder: Recorder, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    taken = recorder.take(Platform(account(1), account(2, None), usage="7"))
    assert ledger.read(taken.file, ["monthly_cost"])[0] == [Decimal("0.44000013"), None]
    assert "gave no monthly_cost of [2]" in caplog.text


def test_a_listing_over_the_turn_is_refused(recorder: Recorder, ledger: Ledger, clock: Clock) -> None:
    clock.at = local("11-30 23:59")
    platform = Platform(account(1), usage="1", clock=clock)
    platform.takes = timedelta(minutes=1)
    with pytest.raises(SnapshotRefused, match="ended after the month's turn in Asia/Shanghai") as caught:
        recorder.take(platform)
    assert not caught.value.permanent  # a retry reads the new month
    assert ledger.months(SNAPSHOTS) == []
    assert recorder.take(platform).file.month == "2026-12"


def test_an_empty_listing_is_refused_unless_it_was_empty(
    recorder: Recorder, ledger: Ledger, clock: Clock
) -> None:
    assert recorder.take(Platform(usage="7")).file.rows == 0
    recorder.take(Platform(account(1), account(2), usage="7"), run="b" * 12)
    clock.at = local("12-02 09:00")
    with pytest.raises(
        SnapshotRefused, match=r"The listing is empty, and .* has 2 sub-accounts, of which 2 were not"
    ):
        recorder.take(Platform(usage="7"), run="c" * 12)
    assert ledger.months(SNAPSHOTS) == ["2026-11"]
    recorder.deleted([account(1)], run="d" * 12)
    with pytest.raises(SnapshotRefused, match=r"of which 1 were not deleted by this provider \(ids 2\)"):
        recorder.take(Platform(usage="7"), run="c" * 12)
    recorder.deleted([account(2)], run="d" * 12)
    assert recorder.take(Platform(usage="7"), run="c" * 12).file.rows == 0


def test_a_deletion_counts_whichever_month_it_was_in(recorder: Recorder, clock: Clock) -> None:
    recorder.take(Platform(account(1), usage="7"))
    clock.at = local("12-10 09:00")  # without a snapshot in that month
    recorder.deleted([account(1)], run="b" * 12)
    clock.at = local("01-15 09:00").replace(year=clock.at.year + 1)
    assert recorder.take(Platform(usage="7"), run="c" * 12).file.rows == 0


def test_a_control_total_that_fails_costs_no_snapshot(
    recorder: Recorder, ledger: Ledger, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    platform = Platform(account(1), usage=NotSent("credit_grants is down"))
    assert recorder.take(platform).main_usage is None
    assert "No control total this time: credit_grants is down" in caplog.text
    assert (
        recorder.take(Platform(account(1), usage="7"), run="b" * 12, control_total=False).main_usage is None
    )
    assert ledger.files(CONTROL, "2026-11") == []


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [
        ([account(1, "5"), account(2, None)], [account(1, "5"), account(2), account(3)], 1),
        ([account(1, "5"), account(2, "7")], [account(1, "6")], 2),  # deleted elsewhere
        ([account(1, "5")], [account(1, "0.1")], 2),  # the platform's month turned in between
        ([account(1, "5")], [account(1, None)], 2),
        ([account(1, "-5")], [account(1, "-5")], 1),
    ],
    ids=["grown", "deleted", "started again", "no cost", "the same"],
)
def test_a_retry_takes_away_only_what_it_shows_itself(
    recorder: Recorder, ledger: Ledger, clock: Clock, first: Any, second: Any, kept: int
) -> None:
    other = recorder.take(Platform(*first, usage="7"), run="b" * 12)
    clock.at += timedelta(minutes=1)
    mine = recorder.take(Platform(*first, usage="7"))
    clock.at += timedelta(minutes=1)
    again = recorder.take(Platform(*second, usage="7"))
    expected = [other.file, *([mine.file] if kept == 2 else []), again.file]
    assert ledger.files(SNAPSHOTS, "2026-11") == expected


def test_a_try_that_outlived_its_retry_takes_nothing_away(
    recorder: Recorder, ledger: Ledger, clock: Clock
) -> None:
    """Its supervisor is gone, and Airflow has run the task again: its look is the older one."""
    clock.at += timedelta(minutes=5)
    retry = recorder.take(Platform(account(1, "5"), usage="7"))
    clock.at -= timedelta(minutes=5)
    outlived = recorder.take(Platform(account(1, "6"), usage="7"))
    assert ledger.files(SNAPSHOTS, "2026-11") == [outlived.file, retry.file]


@pytest.mark.parametrize("case", ["the first file", "nothing may be removed", "a store says no"])
def test_what_cannot_be_compared_or_taken_away_stays(
    recorder: Recorder, ledger: Ledger, clock: Clock, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    mine = recorder.take(Platform(account(1), usage="7")).file
    if case == "the first file":
        (ledger.root / mine.name).write_text("cut")
    else:  # a folder that only takes new files
        refusal = PermissionError if case == "nothing may be removed" else ArithmeticError
        monkeypatch.setattr(Path, "unlink", functools.partialmethod(_write_once, refusal))
    clock.at += timedelta(minutes=5)
    again = recorder.take(Platform(account(1), usage="7")).file
    assert ledger.files(SNAPSHOTS, "2026-11") == [mine, again]


def _write_once(path: Path, refusal: type[Exception], missing_ok: bool = False) -> None:
    if not missing_ok:
        raise refusal("write once")


def test_a_listing_during_which_another_was_recorded_is_read_again(
    recorder: Recorder, ledger: Ledger, clock: Clock
) -> None:
    """Which of two that overlap has the newer counters nobody knows: a fall that never was."""
    others: list[Any] = []

    class Slow(Platform):
        def iter_listing(self) -> Iterator[SubAccount | UnreadableItem]:
            clock.at += timedelta(seconds=1)
            if len(others) < self.disturbed:
                others.append(recorder.take(Platform(account(1, "5"), usage="7"), run="b" * 12).file)
            clock.at += timedelta(seconds=1)
            return super().iter_listing()

    slow = Slow(account(1, "5.01"), usage="7")
    slow.disturbed = 1
    began = clock.at
    mine = recorder.take(slow).file
    assert ledger.files(SNAPSHOTS, "2026-11") == [others[0], mine]
    assert mine.at == began + timedelta(seconds=2)
    others.clear()
    slow.disturbed = 99
    with pytest.raises(NothingToDo, match="other listings were recorded"):
        recorder.take(slow, run="c" * 12)
    assert len(others) == 3


@pytest.mark.parametrize(
    ("listed", "meanwhile", "cost"),
    [
        (("59.5", "40"), ("60", "39.5"), "60"),
        (("0", "100"), ("7", "100"), "7"),  # used for the first time
        (("8", "2"), ("11", "99"), "11"),  # its balance was filled up
        (("60", "100"), ("59", "100"), "60"),  # a refund, or the other order
        (("60", None), (None, None), "60"),
    ],
)
def test_a_deletion_counts_nothing_twice_with_a_snapshot_that_was_begun_after_its_look(
    recorder: Recorder, ledger: Ledger, clock: Clock, listed: Any, meanwhile: Any, cost: str
) -> None:
    def state(cost: str | None, balance: str | None) -> SubAccount:
        amount = None if balance is None else Decimal(balance)
        return msgspec.structs.replace(account(1, cost), balance=amount)

    began = clock.at
    clock.at += timedelta(minutes=1)
    recorder.take(Platform(state(*meanwhile), usage="7"), run="b" * 12)
    recorder.deleted([state(*listed)], listed_at=began)
    [line] = Book(ledger.root, clock).report().accounts
    assert (line.state, line.month_to_date, line.falls) == ("deleted", Decimal(cost), Decimal(0))


def test_a_deletion_comes_after_what_was_listed_meanwhile(
    recorder: Recorder, ledger: Ledger, clock: Clock
) -> None:
    """A snapshot while the deletion lists, or waits for a lock: the account is still there."""
    began = clock.at
    clock.at += timedelta(minutes=1)
    seen = recorder.take(Platform(account(1, "5"), usage="7"), run="b" * 12).file
    clock.at += timedelta(minutes=1)
    record = recorder.deleted([account(1, "6")], listed_at=began)
    assert record.at == seen.at
    assert record.order > seen.order
    book = Book(ledger.root, clock)
    assert book.report().accounts[0].state == "deleted"
    assert recorder.take(Platform(usage="7"), run="c" * 12).file.rows == 0


def test_last_records_are_never_replaced(recorder: Recorder, ledger: Ledger, clock: Clock) -> None:
    assert recorder.deleted([]) is None
    recorder.deleted([account(1), account(2)])
    clock.at += timedelta(minutes=1)
    recorder.deleted([account(2)])
    assert [file.rows for file in ledger.files(DELETED, "2026-11")] == [2, 1]


def test_a_listing_that_lies_about_its_total(
    recorder: Recorder, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Simulator(bases=1, seed=1) as sim:
        for number in range(5):
            sim.add_account(f"a-{number}")
        client = CloseAIClient(config_from(password=sim.key, host=sim.discovery_url, extra={}))
        real = client.page

        def page(number: int, size: int, alias: str | None = None) -> Any:
            import msgspec

            return msgspec.structs.replace(real(number, size, alias), total=6)

        monkeypatch.setattr(client, "page", page)
        with pytest.raises(ListingUnstable, match="5 accounts read, total 6"):
            recorder.take(client)
    assert ledger.months(SNAPSHOTS) == []


def test_paging_brings_every_account_once(
    recorder: Recorder, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Simulator(bases=1, seed=1) as sim:
        for number in range(25):
            sim.add_account(f"a-{number}", monthly_cost=f"0.0000000{number % 9}")
        client = CloseAIClient(config_from(password=sim.key, host=sim.discovery_url, extra={"page_size": 10}))
        taken = recorder.take(client)
        listed: Iterable[dict[str, Any]] = sim.accounts()
    assert taken.file.rows == 25
    assert taken.total == sum(Decimal(item["monthly_cost"]) for item in listed)


def test_a_deletion_across_the_turn_is_not_recorded(recorder: Recorder, ledger: Ledger, clock: Clock) -> None:
    clock.at = local("12-01 00:00")
    with pytest.raises(SnapshotRefused, match="Nothing was recorded or deleted"):
        recorder.deleted([account(1, "500")], local("11-30 23:59"))
    assert ledger.months(DELETED) == []


def test_last_records_are_of_the_time_of_their_listing(recorder: Recorder, ledger: Ledger) -> None:
    file = recorder.deleted([account(1)], local("11-24 08:58"))
    assert file is not None
    assert file.at == local("11-24 08:58")


def test_an_entry_that_does_not_say_what_it_is_counts(recorder: Recorder, ledger: Ledger) -> None:
    taken = recorder.take(Platform(account(1, token_type=""), account(2, token_type="master"), usage="7"))
    assert [row[2] for row in ledger.rows(taken.file)] == [1]


def test_the_snapshot_stands_whatever_the_control_total_does(recorder: Recorder, ledger: Ledger) -> None:
    with pytest.raises(TimeoutError):
        recorder.take(Platform(account(1), usage=TimeoutError()))
    assert [file.rows for file in ledger.files(SNAPSHOTS, "2026-11")] == [1]


def test_an_account_that_cannot_be_read_is_not_counted_around(recorder: Recorder, ledger: Ledger) -> None:
    unreadable = [
        UnreadableItem(7, "search.web", "monthly_cost: not a number"),
        UnreadableItem(None, None, "id: missing"),
    ]
    told = r"7 \(monthly_cost: not a number\); an entry without an id \(id: missing\)\..*nothing was recorded"
    with pytest.raises(UnreadableAccount, match=told) as caught:
        recorder.take(Platform(account(1), *unreadable, usage="7"))
    assert not caught.value.permanent  # a retry may read it
    assert ledger.months(SNAPSHOTS) == ledger.months(CONTROL) == []


def test_another_main_accounts_listing_is_refused(recorder: Recorder, ledger: Ledger) -> None:
    recorder.take(Platform(account(1, user_id=7), account(2, user_id=7), usage=1))
    recorder.take(Platform(account(1, user_id=7), usage=1), run="b" * 12)
    recorder.take(Platform(account(1), usage=1), run="c" * 12)  # one that does not say whose it is
    with pytest.raises(SnapshotRefused, match=r"of the main account 8, and the ledger .* of 7"):
        recorder.take(Platform(account(1, user_id=8)), run="d" * 12)
    with pytest.raises(SnapshotRefused, match="of the main account 8"):
        recorder.deleted([account(1, user_id=8)])
    for mixed in (
        (account(1, user_id=7), account(2, user_id=8)),
        (account(1, user_id=9), account(2, user_id=8)),
    ):
        with pytest.raises(SnapshotRefused, match=r"accounts of the main accounts [78], [89]: one key"):
            recorder.take(Platform(*mixed), run="e" * 12)
        with pytest.raises(SnapshotRefused, match="accounts of the main accounts"):
            recorder.deleted(list(mixed))
    assert len(ledger.files(SNAPSHOTS, "2026-11")) == 3
    assert ledger.files(DELETED, "2026-11") == []


def test_a_cost_that_is_no_money_is_named(recorder: Recorder, ledger: Ledger) -> None:
    with pytest.raises(UnreadableAccount, match=r"2 \(monthly_cost: no money has that size\)"):
        recorder.take(Platform(account(1), account(2, "1e40")))
    assert ledger.months(SNAPSHOTS) == []


@pytest.mark.parametrize("cost", ["1E30", "1E-25"])
def test_a_deletion_that_no_report_could_count_is_refused(
    recorder: Recorder, ledger: Ledger, cost: str
) -> None:
    told = r"2 \(monthly_cost: no money has that size\)\. Nothing was recorded or deleted"
    with pytest.raises(UnreadableAccount, match=told):
        recorder.deleted([account(1), account(2, cost)])
    assert ledger.months(DELETED) == []


def test_a_deletions_record_is_on_the_disk_first(
    recorder: Recorder, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file before its name is there, then the folders that have the names."""
    synced: list[str] = []
    fsync = os.fsync

    def watch(number: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{number}"))
        fsync(number)

    monkeypatch.setattr(os, "fsync", watch)
    file = recorder.deleted([account(1)])
    folder = (ledger.root / file.name).parent
    assert synced[0].endswith(".partial")
    assert synced[1:] == [str(folder), str(folder.parent), str(ledger.root), str(ledger.root.parent)]


def _seen(cost: str, balance: str | None = None, number: int = 1) -> SubAccount:
    amount = None if balance is None else Decimal(balance)
    return msgspec.structs.replace(account(number, cost), balance=amount)


@pytest.mark.parametrize(
    ("minutes", "seen", "last", "cost"),
    [(1, "29", "0", "29"), (6, "29", "0", "0"), (1, "0", "29", "29"), (1, "50.5", "50.2", "50.5")],
)
def test_a_record_is_not_below_a_snapshot_that_may_have_looked_later(
    recorder: Recorder, ledger: Ledger, clock: Clock, minutes: int, seen: str, last: str, cost: str
) -> None:
    """A snapshot may take minutes: what it saw may be newer than a look that was begun later."""
    recorder.take(Platform(_seen(seen, "98", 2)), run="b" * 12, control_total=False)
    clock.at += timedelta(minutes=minutes)
    recorder.deleted([_seen(last, "98", 2)], listed_at=clock.at)
    assert Book(ledger.root, clock).report().totals.month_to_date == Decimal(cost)


def test_a_snapshot_is_not_below_a_record_that_was_made_shortly_before(
    recorder: Recorder, ledger: Ledger, clock: Clock
) -> None:
    for number in (1, 2):  # each deletion has a record of its own
        recorder.deleted([_seen("50.5", number=number)], listed_at=clock.at)
        clock.at += timedelta(seconds=5)
    recorder.take(Platform(_seen("50.2"), _seen("50.2", number=2)), control_total=False)
    assert Book(ledger.root, clock).report().totals.month_to_date == Decimal(101)


class _Slow(Platform):
    """A platform at which an account is recorded and deleted while all are listed."""

    def __init__(self, recorder: Recorder, recorded: SubAccount, listed: SubAccount) -> None:
        super().__init__(listed)
        self._recorder, self._recorded = recorder, recorded

    def iter_listing(self) -> Iterator[SubAccount | UnreadableItem]:
        clock = self._recorder.clock
        clock.at += timedelta(seconds=10)
        self._recorder.deleted([self._recorded], listed_at=clock.at)
        clock.at += timedelta(seconds=20)
        return super().iter_listing()


@pytest.mark.parametrize(
    ("listed", "cost"),
    [
        (("40.5", "59"), "40.5"),
        (("40", "60"), "40.2"),
        (("91", "500"), "91"),
        (("0", "59"), "40.2"),
        (("7", None), "40.2"),
    ],
)
def test_a_snapshot_that_is_written_after_the_record_of_a_deletion_counts_nothing_twice(
    recorder: Recorder, ledger: Ledger, clock: Clock, listed: Any, cost: str
) -> None:
    slow = _Slow(recorder, _seen("40.2", "59.3"), _seen(*listed))
    recorder.take(slow, control_total=False)
    [line] = Book(ledger.root, clock).report().accounts
    assert (line.month_to_date, line.falls) == (Decimal(cost), Decimal(0))


def test_a_store_that_gives_no_file_this_time_stops_a_deletion(
    recorder: Recorder, ledger: Ledger, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = clock.at
    clock.at += timedelta(minutes=1)
    seen = recorder.take(Platform(account(1, "12")), control_total=False).file

    def fail(path: Path) -> bytes:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", fail)
        with pytest.raises(NotRead, match="A retry is safe"):
            recorder.deleted([account(1, "10")], listed_at=began)
    assert ledger.files(DELETED, "2026-11") == []
    (ledger.root / seen.name).write_text("cut")
    assert recorder.deleted([account(1, "10")], listed_at=began).rows == 1


def test_the_first_look_after_a_turn_stays_whatever_its_retry_shows(
    recorder: Recorder, ledger: Ledger, clock: Clock
) -> None:
    clock.at = local("11-01 00:05")
    first = recorder.take(Platform(account(1, "0")), control_total=False).file
    clock.at = local("11-01 00:25")
    again = recorder.take(Platform(account(1, "0.1")), control_total=False).file
    assert ledger.files(SNAPSHOTS, "2026-11") == [first, again]


def test_the_last_look_before_a_reset_stays_whatever_its_retry_shows(
    recorder: Recorder, ledger: Ledger, clock: Clock
) -> None:
    """The platform turns at 22:05, which another run has seen; then the account spends more than before."""
    looks = [("11-30 20:01", "0", "a"), ("11-30 22:01", "8", "b"), ("11-30 22:16", "1", "c")]
    for at, cost, run in [*looks, ("11-30 23:40", "9", "b")]:
        clock.at = local(at)
        recorder.take(Platform(account(1, cost)), run=run * 12, control_total=False)
    assert [file.at for file in ledger.files(SNAPSHOTS, "2026-11")][1] == local("11-30 22:01")
    assert Book(ledger.root, clock).report().totals.month_to_date == 8


def test_a_control_total_counts_with_its_snapshot_only(
    recorder: Recorder, ledger: Ledger, clock: Clock
) -> None:
    recorder.take(Platform(account(1, "80"), usage="80"))
    clock.at += timedelta(minutes=9)
    recorder.take(Platform(account(1, "81"), usage=NotSent("429")))
    assert len(ledger.files(SNAPSHOTS, "2026-11")) == 1
    assert Book(ledger.root, clock).report().main_difference is None


@pytest.mark.parametrize("seconds", [0, 14 * 60 * 60 + 59 * 60 + 59.5], ids=["on a day", "at the turn"])
def test_the_last_account_may_be_listed_once_more_before_it_is_deleted(
    recorder: Recorder, ledger: Ledger, clock: Clock, seconds: float
) -> None:
    clock.at = local("11-30 09:00") + timedelta(seconds=seconds)
    recorder.deleted([_seen("6")], listed_at=clock.at)
    clock.at += timedelta(seconds=1)
    recorder.take(Platform(_seen("6")), control_total=False)
    clock.at += timedelta(days=1)
    assert recorder.take(Platform(), run="b" * 12, control_total=False).total == 0


def test_a_balance_of_no_size_that_money_has_is_left_out(recorder: Recorder, ledger: Ledger) -> None:
    file = recorder.take(Platform(_seen("6", "1e19")), control_total=False).file
    assert ledger.read(file, ["monthly_cost", "balance"]) == [[Decimal(6)], [None]]


@pytest.mark.parametrize(("first", "second"), [(("100", None), ("80", None)), (("30", "70"), ("36", "164"))])
def test_a_refund_or_a_new_balance_is_recorded_as_it_is_listed(
    recorder: Recorder, ledger: Ledger, clock: Clock, first: Any, second: Any
) -> None:
    recorder.take(Platform(_seen(*first)), run="b" * 12, control_total=False)
    clock.at += timedelta(minutes=2)
    assert recorder.take(Platform(_seen(*second)), control_total=False).total == Decimal(second[0])
    clock.at += timedelta(minutes=2)
    record = recorder.deleted([_seen(*second)], listed_at=clock.at)
    assert ledger.read(record, ["monthly_cost"]) == [[Decimal(second[0])]]
