"""
400 days of rotation against a small model of the platform and of a sink.

Runs come at random times, and each may die between any two of its steps; the listing lags; keys are of any
ages at first, held by the sink or not. What is promised holds all the time, and in the end nothing is old.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from support import examples

from airflow_provider_closeai.client.models import SecretToken, SubAccount
from airflow_provider_closeai.provisioning.requests import RotateRequest
from airflow_provider_closeai.provisioning.rotate import decide

START = datetime(2027, 1, 1, tzinfo=UTC)
DAYS = 400
HOUR = timedelta(hours=1)
STEPS = 5  # of a run, between which it may die
LAG = timedelta(seconds=30)


def day(number: float) -> timedelta:
    return timedelta(days=number)


@dataclass
class Account:
    id: int
    created: datetime
    held: datetime | None = None  # since when the sink has it
    gone: datetime | None = None
    was_there: bool = False

    def listed(self) -> SubAccount:
        return SubAccount(
            id=self.id,
            token=SecretToken("sk-of-a-model"),
            alias="a",
            token_type="slave",
            created_at=self.created.isoformat(),
        )


@dataclass
class Model:
    """The platform, the sink and the time; ``is_dated``: the sink can say since when."""

    request: RotateRequest
    is_dated: bool
    now: datetime = START
    accounts: list[Account] = field(default_factory=list)
    began: datetime = START  # the run under way

    def there(self) -> list[Account]:
        return [each for each in self.accounts if each.gone is None]

    def run(self, dies_after: int) -> None:
        """Do what the runner does, up to a step; each takes a minute."""
        self.began = self.now
        listed = [each for each in self.accounts if each.created <= self.now - LAG]
        seen = [each for each in listed if each.gone is None or each.gone > self.now - LAG]
        held = {each.id: each.held if self.is_dated else None for each in seen if each.held is not None}
        plan = decide(self.request, [each.listed() for each in seen], held, self.now)
        going = {account.id for account in plan.delete}
        for step in range(dies_after):
            self.now += timedelta(minutes=1)
            if step == 0:
                self._deliver([each for each in seen if each.id not in going])
            elif step in (1, 2):  # one after the other: it may die between the two
                for each in [each for each in seen if each.id in going][
                    step - 1 : step if step == 1 else None
                ]:
                    self._check_successors(each)
                    each.gone = each.gone or self.now
            elif step == 3 and plan.create:
                wanted = plan.creation(self.request)
                counted = [each for each in self.there() if each.id not in wanted.besides]
                for _ in range(max(wanted.count - len(counted), 0)):
                    self.accounts.append(Account(len(self.accounts), self.now))
            elif step == 4:
                self._deliver(self.there())
            self.check()

    def _deliver(self, accounts: list[Account]) -> None:
        for each in accounts:
            each.held = each.held or self.now

    def _check_successors(self, going: Account) -> None:
        """Whoever reads the newest keys from the sink now and then, within grace, never holds a dead one."""
        grace, count = self.request.grace, self.request.wanted.count
        newer = [each for each in self.there() if (each.created, each.id) > (going.created, going.id)]
        known = [each for each in newer if self._is_known_for(each, grace)]
        assert len(known) >= count, "it goes, and fewer than count newer ones have been in use for grace"
        assert self.now - going.created >= self.request.every, "it goes, and is not old"

    def _is_known_for(self, account: Account, grace: timedelta) -> bool:
        moment = timedelta(minutes=STEPS)
        if not self.is_dated:
            return (account.held or self.now) < self.began and self.now - account.created >= grace
        return account.held is not None and self.now - account.held >= grace - moment

    def check(self) -> None:
        there = self.there()
        most = 2 * self.request.wanted.count
        assert len([each for each in there if not each.was_there]) <= most, "more than twice the count"
        if not any(each.was_there for each in there):
            assert len(there) <= most
        has_begun = any(each.held for each in self.accounts)
        assert not has_begun or any(each.held for each in there), "there is no key that works"


@st.composite
def worlds(draw: st.DrawFn) -> Any:
    count = draw(st.integers(1, 5))
    grace = draw(st.sampled_from([HOUR, day(0.5), day(2), day(7)]))
    every = grace * draw(st.sampled_from([2, 2.5, 4, 13]))
    share = draw(st.sampled_from(["10%", "50%", 3]))
    request = RotateRequest.parse("a", {"m": 1}, 1, count, every=every, grace=grace, max_rotate=share)
    model = Model(request, draw(st.booleans()))
    number = draw(st.sampled_from([0, 0, 1, count, 40]))
    oldest = draw(st.sampled_from([every, 3 * every]))
    ages = sorted((draw(st.floats(0, 1)) for _ in range(number)), reverse=True)
    is_held = draw(st.booleans())
    for each, age in enumerate(ages):
        created = START - oldest * age
        model.accounts.append(Account(each, created, created if is_held else None, was_there=True))
    longest = max(draw(st.sampled_from([grace / 4, grace, every, 2 * every])), timedelta(minutes=30))
    return model, longest


@pytest.mark.property
@settings(
    max_examples=examples(15, 500),
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=set(Phase) - {Phase.shrink},
)
@given(world=worlds(), seed=st.integers(0, 2**32), crashes=st.sampled_from([0.0, 0.3, 0.7]))
def test_there_is_always_a_key_that_works_and_in_the_end_no_old_one(
    world: tuple[Model, timedelta], seed: int, crashes: float
) -> None:
    model, longest = world
    request, chance = model.request, random.Random(seed)
    end = START + min(day(DAYS), longest * 400)
    while model.now < end:
        model.run(chance.randrange(STEPS) if chance.random() < crashes else STEPS)
        model.now += longest * chance.random()
    # In the end all goes well for a while: keys that are late take their turns, one after the other.
    gap = request.grace / 3
    for _ in range(5 * (len(model.there()) + request.wanted.count) + round(request.every / gap) + 5):
        model.run(STEPS)
        model.now += gap
    oldest = min(each.created for each in model.there())
    wave = request.grace + 3 * (gap + timedelta(minutes=2 * STEPS))
    waves = math.ceil(request.wanted.count / request.max_rotate) + 1  # of keys that are late
    assert model.now - oldest <= max(request.every + wave, waves * wave), "an old one is left"
    assert len([each for each in model.there() if each.held]) >= request.wanted.count
