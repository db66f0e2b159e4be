"""Rotations over the simulator: what exists, where the keys are, and what a kill at any step leaves."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pendulum
import pytest
from support import Asked, config_of, item, platform, process, run_and_kill

from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.config import config_from
from airflow_provider_closeai.client.errors import (
    CloseAIError,
    MaskedKeys,
    OutcomeUnknown,
    Rejected,
    UnreadableAccount,
)
from airflow_provider_closeai.client.models import SubAccount
from airflow_provider_closeai.local_state import Clock
from airflow_provider_closeai.provisioning import runner
from airflow_provider_closeai.provisioning.errors import ClockDisagrees
from airflow_provider_closeai.provisioning.requests import RotateRequest
from airflow_provider_closeai.provisioning.runner import Rotation
from airflow_provider_closeai.simulator import Request, Simulator
from airflow_provider_closeai.sinks.base import SinkKeys

START = datetime(2027, 1, 1, tzinfo=UTC)


class Sink:
    """Keeps keys in a file, so that other processes see them; says what it holds if it is asked to."""

    def __init__(self, path: Path, now: Callable[[], float]) -> None:
        self.path, self.now = path, now

    def keys(self) -> dict[str, Any]:
        return json.loads(self.path.read_text()) if self.path.exists() else {}

    def deliver(self, account: SubAccount) -> str:
        keys = self.keys()
        if keys.get(str(account.id), [None])[0] != account.token.reveal():
            self.path.write_text(json.dumps({**keys, str(account.id): [account.token.reveal(), self.now()]}))
        return f"key-{account.id}"


class DatedSink(Sink):
    def held(self, accounts: Any) -> dict[int, datetime | None]:
        keys = self.keys()
        return {
            each.id: datetime.fromtimestamp(keys[str(each.id)][1], UTC)
            for each in accounts
            if keys.get(str(each.id), [None])[0] == each.token.reveal()
        }


class UndatedSink(DatedSink):
    def held(self, accounts: Any) -> dict[int, datetime | None]:
        return dict.fromkeys(super().held(accounts))


SINKS = [Sink, DatedSink, UndatedSink]


@pytest.fixture
def sim() -> Any:
    with Simulator(start=START) as simulator:
        yield simulator


def rotate(
    config: Any,
    now: float,
    sink: Sink,
    count: int = 2,
    *,
    is_retry: bool = False,
    record: Any = None,
    **options: Any,
) -> Rotation:
    """Run one rotation in a world whose time stands still but for what the run itself waits."""
    waited = [0.0]
    real = Clock()

    def sleep(seconds: float) -> None:
        waited[0] += seconds
        real.sleep(min(seconds, 0.3))

    clock = Clock(now=lambda: now + waited[0], monotonic=lambda: real.monotonic() + waited[0], sleep=sleep)
    client = CloseAIClient(config, clock=clock)
    parameters = {"settle": 0.2, "every": "90d", "grace": "7d", **options}
    request = RotateRequest.parse("a", {"gpt-4": 1}, 5, count, **parameters)
    this_try = runner.Try(task="d/r/t/-1", is_retry=is_retry)
    return runner.rotate(client, request, SinkKeys(sink, {"a": count}, str), this_try, record)


@pytest.fixture
def turn(sim: Simulator, tmp_path: Path) -> Callable[..., Rotation]:
    """Let days pass, then rotate, as a process of its own would."""

    def run(days: float, kind: type[Sink] = DatedSink, **options: Any) -> Rotation:
        sim.clock.advance(days=days)
        now = sim.clock.now().timestamp()
        return rotate(config_of(sim), now, kind(tmp_path / "keys", lambda: now), **options)

    return run


def ids(sim: Simulator) -> list[int]:
    return [account["id"] for account in sim.accounts("a")]


@pytest.mark.parametrize("kind", SINKS)
def test_a_life_of_keys(sim: Simulator, turn: Callable[..., Rotation], kind: type[Sink]) -> None:
    first = turn(0, kind)
    assert (first.created, first.delivered, first.deleted) == ((1, 2), (1, 2), ())
    assert first.references == {1: "key-1", 2: "key-2"}
    again = turn(1, kind)
    assert (again.created, again.delivered, again.deleted) == ((), (), ())
    assert again.due == first.due
    assert ids(sim) == [1, 2]
    assert turn(88.9, kind).created == ()
    assert turn(0.2, kind).created == (3, 4)
    assert turn(6.8, kind).deleted == ()
    last = turn(0.3, kind)
    assert [account.id for account in last.deleted] == [1, 2]
    assert ids(sim) == [3, 4]
    assert (sim.count("create"), sim.count("delete")) == (2, 2)


@pytest.mark.parametrize("status", [400, 500])
def test_a_key_that_the_platform_does_not_delete_keeps_no_other_from_a_successor(
    sim: Simulator, turn: Callable[..., Rotation], status: int
) -> None:
    for days in (80, 30, 20):
        sim.add_account("a", created_at=sim.clock.now() - timedelta(days=days))
    turn(0)
    sim.fault("delete", "status", status=status, body={"error": {"message": "frozen"}}, times=None)
    for there in ([1, 2, 3], [1, 2, 3, 4], [1, 2, 3, 4]):  # never more than twice as many as wanted
        with pytest.raises((Rejected, OutcomeUnknown), match=r"Sub-accounts \[1"):
            turn(35)
        assert ids(sim) == there


def test_a_key_that_the_platform_does_not_delete_keeps_no_other_from_going(
    sim: Simulator, turn: Callable[..., Rotation]
) -> None:
    turn(0)
    turn(90)
    sim.fault("delete", "status", status=400, body={"error": {"message": "frozen"}}, times=1)
    with pytest.raises(Rejected, match=r"\[1\] are not deleted.*ids \[2\] were deleted"):
        turn(10)
    assert ids(sim) == [1, 3, 4]


def test_what_is_created_has_the_prices_wanted_now_and_nothing_else_is_touched(
    sim: Simulator, turn: Callable[..., Rotation]
) -> None:
    others = [sim.add_account("ab"), sim.add_account("A"), sim.add_account("")]
    there = sim.add_account("a", [{"model": "old", "pricing_factor": 2}])
    turn(90, count=1)
    now = {account["id"]: account for account in sim.accounts()}
    kept = ("token", "alias", "model_pricing", "enabled", "updated_at")
    for each in [*others, there]:
        assert [now[each["id"]][name] for name in kept] == [each[name] for name in kept]
    [new] = [account for number, account in now.items() if number > there["id"]]
    assert [entry["model"] for entry in new["model_pricing"]] == ["gpt-4"]


def test_the_result_is_json_without_keys_and_of_one_shape(
    sim: Simulator, turn: Callable[..., Rotation]
) -> None:
    results = [turn(days).record() for days in (0, 1, 89, 8)]
    shapes = {tuple(result) for result in results}
    assert len(shapes) == 1
    assert [len(result["deleted"]) for result in results] == [0, 0, 0, 2]
    text = json.dumps(results)
    assert not [account["token"] for account in sim.accounts() if account["token"] in text]
    fields = [[list(record) for record in result["sub_accounts"]] for result in results]
    assert fields[0] == fields[1]
    assert fields[0][0][-1] == "delivered_to"
    assert results[0]["next_due"].startswith("2027-04-01T00:01")


def test_last_costs_are_recorded_before_the_deletion_and_a_record_that_fails_stops_it(
    sim: Simulator, turn: Callable[..., Rotation]
) -> None:
    turn(0), turn(90)
    seen: list[Any] = []

    def fail(accounts: Any, listed_at: datetime) -> None:
        raise CloseAIError("the ledger is full", call="record")

    with pytest.raises(CloseAIError, match="ledger"):
        turn(8, record=fail)
    assert ids(sim) == [1, 2, 3, 4]
    turn(0, record=lambda accounts, _: seen.extend((each.id, len(ids(sim))) for each in accounts))
    assert seen == [(1, 4), (2, 4)]


def test_last_costs_are_of_the_look_before_the_deletion_however_long_the_delivery_takes(
    sim: Simulator, turn: Callable[..., Rotation], tmp_path: Path
) -> None:
    """A snapshot that was made meanwhile is older than they are."""
    turn(0), turn(90)
    sim.clock.advance(days=8)
    began = sim.clock.now()
    now, recorded = [began], []

    class SlowSink(DatedSink):
        def deliver(self, account: SubAccount) -> str:
            now[0] += timedelta(minutes=4)
            return super().deliver(account)

    client = CloseAIClient(config_of(sim), clock=Clock(now=lambda: now[0].timestamp()))
    request = RotateRequest.parse("a", {"gpt-4": 1}, 5, 2, every="90d", grace="7d")
    sink = SlowSink(tmp_path / "keys", lambda: now[0].timestamp())
    runner.rotate(
        client, request, SinkKeys(sink, {"a": 2}, str), record=lambda *given: recorded.append(given)
    )
    assert [listed_at for _, listed_at in recorded] == [began + timedelta(minutes=8)]


def test_adoption_is_no_herd(sim: Simulator, turn: Callable[..., Rotation]) -> None:
    for _ in range(40):
        sim.add_account("a")
    first = turn(200, count=40)
    assert (len(first.delivered), len(first.created), first.deleted) == (44, 4, ())
    assert not turn(3, count=40).created
    second = turn(4.1, count=40)
    assert [account.id for account in second.deleted] == [1, 2, 3, 4]
    assert len(second.created) == 4


def test_a_sink_that_fails_leaves_the_old_keys(sim: Simulator, turn: Callable[..., Rotation]) -> None:
    class Full(DatedSink):
        def deliver(self, account: SubAccount) -> str:
            raise OSError("full")

    class Silent(DatedSink):
        def held(self, accounts: Any) -> Any:
            raise OSError("down")

    class Naive(DatedSink):
        def held(self, accounts: Any) -> Any:
            return {each.id: datetime(2020, 1, 1) for each in accounts}

    turn(0), turn(90)
    for kind in (Full, Silent, Naive):
        with pytest.raises(CloseAIError, match=kind.__name__):
            turn(8, kind)
    assert ids(sim) == [1, 2, 3, 4]


@pytest.mark.parametrize("minutes", [-11, 11])
def test_clocks_that_differ_stop_it(sim: Simulator, tmp_path: Path, minutes: float) -> None:
    sim.add_account("a", created_at=START - timedelta(days=200))
    now = START.timestamp() + minutes * 60
    with pytest.raises(ClockDisagrees, match="differ by more than 10 minutes"):
        rotate(config_of(sim), now, DatedSink(tmp_path / "keys", lambda: now))
    assert sim.count("create") == sim.count("delete") == 0
    assert not (tmp_path / "keys").exists()


def test_an_answer_without_a_date_stops_it(tmp_path: Path) -> None:
    def reply(asked: Asked) -> Any:
        page = {"items": [item(1)], "total": 1, "page": 1, "pageSize": 500}
        return 200, page, {"Date": "yesterday"}

    with platform(reply) as (base, asked):
        config = config_from(password="sk-test", extra={"api_bases": [base]})
        now = START.timestamp()
        with pytest.raises(ClockDisagrees):
            rotate(config, now, DatedSink(tmp_path / "keys", lambda: now))
        assert {each.method for each in asked} == {"GET"}


def test_an_account_whose_time_cannot_be_read_is_left_alone_and_named(
    sim: Simulator, turn: Callable[..., Rotation], caplog: pytest.LogCaptureFixture
) -> None:
    turn(0)
    sim.spoil(1, "created_at", '"long ago"')
    done = turn(90)
    assert (done.created, done.untouched) == ((3,), (1,))
    assert "[1] are left alone" in caplog.text
    assert [account.id for account in turn(8).deleted] == [2]
    assert ids(sim) == [1, 3]


def test_what_cannot_be_read_or_is_hidden_changes_nothing(
    sim: Simulator, turn: Callable[..., Rotation]
) -> None:
    turn(0), turn(90)
    sim.settings.mask_tokens = True
    with pytest.raises(MaskedKeys):
        turn(8)
    sim.settings.mask_tokens = False
    sim.spoil(3, "monthly_cost", '"many"')
    with pytest.raises(UnreadableAccount):
        turn(0)
    assert ids(sim) == [1, 2, 3, 4]


# --- Kills -------------------------------------------------------------------------------------------------


def victim(key: str, host: str, now: float, kind: type[Sink], path: Path) -> None:
    config = config_from(password=key, host=host, extra={"max_late": 1})
    rotate(config, now, kind(path, lambda: now))


STEPS = {
    "looking": (90.0, ("list", 0)),
    "create sent": (90.0, ("create", 0)),  # and worked on while nobody waits for it
    "created": (90.0, ("list", 2)),  # not delivered
    "delete sent": (98.0, ("delete", 0)),
    "deleted": (98.0, ("list", 2)),  # not read back
}
KILLS: list[Any] = [(step, DatedSink, 0.0) for step in STEPS]
KILLS += [("created", kind, 30.0) for kind in SINKS]
KILLS += [pytest.param(step, Sink, 0.0, marks=pytest.mark.deep) for step in STEPS]


@pytest.mark.parametrize(("step", "kind", "later"), KILLS)
def test_a_kill_at_any_step_is_recovered_exactly(
    sim: Simulator,
    turn: Callable[..., Rotation],
    tmp_path: Path,
    step: str,
    kind: type[Sink],
    later: float,
) -> None:
    days, (call, number) = STEPS[step]
    turn(0, kind)
    if days > 90:
        turn(90, kind)
        sim.clock.advance(days=days - 90)
    else:
        sim.clock.advance(days=days)
    before = sim.count(call)

    def is_due(request: Request) -> bool:
        return request.call == call and sim.count(call) == before + number + 1

    now = sim.clock.now().timestamp()
    dead = process(victim, sim.key, sim.discovery_url, now, kind, tmp_path / "keys")
    run_and_kill(sim, dead, is_due)
    keys = {account["token"] for account in sim.accounts("a")}
    in_use = {key for key, _ in kind(tmp_path / "keys", lambda: 0).keys().values()}
    assert keys & in_use, "there is no key that works"
    turn(later, kind, is_retry=not later)
    assert len(ids(sim)) in (2, 4)
    assert sim.count("create") <= 2 + (step == "create sent")
    turn(8, kind)
    assert ids(sim) == [3, 4]
    assert {key for key, _ in kind(tmp_path / "keys", lambda: 0).keys().values()} >= {
        account["token"] for account in sim.accounts("a")
    }


@pytest.mark.parametrize("kind", [DatedSink, UndatedSink])
def test_a_key_first_delivered_late_relieves_none_in_that_run(
    sim: Simulator, turn: Callable[..., Rotation], tmp_path: Path, kind: type[Sink]
) -> None:
    turn(0, kind, count=1), turn(90, kind, count=1)
    keys = kind(tmp_path / "keys", lambda: 0).keys()
    del keys["2"]  # as if it had been killed before it was delivered
    (tmp_path / "keys").write_text(json.dumps(keys))
    late = turn(8, kind, count=1)
    assert (late.delivered, late.deleted) == ((2,), ())
    turn(8, kind, count=1)
    assert ids(sim) == [2]


def test_where_a_sink_says_nothing_another_host_begins_anew(
    sim: Simulator, turn: Callable[..., Rotation], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn(0, Sink, count=1), turn(90, Sink, count=1)
    (tmp_path / "host").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "host"))
    there = turn(8, Sink, count=1)
    assert (there.delivered, there.deleted) == ((1, 2), ())
    assert [account.id for account in turn(8, Sink, count=1).deleted] == [1]


def test_a_rotation_that_another_hosts_overtakes(
    sim: Simulator, tmp_path: Path, host: Callable[[str], Clock]
) -> None:
    """A second key becomes old between their looks: what the other one made is no surplus."""
    now, config = START.timestamp(), config_of(sim)
    others: list[Rotation] = []

    class Overtaken(DatedSink):
        def held(self, accounts: Any) -> dict[int, datetime | None]:
            said = super().held(accounts)
            if not others:
                host("b")
                others.append(rotate(config, now + 120, DatedSink(self.path, lambda: now), max_rotate="100%"))
                host("a")
            return said

    keys = {}
    for minutes in (5, -1):
        account = sim.add_account("a", created_at=START - timedelta(days=90, minutes=minutes))
        keys[account["id"]] = [account["token"], now - 90 * 86400]
    (tmp_path / "keys").write_text(json.dumps(keys))
    host("a")
    rotate(config, now, Overtaken(tmp_path / "keys", lambda: now), max_rotate="100%")
    assert others[0].created == (3, 4)
    assert ids(sim) == [1, 2, 3, 4]


@pytest.mark.parametrize("days", [-30, 3])
def test_a_moment_of_pendulum_is_as_any_other(
    sim: Simulator, turn: Callable[..., Rotation], days: int
) -> None:
    """It does not add to plain times, and Airflow gives it to those who write DAGs."""
    begins = pendulum.instance(START).in_timezone("Asia/Shanghai").add(days=91 + days)
    turn(0, DatedSink, count=1)
    due = turn(91, DatedSink, count=1, rotate_from=begins).due
    assert due is not None
    assert sim.count("create") == 1 + (days < 0)
    assert days < 0 or timedelta(0) <= due - begins <= timedelta(minutes=1)
