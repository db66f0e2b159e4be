"""Tasks as a deployment runs them, with all that may go wrong, and what must hold whatever happens.

The state machine (``fault_machine.py``) makes up what happens; ``test_regressions.py`` tells it by hand.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from fault_world import HANG, Killed, World

from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.errors import (
    AuthenticationFailed,
    CloseAIError,
    MaskedKeys,
    PermissionDenied,
    Rejected,
    UnreadableAccount,
)
from airflow_provider_closeai.provisioning import runner
from airflow_provider_closeai.provisioning.errors import (
    MissingAccounts,
    NotASubAccount,
    PricingDiffers,
    TooManyAccounts,
    TooManySelected,
)
from airflow_provider_closeai.provisioning.requests import CreateRequest, DeleteRequest, RepriceRequest

ALIASES = ("team", "team-a", "other b")  # the first is part of the second
PRICES = {"m0": 1}
MODELS = ("m1", "m2", "m3")
SPOILS = (("token", "null"), ("balance", '""'), ("monthly_cost", '"\\ud83d"'))
SETTLE = 30.0


@dataclass(frozen=True)
class Spec:
    """What a task is asked to do."""

    kind: str
    alias: str = ALIASES[0]
    count: int = 1
    model: str = MODELS[0]
    factor: int = 1
    by: str = "alias"
    picks: tuple[int, ...] = (0,)
    batch_size: int = 100
    max_delete: int | None = None
    dry_run: bool = False
    own_journal: bool = False


class OwnJournal:
    """Airflow's task state store: kept for all tries of one task."""

    def __init__(self) -> None:
        self.text: str | None = None

    def read(self) -> str | None:
        return self.text

    def write(self, text: str) -> None:
        self.text = text


@dataclass
class Task:
    """A task of the deployment over all its tries."""

    spec: Spec
    number: int
    chosen: list[dict[str, Any]]
    prices: dict[str, Any]
    tries: int = 0
    journal: OwnJournal = field(default_factory=OwnJournal)

    def run(self, client: CloseAIClient, first_try: bool) -> Any:
        spec = self.spec
        if spec.kind == "list":
            return list(client.iter_sub_accounts(alias=spec.alias))
        if spec.kind == "ensure":
            return runner.create(
                client,
                CreateRequest.parse(
                    spec.alias, self.prices, 100, spec.count, batch_size=spec.batch_size, settle=SETTLE
                ),
                runner.Try(
                    task=f"dag/run-{self.number}/create/-1",
                    is_retry=not first_try,
                    own_journal=(lambda alias: self.journal) if spec.own_journal else None,
                ),
            )
        if spec.kind == "delete":
            asked = DeleteRequest.parse(
                **self._selection(),
                max_delete=spec.max_delete,
                batch_size=spec.batch_size,
                dry_run=spec.dry_run,
            )
            return runner.delete(client, asked)
        prices = {spec.model: spec.factor} if spec.kind == "merge" else PRICES
        return runner.reprice(
            client,
            RepriceRequest.parse(
                prices,
                **self._selection(),
                mode=spec.kind,
                batch_size=spec.batch_size,
                dry_run=spec.dry_run,
            ),
        )

    def _selection(self) -> dict[str, Any]:
        if self.spec.by == "alias" or not self.chosen:
            return {"alias": self.spec.alias}
        if self.spec.by == "ids":
            return {"sub_accounts": [account["id"] for account in self.chosen]}
        return {"sks": [account["token"] for account in self.chosen]}

    def selects(self, account_id: int, alias: str) -> bool:
        if self.spec.by == "alias" or not self.chosen:
            return alias == self.spec.alias
        return account_id in [account["id"] for account in self.chosen]

    @property
    def writes_prices(self) -> bool:
        return self.spec.kind in ("merge", "replace") and not self.spec.dry_run


#: A fault: call, kind, base, times, skip, options.
Planned = tuple[str, str, int | None, int | None, int, dict[str, Any]]


@dataclass(frozen=True)
class Trouble:
    """What goes wrong while tasks run."""

    faults: tuple[Planned, ...] = ()
    crashes: tuple[int | None, ...] = ()
    dies: tuple[int, int, str] | None = None  # at which attempt, which base, how
    spoiled: tuple[int, ...] = ()  # picks of accounts that are listed in a form that cannot be read
    masked: bool = False  # the listing hides the keys
    schedule: int = 0


class Deployment:
    """Tasks of one host against one platform, and the promises of the package."""

    def __init__(self, lags: tuple[float, float] = (0.0, 0.0), page_size: int = 500, **settings: Any) -> None:
        self.world = World(**settings)
        self.world.__enter__()
        self.world.lags = {f"base-{index}": lag for index, lag in enumerate(lags)}
        self.sim = self.world.sim
        self.page_size = page_size
        self.open: list[Task] = []
        self.number = 0
        self.aliases: dict[int, str] = {}
        self.most = dict.fromkeys(ALIASES, 0)
        self.repriced: set[str] = set()
        self.gone: set[int] = set()
        self.swallowed: set[int] = set()
        self.reported = False

    def close(self) -> None:
        self.world.close()

    def seed(self, alias: str, models: Sequence[str] = ()) -> None:
        pricing = [{"model": model, "pricing_factor": 1} for model in (*PRICES, *models)]
        self.sim.add_account(alias, pricing)
        self.most[alias] += 1
        if models:
            self.repriced.add(alias)

    def task(self, spec: Spec) -> Task:
        self.number += 1
        accounts = self.sim.accounts()
        chosen = [accounts[pick % len(accounts)] for pick in spec.picks] if accounts else []
        there = [_prices(account) for account in accounts if account["alias"] == spec.alias]
        return Task(spec, self.number, chosen, there[0] if there else PRICES)

    def run(self, tasks: Sequence[Task], trouble: Trouble = Trouble()) -> list[tuple[Any, Any]]:
        """Run tasks side by side; check everything that must hold."""
        world = self.world
        before = {account["id"]: account for account in self.sim.accounts()}
        for task in tasks:
            if task.spec.kind == "ensure":
                self.most[task.spec.alias] = max(self.most[task.spec.alias], task.spec.count)
            if task.writes_prices:
                self.repriced |= {account["alias"] for account in task.chosen} | {task.spec.alias}
        self._break(trouble)
        hangs = any(kind == "hang" for _, kind, *_ in trouble.faults)
        patience = 0.1 if hangs else HANG
        jobs = []
        for task in tasks:
            client, first_try = (
                world.client(page_size=self.page_size, read_timeout=patience),
                task.tries == 0,
            )
            task.tries += 1
            jobs.append(lambda task=task, client=client, first=first_try: task.run(client, first))
        crashes = [*trouble.crashes, None, None, None, None]
        results = world.clock.run(list(zip(jobs, crashes, strict=False)), trouble.schedule)
        world.close_sessions()
        self._mend()
        for task, (result, error) in zip(tasks, results, strict=True):
            self._may_end_so(task, result, error, trouble)
            if error is None or (isinstance(error, CloseAIError) and error.permanent):
                self.open = [other for other in self.open if other is not task]
            elif task not in self.open:
                self.open.append(task)
        self._nothing_is_lost(before, tasks)
        world.assert_no_key(*(error for _, error in results))
        return results

    def settle_down(self) -> None:
        """A clean end: everything works again, the platform's listing has caught up."""
        for index in range(2):
            self.sim.start_base(index)
        self.world.clock.advance(3600)
        for alias in ALIASES:
            live = self.sim.accounts(alias)
            count = max(len(live), self.most[alias])
            if count == 0:
                continue
            if live and alias in self.repriced:
                self._clean(Spec("replace", alias))
            accounts = self._clean(Spec("ensure", alias, count))
            assert len(accounts) == count
            assert len(self.sim.accounts(alias)) == count
            assert {account.id for account in accounts} == {one["id"] for one in self.sim.accounts(alias)}

    def _clean(self, spec: Spec) -> Any:
        [(result, error)] = self.run([self.task(spec)])
        assert error is None, f"a clean run fails: {error!r}"
        return result

    def _break(self, trouble: Trouble) -> None:
        for call, kind, base, times, skip, options in trouble.faults:
            self.sim.fault(call, kind, None if call == "links" else base, times, skip, **options)
        accounts = self.sim.accounts()
        for pick in trouble.spoiled if accounts else ():
            self.sim.spoil(accounts[pick % len(accounts)]["id"], *SPOILS[pick % len(SPOILS)])
        self.sim.settings.mask_tokens = trouble.masked
        if trouble.dies is not None:
            left, index, how = trouble.dies

            def die(call: str, base: str) -> None:
                nonlocal left
                left -= 1
                if left == 0 and how == "swallows":
                    self.swallowed.add(index)
                    self.sim.swallow_base(index)
                elif left == 0:
                    self.world.move_bases() if how == "moves" else self.sim.stop_base(index)

            self.world.before = die
        self.world.impatient = lambda call, base: (
            base in [self.sim.base_urls[index] for index in self.swallowed]
        )

    def _mend(self) -> None:
        self.sim.clear_faults()
        self.sim.settings.mask_tokens = False
        for account in self.sim.accounts():
            for field_name, _ in SPOILS:
                self.sim.spoil(account["id"], field_name, None)
        for index in self.swallowed:
            self.sim.start_base(index)
        self.swallowed.clear()
        self.world.before = None

    def _may_end_so(self, task: Task, result: Any, error: Any, trouble: Trouble) -> None:
        """Fail on an outcome that no trouble explains."""
        spec = task.spec
        live = self.sim.accounts(spec.alias)
        if error is None:
            if spec.kind == "ensure":
                assert len(result) == spec.count
                assert all(account.alias == spec.alias for account in result)
            return
        if isinstance(error, Killed):
            return
        assert isinstance(error, CloseAIError), f"{spec} ends with {error!r}"
        if isinstance(error, UnreadableAccount):
            assert trouble.spoiled, f"{spec}: {error}"
        if not error.permanent:
            return
        if isinstance(error, MaskedKeys):
            assert trouble.masked, f"{spec}: {error}"
            assert spec.kind in ("merge", "replace", "delete"), f"{spec}: {error}"
            return
        if isinstance(error, AuthenticationFailed | PermissionDenied):
            said = [options["status"] for _, kind, *_, options in trouble.faults if kind == "foreign"]
            assert error.status in said, f"{spec}: {error!r}"
            assert "or something on the way" in str(error)
            return
        if isinstance(error, TooManyAccounts):
            told = {int(number) for number in re.findall(r"\d+", re.findall(r"ids \[(.*?)\]", str(error))[0])}
            assert len(told) > spec.count
            assert told <= {account["id"] for account in live} | self._deleted()
            return
        if isinstance(error, PricingDiffers):
            assert spec.alias in self.repriced, f"{spec}: {error}"
            return
        if isinstance(error, TooManySelected | MissingAccounts):
            assert spec.kind == "delete"
            return
        assert isinstance(error, Rejected), f"{spec} ends with {error!r}"
        assert not isinstance(error, NotASubAccount)
        assert error.status == 404, f"{spec}: {error!r}"
        assert spec.kind in ("merge", "replace", "delete"), f"{spec}: {error!r}"

    def _nothing_is_lost(self, before: dict[int, dict[str, Any]], tasks: Sequence[Task]) -> None:
        now = {account["id"]: account for account in self.sim.accounts()}
        for account in [*before.values(), *now.values()]:
            alias = self.aliases.setdefault(account["id"], account["alias"])
            assert account["alias"] == alias, f"account {account['id']} was renamed"
        for alias in ALIASES:
            live = [account["id"] for account in now.values() if account["alias"] == alias]
            assert len(live) <= self.most[alias], f"{alias}: {live}, {self.most[alias]} were asked for"
        deleted = self._deleted() - self.gone
        self.gone |= deleted
        for account_id in deleted:
            alias = self._alias_of_dead(account_id)
            assert self.aliases.setdefault(account_id, alias) == alias, "a deleted account was renamed"
            killers = [task for task in tasks if task.spec.kind == "delete" and not task.spec.dry_run]
            assert any(task.selects(account_id, alias) for task in killers), f"nobody meant {account_id}"
            cost = before[account_id]["monthly_cost"] if account_id in before else "0"
            told = (
                rf"Sub-account {account_id} \(.*is to be deleted, last seen with: "
                rf"monthly_cost {re.escape(cost)},"
            )
            assert any(re.search(told, line) for line in self.world.log), f"cost of {account_id} is lost"
        for account_id in before.keys() & now.keys():
            self._prices_are_kept(before[account_id], now[account_id], tasks)

    def _prices_are_kept(self, old: dict[str, Any], new: dict[str, Any], tasks: Sequence[Task]) -> None:
        mine = [task for task in tasks if task.writes_prices and task.selects(old["id"], old["alias"])]
        if any(task.spec.kind == "replace" for task in mine):
            return
        was, now = _prices(old), _prices(new)
        named = {task.spec.model for task in mine}
        kept = {model: factor for model, factor in was.items() if model not in named}
        assert kept.items() <= now.items(), f"account {old['id']} had {was}, and has {now}"
        assert now.keys() <= was.keys() | named

    def _deleted(self) -> set[int]:
        return {account.id for account in self.sim._state._dead}

    def _alias_of_dead(self, account_id: int) -> str:
        return next(account.alias for account in self.sim._state._dead if account.id == account_id)


def _prices(account: dict[str, Any]) -> dict[str, float]:
    return {entry["model"]: entry["pricing_factor"] for entry in account["model_pricing"]}
