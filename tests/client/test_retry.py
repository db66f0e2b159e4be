"""When to send again: the decisions as tables, and the loop that carries them out."""

from __future__ import annotations

import email.utils
import signal
import threading
import time
from typing import Any

import pytest
from support import Sleeps, client_of

from airflow_provider_closeai.client.answers import Attempt, Outcome
from airflow_provider_closeai.client.retry import (
    Progress,
    may_help,
    preferred,
    retrying,
    wait_before_next,
)
from airflow_provider_closeai.client.retry_after import parse_retry_after
from airflow_provider_closeai.local_state import Clock
from airflow_provider_closeai.simulator import Request, Simulator


def made(
    base: str, outcome: Outcome = Outcome.UNKNOWN, status: int | None = None, wait: float | None = None
) -> Attempt:
    return Attempt(base=base, outcome=outcome, detail="x", status=status, retry_after=wait)


SENT_NOT, UNKNOWN, REJECTED, EXECUTED = Outcome.NOT_SENT, Outcome.UNKNOWN, Outcome.REJECTED, Outcome.EXECUTED


@pytest.mark.parametrize(
    ("outcome", "status", "a_create", "anything_else"),
    [
        (SENT_NOT, None, True, True),
        (UNKNOWN, None, False, True),
        (UNKNOWN, 500, False, True),
        (UNKNOWN, 429, False, True),
        (REJECTED, 429, True, True),
        (REJECTED, 408, True, True),
        (REJECTED, 400, False, False),
        (REJECTED, 401, False, False),
        (REJECTED, 403, False, False),
        (REJECTED, 404, False, False),
        (REJECTED, 409, False, False),
        (REJECTED, 425, False, False),
        (Outcome.DECLINED, 200, False, False),
        (EXECUTED, 200, False, False),
    ],
)
def test_may_help(outcome: Outcome, status: int | None, a_create: bool, anything_else: bool) -> None:
    assert may_help(made("a", outcome, status), repeatable=False) is a_create
    assert may_help(made("a", outcome, status), repeatable=True) is anything_else


@pytest.mark.parametrize(
    ("attempts", "bases", "jitter", "wait"),
    [
        ([made("a")], 2, 0.5, 0),
        ([made("a", wait=9)], 2, 0.5, 0),
        ([made("a"), made("b")], 2, 1.0, 0.5),
        ([made("a"), made("b")], 2, 0.0, 0.25),
        ([made("a"), made("b", wait=9)], 2, 0.5, 9),
        ([made("a")], 1, 1.0, 0.5),
        ([made("a")] * 2, 1, 1.0, 1),
        ([made("a")] * 3, 1, 1.0, 2),
        ([made("a")] * 50, 1, 1.0, 30),
        ([made("a"), made("b")] * 2, 2, 1.0, 1),
        ([made("a"), made("b")] * 3, 2, 1.0, 2),
        ([made("a", REJECTED, 429)], 3, 1.0, 0.5),
        ([made("a", REJECTED, 429)] * 2, 3, 1.0, 1),
        ([made("a", REJECTED, 429, wait=7)], 3, 1.0, 7),
        ([made("a", REJECTED, 429, wait=0)], 3, 1.0, 0),
    ],
)
def test_wait_before_next(attempts: list[Attempt], bases: int, jitter: float, wait: float) -> None:
    assert wait_before_next(attempts, bases, lambda: jitter) == wait


@pytest.mark.parametrize(
    ("attempts", "order"),
    [
        ([], "abc"),
        ([made("a")], "bca"),
        ([made("a"), made("b")], "cab"),
        ([made("a"), made("b"), made("c")], "abc"),
        ([made("b")], "acb"),
        ([made("a", REJECTED, 429)], "a"),
        ([made("a"), made("b", REJECTED, 429)], "b"),
        ([made("gone")], "abc"),
    ],
)
def test_preferred(attempts: list[Attempt], order: str) -> None:
    assert "".join(preferred(["a", "b", "c"], attempts)) == order


NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("value", "wait"),
    [
        (None, None),
        ("", None),
        ("0", 0),
        ("120", 120),
        (" 7 ", 7),
        (email.utils.formatdate(NOW + 90, usegmt=True), 90),
        (email.utils.formatdate(NOW - 90, usegmt=True), 0),
        ("Fri, 15 Jan 2027 08:01:30 GMT", 90),
        ("Fri Jan 15 08:01:30 2027", 90),  # asctime
        ("Friday, 15-Jan-27 08:01:30 GMT", 90),  # RFC 850
        ("Fri, 15 Jan 2027 08:01:30 -0000", 90),
        ("Fri, 15 Jan 2027 08:01:30", 90),
        ("Fri, 15 Jan 2027 08:01:30 UTC", 90),
        ("Fri, 15 Jan 2027 16:01:30 +0800", 90),
        ("15 Jan 2027 08:01:30 GMT", 90),
        ("fri, 15 jan 2027 08:01:30 gmt", 90),
        ('"Fri, 15 Jan 2027 08:01:30 GMT"', 90),
        ("Fri, 15 Jan 2037 08:01:30 GMT", 86400),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 0),
        ("2027-01-15T08:01:30Z", 90),  # ISO 8601, as some gateways send it
        ("2027-01-15T16:01:30+08:00", 90),
        ("2027-01-15 08:01:30", 90),
        ("1800000090", 90),  # and a Unix time
        ("1799999999", 0),
        ("1.5", 1.5),
        ("120 ", 120),
        ("+3", 3),
        ("10s", 10),
        ("10 seconds", 10),
        ('"10"', 10),
        ("120, 30", 120),
        (f"{NOW + 60:.0f}000", 60),
        (f"{NOW - 60:.0f}000", 0),
        ("999999999999999", 86400),
        ("soon", None),
        ("-1", None),
        ("-5.5", None),
        ("1e5", None),
        ("0x10", None),
        ("5 minutes", None),
        (",", None),
        ("Fri, 99 Foo 2027", None),
        ("Fri, 15 Jan 0000 08:01:30 GMT", 0),
        ("Fri, 15 Jan 99999 08:01:30 GMT", None),
        ("\xb2", None),
        ("٣", None),
        ("nan", None),
        ("inf", None),
        ("9" * 400, None),
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "Asia/Shanghai", "America/Los_Angeles"])
def test_parse_retry_after(
    value: str | None, wait: float | None, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert parse_retry_after(value, NOW) == wait
    finally:
        monkeypatch.undo()
        time.tzset()


class Fake:
    """A clock and a sleep that agree, and attempts that take a while."""

    def __init__(self, *attempts: Attempt, takes: float = 0) -> None:
        self.attempts, self.takes, self.now = attempts, takes, 0.0
        self.left: list[float] = []

    def once(self, so_far: list[Attempt], seconds: float) -> Attempt:
        self.left.append(seconds)
        self.now += self.takes
        return self.attempts[min(len(so_far), len(self.attempts) - 1)]

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def run(self, repeatable: bool = True, max_attempts: int = 5, deadline: float = 120) -> list[Attempt]:
        progress = Progress(end=self.now + deadline, max_attempts=max_attempts, repeatable=repeatable)
        for step in retrying(progress, Clock(monotonic=lambda: self.now, sleep=self.sleep)):
            newest = self.once(progress.attempts, progress.end - self.now)
            progress.attempts.append(newest)
            step.retry_state.set_result(newest)
        return progress.attempts


def test_attempts_are_bounded() -> None:
    for most in (1, 2, 5):
        assert len(Fake(made("a")).run(max_attempts=most)) == most


def test_the_deadline_bounds_attempts_and_waits() -> None:
    fake = Fake(made("a"), takes=50)
    assert len(fake.run(max_attempts=99, deadline=120)) == 3
    assert fake.now < 170
    assert fake.left[0] == 120
    assert all(left <= 120 - 50 * number for number, left in enumerate(fake.left))


def test_a_wait_that_would_not_end_in_time_is_not_begun() -> None:
    fake = Fake(made("a", REJECTED, 429, wait=121))
    assert len(fake.run()) == 1
    assert fake.now == 0


def test_success_ends_it() -> None:
    assert len(Fake(made("a"), made("a", EXECUTED, 200)).run()) == 2


@pytest.mark.skipif(
    threading.current_thread() is not threading.main_thread(), reason="signals need the main thread"
)
@pytest.mark.parametrize("skip", [0, 1])
def test_a_signal_ends_a_call_that_hangs(sim: Simulator, skip: int) -> None:
    """As Airflow ends a task: what its handler raises is not taken for a failed attempt."""

    class Ended(BaseException):
        pass

    def end(*args: Any) -> None:
        raise Ended

    client = client_of(sim, Sleeps())
    client.list_bases()
    sim.fault("list", "error_before", times=skip)
    sim.fault("list", "hang", times=None)
    main = threading.main_thread().ident or 0

    def hook(request: Request) -> None:
        if sim.count("list") == skip + 1:
            signal.pthread_kill(main, signal.SIGUSR1)

    sim.on_request = hook
    before = signal.signal(signal.SIGUSR1, end)
    try:
        with pytest.raises(Ended):
            list(client.iter_sub_accounts())
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert sim.count("list") == skip + 1
