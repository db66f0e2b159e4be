"""The decision of a create against a small model of the platform: exactly ``count``, whatever happens."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import examples
from test_create_decision import DEADLINE, LIMITS, MAX_LATE, UNKNOWN, account, decision

from airflow_provider_closeai.client.errors import Declined, OutcomeUnknown, RateLimited
from airflow_provider_closeai.client.models import SubAccount
from airflow_provider_closeai.local_state import Clock
from airflow_provider_closeai.provisioning.create import CreateDecision
from airflow_provider_closeai.provisioning.errors import NotConfirmed, UnexpectedAnswer
from airflow_provider_closeai.provisioning.journal import CreateJournal
from airflow_provider_closeai.provisioning.steps import Done, List, Listing, Post, Wait


class Text:
    def __init__(self) -> None:
        self.text: str | None = None

    def read(self) -> str | None:
        return self.text

    def write(self, text: str) -> None:
        self.text = text


class Killed(Exception):
    pass


class Model:
    """A platform that executes late, lists late and differently by base, and loses answers."""

    def __init__(self, lags: list[float]) -> None:
        self.now = 10_000.0
        self.lags = lags
        self.born: list[float] = []  # by id, from 1
        self.here, self.own = Text(), Text()

    def listing(self, base: int) -> list[SubAccount]:
        lag = self.lags[base % len(self.lags)]
        return [account(number) for number, at in enumerate(self.born, 1) if at + lag <= self.now]

    def run(self, count: int, batch: int, troubles: Troubles, *, is_retry: bool, own: bool) -> Any:
        self.now += troubles.wait
        journal = CreateJournal(
            self.here,
            self.own if own else None,
            task="t",
            is_retry=is_retry,
            limits=LIMITS,
            clock=Clock(monotonic=lambda: self.now),
        )
        made = decision(count, batch_size=batch, earlier=journal.earlier)
        for number in range(500):
            if number == troubles.dies_after:
                raise Killed
            step = made.next_step(self.now)
            if isinstance(step, Wait):
                self.now += step.seconds
            elif isinstance(step, List):
                base = troubles.bases[number % len(troubles.bases)]
                self.now += 0.1
                made.listed(Listing(self.listing(base), self.now, self.now, is_whole=step.is_whole))
            elif isinstance(step, Post):
                journal.begin_post(made.before)
                self._post(made, journal, step.count, troubles)
            elif isinstance(step, Done):
                if made.is_settled:
                    journal.settled(made.before)
                return step.accounts
            else:
                raise step.error
        raise AssertionError("it goes on for ever")

    def _post(self, made: CreateDecision, journal: CreateJournal, count: int, troubles: Troubles) -> None:
        kind, late = troubles.next_post()
        if kind == "refused":
            if made.posted_nothing:
                journal.not_posted(made.before)
            made.not_executed(RateLimited("later", call="create"))
            return
        if kind == "waits":
            self.now += DEADLINE - 1  # a 429 first
        executed = count // 2 if kind in ("half", "no and half") else 0 if kind == "lost" else count
        first = len(self.born) + 1
        self.born += [self.now + (late if kind != "answered" else 0.0)] * executed
        if kind == "killed":
            raise Killed
        if kind == "no and half":
            made.declined(Declined("no", call="create"), self.now)
        elif kind in ("answered", "half") and not late:
            made.answered([account(number) for number in range(first, first + executed)], count, self.now)
        else:
            made.unknown(UNKNOWN, self.now)


class Troubles:
    def __init__(
        self, posts: list[tuple[str, float]], bases: list[int], dies_after: int | None, wait: float
    ) -> None:
        self.posts, self.bases, self.dies_after, self.wait = posts, bases, dies_after, wait
        self._number = 0

    def next_post(self) -> tuple[str, float]:
        self._number += 1
        return self.posts[self._number - 1] if self._number <= len(self.posts) else ("answered", 0.0)

    def __repr__(self) -> str:
        return json.dumps([self.posts, self.bases, self.dies_after, self.wait])


TROUBLED = Killed, OutcomeUnknown, RateLimited, Declined, NotConfirmed, UnexpectedAnswer


KINDS = ("answered", "half", "unknown", "lost", "refused", "waits", "killed", "no and half")


TROUBLES = st.builds(
    Troubles,
    posts=st.lists(
        st.tuples(st.sampled_from(KINDS), st.sampled_from((0.0, 6.0, 31.0, MAX_LATE))), max_size=3
    ),
    bases=st.lists(st.integers(0, 1), min_size=1, max_size=3),
    dies_after=st.one_of(st.none(), st.integers(0, 12)),
    wait=st.sampled_from((0.0, 1.0, 29.0, 61.0, 95.0, 300.0)),
)


@pytest.mark.property
@settings(
    max_examples=examples(120, 8000), deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
@given(
    count=st.integers(1, 5),
    batch=st.sampled_from((1, 2, 100)),
    lags=st.lists(st.sampled_from((0.0, 5.0, 29.0)), min_size=1, max_size=2),
    tries=st.lists(TROUBLES, max_size=4),
    retries=st.lists(st.booleans(), min_size=5, max_size=5),
)
def test_exactly_count_whatever_happens(
    count: int, batch: int, lags: list[float], tries: list[Troubles], retries: list[bool]
) -> None:
    """``tries``: of one task, or of several of one host, one after the other, the last without trouble."""
    model = Model(lags)
    last = Troubles([], [0, 1], None, 0.0)
    for number, troubles in enumerate([*tries, last]):
        try:
            found = model.run(count, batch, troubles, is_retry=number > 0 and retries[number], own=False)
        except TROUBLED:
            assert troubles is not last
        else:
            assert len(found) == count
        assert len(model.born) <= count
    assert len(model.born) == count


@pytest.mark.property
@settings(
    max_examples=examples(80, 6000), deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
@given(
    count=st.integers(1, 4),
    batch=st.sampled_from((1, 100)),
    lags=st.lists(st.sampled_from((0.0, 29.0)), min_size=1, max_size=2),
    tries=st.lists(TROUBLES, max_size=4),
    own=st.booleans(),
)
def test_exactly_count_where_each_try_runs_on_another_host(
    count: int, batch: int, lags: list[float], tries: list[Troubles], own: bool
) -> None:
    """Of one task: only its own journal goes with it, where there is one."""
    model = Model(lags)
    last = Troubles([], [0, 1], None, 0.0)
    for number, troubles in enumerate([*tries, last]):
        model.here = Text()
        try:
            found = model.run(count, batch, troubles, is_retry=number > 0, own=own)
        except TROUBLED:
            assert troubles is not last
        else:
            assert len(found) == count
    assert len(model.born) == count
