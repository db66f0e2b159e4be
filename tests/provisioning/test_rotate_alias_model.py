"""400 days of rotation where a sink keeps one secret for an alias: the newest keys, and no older one."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from test_rotate_model import DAYS, LAG, START, STEPS, Account, Model, day, worlds

from airflow_provider_closeai.provisioning.rotate import decide
from airflow_provider_closeai.sinks.base import newest

EXAMPLES = 15


@dataclass
class AliasModel(Model):
    """As the model of other sinks, with one secret, which is written anew when its keys are others."""

    secret: list[int] = field(default_factory=list)
    written: datetime = START
    first: datetime | None = None  # when the secret came to be
    left: dict[int, datetime] = field(default_factory=dict)  # when a key was replaced in the secret

    def run(self, dies_after: int) -> None:
        listed = [each for each in self.accounts if each.created <= self.now - LAG]
        seen = [each for each in listed if each.gone is None or each.gone > self.now - LAG]
        held = {each.id: self.written if self.is_dated else None for each in seen if each.id in self.secret}
        present = {each.id for each in self._newest(seen)}
        replaced = {each.id for each in seen} - present
        plan = decide(self.request, [each.listed() for each in seen], held, self.now, replaced)
        going = {account.id for account in plan.delete}
        for step in range(dies_after):
            self.now += timedelta(minutes=1)
            if step == 0:
                self._write([each for each in seen if each.id not in going])
            elif step == 1:
                for each in [each for each in seen if each.id in going and each.gone is None]:
                    self._check_users_of(each)
                    each.gone = self.now
            elif step == 2 and plan.create:
                wanted = plan.creation(self.request)
                counted = [each for each in self.there() if each.id not in wanted.besides]
                for _ in range(max(wanted.count - len(counted), 0)):
                    self.accounts.append(Account(len(self.accounts), self.now))
            elif step == 3 and plan.create:
                self._write(self.there())
            self.check_secret()

    def _newest(self, accounts: list[Account]) -> list[Account]:
        chosen = newest([each.listed() for each in accounts], {"a": self.request.wanted.count})
        return [self.accounts[account.id] for account in chosen]

    def _write(self, accounts: list[Account]) -> None:
        ids = [each.id for each in self._newest(accounts)]
        if ids and ids != self.secret:
            self.left |= {each: self.now for each in self.secret if each not in ids}
            self.secret, self.written, self.first = ids, self.now, self.first or self.now

    def _check_users_of(self, going: Account) -> None:
        """Whoever reads the secret now and then, within grace, does not use this key any more."""
        assert self.now - going.created >= self.request.every, "it goes, and is not old"
        assert going.id not in self.secret, "it goes, and is in the secret"
        since = self.left.get(going.id, self.first or self.now)
        if self.is_dated:
            assert self.now - since >= self.request.grace - timedelta(minutes=STEPS), "it goes too early"

    def check_secret(self) -> None:
        there = {each.id for each in self.there()}
        assert not self.secret or set(self.secret) & there, "no key of the secret works"
        most = max(2 * self.request.wanted.count, sum(each.was_there for each in self.accounts))
        assert len(there) <= most + self.request.wanted.count * any(each.was_there for each in self.there())


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=set(Phase) - {Phase.shrink},
)
@given(world=worlds(), seed=st.integers(0, 2**32), crashes=st.sampled_from([0.0, 0.3, 0.7]))
def test_a_secret_of_an_alias_always_has_a_key_that_works(
    world: tuple[Model, timedelta], seed: int, crashes: float
) -> None:
    plain, longest = world
    model = AliasModel(plain.request, plain.is_dated, accounts=plain.accounts)
    request, chance = model.request, random.Random(seed)
    end = START + min(day(DAYS), longest * 400)
    while model.now < end:
        model.run(chance.randrange(STEPS) if chance.random() < crashes else STEPS)
        model.now += longest * chance.random()
    # In the end all goes well for a while, and what is old goes.
    gap, turns = request.grace / 3, len(model.there()) + request.wanted.count
    for _ in range(5 * turns * 2 + 2 * round(request.every / gap)):
        model.run(STEPS)
        model.now += gap
    oldest = min(each.created for each in model.there())
    assert model.now - oldest <= 2 * request.every + 2 * turns * request.grace, "an old one is left"
    assert len(model.secret) == request.wanted.count


def test_the_newest_are_what_rotation_keeps() -> None:
    accounts: list[Any] = [Account(number, START + day(number)).listed() for number in range(4)]
    assert [each.id for each in newest(accounts, {"a": 2})] == [3, 2]
    assert [each.id for each in newest(accounts, {})] == [3, 2, 1, 0]
