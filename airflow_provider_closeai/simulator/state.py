"""The accounts and their money: one state for all bases."""

from __future__ import annotations

import hashlib
import json
import math
import random
import secrets
import threading
import time
from collections import defaultdict
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar

from airflow_provider_closeai.simulator.accounts import Account, Truth, Version
from airflow_provider_closeai.simulator.clock import Clock, local
from airflow_provider_closeai.simulator.settings import Settings
from airflow_provider_closeai.simulator.values import ZONE, dumps, mask, stamp, to_decimal, to_text, to_units

USER_ID = 1001
T = TypeVar("T")


class State:
    """All accounts of one main account; hold ``lock`` during every use.

    :param seed: Makes keys, tokens and rates repeatable.
    """

    def __init__(self, settings: Settings, clock: Clock, seed: int | None) -> None:
        self.settings = settings
        self.clock = clock
        self.lock = threading.RLock()
        self.live: dict[int, Account] = {}
        self.tokens: dict[str, Account] = {}
        self._dead: list[Account] = []
        self._spoiled: defaultdict[int, dict[str, str]] = defaultdict(dict)
        self.changes = 0  # number of changes
        chance = random.Random(secrets.randbits(128) if seed is None else seed)
        self._salt = f"{chance.getrandbits(128):032x}"
        self._last_id = 0
        self._days: defaultdict[tuple[int, date], int] = defaultdict(int)
        self._months: defaultdict[tuple[int, str], int] = defaultdict(int)
        self.key = f"sk-main-{chance.getrandbits(160):040x}"

    def add(
        self,
        alias: str,
        model_pricing: list[dict[str, Any]],
        balance: int,
        *,
        cost: int = 0,
        token_type: str = "slave",
        created_at: datetime | None = None,
        enabled: bool = True,
        born: float | None = None,
    ) -> Account:
        """Create one account.

        :param model_pricing: Its price list, stored as given.
        :param balance: Its balance, in units.
        :param cost: Its monthly cost so far, in units.
        :param token_type: ``slave`` for a sub-account.
        :param created_at: None is now.
        :param born: Monotonic time from which a lagging listing counts; None is now.
        """
        now = self.clock.now()
        self._last_id += 1
        digest = hashlib.blake2b(f"{self._salt}/{self._last_id}".encode(), digest_size=32).digest()
        account = Account(
            id=self._last_id,
            token=f"sk-{digest[8:].hex()}",
            token_type=token_type,
            enabled=enabled,
            created_at=local(created_at) if created_at else now,
            rate=100_000 + int.from_bytes(digest[:8]) % 4_900_000,
            balance=balance,
            cost=cost,
            settled=now,
        )
        if cost:
            self._months[account.id, f"{now:%Y-%m}"] += cost
        at = time.monotonic() if born is None else born
        self._write(account, at, alias, dumps(model_pricing), account.created_at)
        self.live[account.id] = self.tokens[account.token] = account
        return account

    def update(self, account: Account, alias: str, model_pricing: list[dict[str, Any]]) -> None:
        """Replace an account's alias and entire price list."""
        self._write(account, time.monotonic(), alias, dumps(model_pricing), self.clock.now())

    def delete(self, account: Account) -> None:
        """Delete an account; its costs end now."""
        self.settle(account)
        account.died = time.monotonic()
        del self.live[account.id], self.tokens[account.token]
        self.changes += 1
        self._dead.append(account)

    def listed(self) -> tuple[list[Account], float]:
        """Return the accounts in the listing, by id, and the moment as of which it shows them."""
        if not self.settings.list_lag:
            return list(self.live.values()), math.inf
        until = time.monotonic() - self.settings.list_lag
        shown = [account for account in self.live.values() if account.view(until)]
        for account in reversed(self._dead):
            if account.died <= until:
                break
            if account.view(until):
                shown.append(account)
        return sorted(shown, key=lambda account: account.id), until

    def render(self, account: Account, version: Version, numbers: bool = False) -> str:
        """Write an account as the platform does, as JSON text.

        :param version: The version to show; money is always current.
        """
        if account.died == math.inf:
            self.settle(account)
        mark = "" if numbers else '"'
        balance, cost = to_text(account.balance), to_text(account.cost)
        return (
            f'{version.head}"balance":{mark}{balance}{mark},"monthly_cost":{mark}{cost}{mark},{version.tail}'
        )

    def list_item(self, account: Account, version: Version) -> str:
        """Write an account as the listing shows it, masked or spoiled if so set."""
        text = self.render(account, version, self.settings.amounts_as_numbers)
        spoiled, masked = self._spoiled.get(account.id), self.settings.mask_tokens
        if not spoiled and not masked:
            return text
        fields = {name: dumps(value) for name, value in json.loads(text, parse_float=Decimal).items()}
        if masked:
            fields["token"] = dumps(mask(account.token))
        fields.update(spoiled or {})
        return "{" + ",".join(f'"{name}":{value}' for name, value in fields.items()) + "}"

    def spoil(self, account: Account, field: str, raw: str | None) -> None:
        """Make the listing show another value in an account's field.

        :param raw: JSON text; None restores the true value.
        """
        if field not in (fields := self.item(account)):
            raise ValueError(f"field must be one of {', '.join(fields)}, not {field!r}")
        if raw is None:
            self._spoiled[account.id].pop(field, None)
            return
        try:
            json.loads(raw)
            raw = raw.encode("utf-8", "backslashreplace").decode()  # half an emoji is sent as its escape
        except (ValueError, TypeError, AttributeError, RecursionError):
            raise ValueError(f'raw must be JSON text, such as null or "", not {raw!r}') from None
        self._spoiled[account.id][field] = raw

    def item(self, account: Account) -> dict[str, Any]:
        """Return an account's true current state, as a plain JSON parser reads it."""
        found: dict[str, Any] = json.loads(self.render(account, account.versions[-1]))
        return found

    def settle(self, account: Account) -> None:
        """Book an account's costs up to now, day by day; each month starts from 0."""
        now = self.clock.now()
        while account.settled < now:
            day = account.settled.date()
            midnight = datetime(day.year, day.month, day.day, tzinfo=ZONE) + timedelta(days=1)
            until = min(now, midnight)
            self._book(account, account.spent(account.settled, until), day)
            account.settled = until
            if until == midnight and until.day == 1:
                account.cost = 0

    def set_rate(self, account: Account, rate: int) -> None:
        """Set what an account costs from now on.

        :param rate: Units per simulated hour.
        """
        self.settle(account)
        account.rate = rate
        self.changes += 1

    def correct(self, account_id: int, delta: int) -> None:
        """Book a correction today; for a deleted account only the truth changes.

        :param delta: Units; negative is a refund.
        """
        account = self.live.get(account_id)
        if account:
            self.spend(account, delta)
        elif 0 < account_id <= self._last_id:
            self._enter(account_id, delta, self.clock.now().date())
            self.changes += 1
        else:
            raise KeyError(f"there was no account {account_id}")

    def spend(self, account: Account, units: int) -> None:
        """Book the cost of a model call."""
        self.settle(account)
        self._book(account, units, self.clock.now().date())
        self.changes += 1

    def truth(self) -> Truth:
        """Return the true costs up to now."""
        self._settle_all()
        return Truth(_decimals(self._days), _decimals(self._months))

    def used(self) -> int:
        """Return this month's costs of all accounts, including deleted ones, in units."""
        self._settle_all()
        month = f"{self.clock.now():%Y-%m}"
        return sum(units for (_, when), units in self._months.items() if when == month)

    def dump(self) -> dict[str, Any]:
        """Return all that outlives the process, for ``restore``."""
        accounts = []
        for account in self.live.values():
            item = json.loads(self.render(account, account.versions[-1]), parse_float=Decimal)
            accounts.append({**item, "rate": to_text(account.rate), "settled": stamp(account.settled)})
        return {
            "key": self.key,
            "salt": self._salt,
            "last_id": self._last_id,
            "accounts": accounts,
            "days": [[number, str(day), to_text(cost)] for (number, day), cost in self._days.items()],
            "months": [[number, month, to_text(cost)] for (number, month), cost in self._months.items()],
        }

    def restore(self, kept: dict[str, Any]) -> None:
        """Continue from what ``dump`` returned; other data is a ``ValueError`` or a ``LookupError``.

        :param kept: The dump, read with ``parse_float=Decimal``.
        """
        self.key, self._salt = taken(kept, "key", str), taken(kept, "salt", str)
        self._last_id = taken(kept, "last_id", int)
        for item in taken(kept, "accounts", list):
            account = Account(
                id=taken(item, "id", int),
                token=taken(item, "token", str),
                token_type=taken(item, "token_type", str),
                enabled=taken(item, "enabled", bool),
                created_at=local(datetime.fromisoformat(item["created_at"])),
                rate=units_of(item["rate"], "rate"),
                balance=units_of(item["balance"], "balance"),
                cost=units_of(item["monthly_cost"], "monthly_cost"),
                settled=local(datetime.fromisoformat(item["settled"])),
            )
            if account.id in self.live or account.token in self.tokens or not 0 < account.id <= self._last_id:
                raise ValueError(f"account {account.id} cannot be")
            pricing = dumps(taken(item, "model_pricing", list))
            updated_at = datetime.fromisoformat(item["updated_at"])
            self._write(account, -math.inf, taken(item, "alias", str), pricing, updated_at)
            self.live[account.id] = self.tokens[account.token] = account
        for number, day, cost in kept["days"]:
            self._days[number, date.fromisoformat(day)] = to_units(cost)
        for number, month, cost in kept["months"]:
            self._months[number, month] = to_units(cost)

    def _settle_all(self) -> None:
        for account in self.live.values():
            self.settle(account)

    def _book(self, account: Account, units: int, day: date) -> None:
        account.cost += units
        account.balance -= units
        if units:
            self._enter(account.id, units, day)

    def _enter(self, account_id: int, units: int, day: date) -> None:
        self._days[account_id, day] += units
        self._months[account_id, f"{day:%Y-%m}"] += units

    def _write(self, account: Account, at: float, alias: str, pricing: str, updated_at: datetime) -> None:
        fields = {
            "id": account.id,
            "user_id": USER_ID,
            "token": account.token,
            "token_type": account.token_type,
            "alias": alias,
            "enabled": account.enabled,
        }
        head = f'{dumps(fields)[:-1]},"model_pricing":{pricing},'
        tail = f'"created_at":"{stamp(account.created_at)}","updated_at":"{stamp(updated_at)}"}}'
        account.versions.append(Version(at, alias, head, tail))
        self.changes += 1


def taken(fields: dict[str, Any], name: str, kind: type[T]) -> T:
    """Return a field of one type, or raise ``ValueError``."""
    value = fields[name]
    if type(value) is not kind:
        raise ValueError(f"{name} is not of type {kind.__name__}")
    return value


def units_of(value: Decimal | int | str, name: str) -> int:
    """Read an amount; an error names it."""
    try:
        return to_units(value)
    except ValueError as error:
        raise ValueError(f"{name} {error}") from None


def _decimals(units: dict[Any, int]) -> dict[Any, Decimal]:
    found: dict[Any, Decimal] = defaultdict(Decimal)
    found.update((key, to_decimal(value)) for key, value in units.items())
    return found
