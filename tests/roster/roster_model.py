"""A small model of the platform, the sink and the time, for properties of plans. Each base lags by itself."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from airflow_provider_closeai.client.models import ModelPricing, SecretToken, SubAccount
from airflow_provider_closeai.provisioning.rotate import decide as decide_rotation
from airflow_provider_closeai.roster import Plan, Roster, read_roster
from airflow_provider_closeai.roster.decide import Options, Seen, make_plan
from airflow_provider_closeai.roster.plan import CREATE, DELETE, REPRICE, Action

START = datetime(2027, 1, 1, tzinfo=UTC)
MOMENT = timedelta(minutes=1)
STEPS = 5  # of a run, between which it may die
Prices = dict[str, Decimal]


@dataclass
class Account:
    id: int
    alias: str
    created: datetime
    balance: Decimal
    prices: list[tuple[datetime, Prices]]  # since when which
    held: datetime | None = None  # since when the sink has its key
    gone: datetime | None = None
    was_there: bool = False

    def seen_at(self, moment: datetime) -> SubAccount | None:
        """Show it as it was at a moment."""
        if self.created > moment or (self.gone is not None and self.gone <= moment):
            return None
        known = [prices for since, prices in self.prices if since <= moment]
        now = known[-1] if known else self.prices[0][1]
        return SubAccount(
            id=self.id,
            token=SecretToken(f"sk-of-a-model-{self.id}"),
            alias=self.alias,
            user_id=7,
            token_type="slave",
            balance=self.balance,
            model_pricing=tuple(ModelPricing(*each) for each in now.items()),
            created_at=self.created.isoformat(),
        )


@dataclass
class Model:
    """The world; ``lags`` of each base; ``skew`` of the worker's clock."""

    roster: Roster
    lags: tuple[timedelta, ...] = (timedelta(0), timedelta(seconds=30))
    skew: timedelta = timedelta(0)
    is_dated: bool = True  # whether the sink can say since when
    now: datetime = START
    accounts: list[Account] = field(default_factory=list)
    spent: dict[str, Decimal] = field(default_factory=dict)
    touched: set[str] = field(default_factory=set)
    options: dict[str, Any] = field(default_factory=dict)

    def add(
        self, alias: str, prices: Prices | None = None, *, age: timedelta = timedelta(0), **more: Any
    ) -> Account:
        created = self.now - age
        chosen = {"old": Decimal(2)} if prices is None else prices
        account = Account(len(self.accounts) + 1, alias, created, Decimal(1), [(created, chosen)], **more)
        self.accounts.append(account)
        return account

    def there(self, alias: str | None = None) -> list[Account]:
        return [each for each in self.accounts if each.gone is None and alias in (None, each.alias)]

    def prices(self) -> dict[int, Prices]:
        return {each.id: each.prices[-1][1] for each in self.there()}

    def look(self, base: int = 0) -> Seen:
        """See what a base shows, in an order of its own."""
        moment = self.now - self.lags[base]
        shown = [each.seen_at(moment) for each in self.accounts]
        held = {
            each.id: each.held if self.is_dated else None for each in self.accounts if each.held is not None
        }
        return Seen(
            accounts=tuple(each for each in shown if each is not None),
            held=held,
            spent=dict(self.spent),
            now=self.now + self.skew,
        )

    def plan(self, base: int = 0) -> Plan:
        return make_plan(self.roster, self.look(base), Options(**self.options))

    def settle(self) -> None:
        self.now += max(self.lags) + MOMENT

    def run(self, base: int = 0, dies_after: int = STEPS) -> Plan:
        """Plan, and apply as the runner does, up to a step; each takes a minute."""
        seen = self.look(base)
        plan = make_plan(self.roster, seen, Options(**self.options))
        going = {action.id for action in plan.actions if action.kind == DELETE}
        for step in range(dies_after):
            self.now += MOMENT
            if step == 0:
                for action in self._of(plan, REPRICE):
                    account = self.accounts[(action.id or 0) - 1]
                    if account.gone is None:  # else the platform knows no such key
                        self.touched.add(account.alias)
                        account.prices.append((self.now, dict(action.after or {})))
            elif step == 1:
                self._deliver(each for each in seen.accounts if each.id not in going)
            elif step == 2:
                for action in self._of(plan, DELETE):
                    account = self.accounts[(action.id or 0) - 1]
                    self.touched.add(account.alias)
                    account.gone = account.gone or self.now
            elif step == 3:
                for action in self._of(plan, CREATE):
                    self._create(action, seen)
            else:
                self._deliver(each for each in (one.seen_at(self.now) for one in self.there()) if each)
        return plan

    def _of(self, plan: Plan, kind: str) -> Iterable[Action]:
        return [action for action in plan.actions if action.kind == kind]

    def _create(self, action: Action, seen: Seen) -> None:
        """Create exactly: what an earlier run left behind counts, once the listing can be believed."""
        entry = self.roster.entries[action.alias]
        listed = [each for each in seen.accounts if each.alias == action.alias]
        rotation = entry.rotation(action.after or {})
        besides: frozenset[int] = frozenset()
        count = len(listed) + action.number
        if rotation is not None:
            plan = decide_rotation(rotation, listed, seen.held or {}, seen.now)
            besides, count = plan.old, plan.counted + action.number
        counted = [each for each in self.there(action.alias) if each.id not in besides]
        for _ in range(max(count - len(counted), 0)):
            self.touched.add(action.alias)
            self.add(action.alias, dict(action.after or {}))

    def _deliver(self, accounts: Iterable[SubAccount]) -> None:
        for each in accounts:
            account = self.accounts[each.id - 1]
            if account.alias in self.roster.entries:
                account.held = account.held or self.now


def roster_of(*entries: dict[str, Any], **fields: Any) -> Roster:
    """Make a roster with defaults."""
    defaults = {"balance": 1, "model_pricing": {"m": 1}}
    return read_roster(
        {"version": 1, "owns": ["team-*"], "defaults": defaults, "accounts": list(entries), **fields}
    )


def shuffled(seen: Seen, seed: int) -> Seen:
    """Give the same listing in another order."""
    import msgspec

    accounts = list(seen.accounts)
    random.Random(seed).shuffle(accounts)
    return msgspec.structs.replace(seen, accounts=tuple(accounts))
