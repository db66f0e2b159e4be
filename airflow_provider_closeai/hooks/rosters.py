"""Rosters in Airflow: reading their files, and the cost ledger that budgets are checked against."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING, Any, TypedDict

from airflow_provider_closeai import cost_defaults as defaults
from airflow_provider_closeai.hooks.keys import sink_keys
from airflow_provider_closeai.hooks.roster_claims import register
from airflow_provider_closeai.paths import folder
from airflow_provider_closeai.provisioning import inputs
from airflow_provider_closeai.provisioning.runner import Try
from airflow_provider_closeai.roster import Applied, Options, Plan, Roster, apply, make_plan, read_roster
from airflow_provider_closeai.roster.plan import parse_max_delete

if TYPE_CHECKING:
    from airflow_provider_closeai.client.client import CloseAIClient
    from airflow_provider_closeai.client.models import SubAccount
    from airflow_provider_closeai.costs import Run
    from airflow_provider_closeai.sinks.base import SinkKeys, TokenSink

log = logging.getLogger(__name__)


class PlanOptions(TypedDict, total=False):
    """The options of planning."""

    prune: bool | str
    max_create: int | str | None
    max_delete: int | str | None
    deliver_to: TokenSink | None
    ledger: str | os.PathLike[str] | None
    time_zone: str | tzinfo


class ApplyOptions(PlanOptions, total=False):
    """The options of applying."""

    settle: float
    batch_size: int
    dry_run: bool | str


def plan_roster(client: Callable[[], CloseAIClient], roster: Any, options: PlanOptions) -> Plan:
    """
    Plan; see docs/operators/plan.md.

    :param client: returns the API client; not called if a parameter is wrong.
    """
    found = load_roster(roster)
    settings, keys, books = _parsed(client, found, **options)
    return make_plan(client(), found, settings, keys=keys, books=books)


def apply_roster(
    client: Callable[[], CloseAIClient],
    wanted: Any,
    options: ApplyOptions,
    this_try: Try,
    run: Run | None = None,
) -> Applied:
    """
    Apply; see docs/operators/sync.md.

    :param client: returns the API client; not called if a parameter is wrong.
    :param wanted: a plan, its record, or what :func:`plan_roster` takes.
    """
    is_plan = isinstance(wanted, Plan) or (isinstance(wanted, Mapping) and "digest" in wanted)
    found = Plan.parse(wanted) if is_plan else load_roster(wanted)
    roster = found.as_roster() if isinstance(found, Plan) else found
    rest: dict[str, Any] = {**options}
    dry_run = inputs.flag("dry_run", rest.pop("dry_run", False))
    settings, keys, books = _parsed(client, roster, run, **rest)
    if not dry_run:
        register(client(), roster, this_try.task, this_try.names)
    return apply(client(), found, settings, keys=keys, books=books, this_try=this_try, dry_run=dry_run)


def load_roster(source: Any) -> Roster:
    """
    Read a roster from anywhere that Airflow's object storage can read.

    :param source: a path, a mapping, or a roster.
    """
    if isinstance(source, Roster):
        return source
    is_address = isinstance(source, str) and "://" in source and not source.lstrip().startswith(("{", "["))
    return read_roster(folder("roster", source) if is_address else source)


def _parsed(
    client: Callable[[], CloseAIClient],
    roster: Roster,
    run: Run | None = None,
    *,
    prune: bool | str = False,
    max_create: int | str | None = None,
    max_delete: int | str | None = None,
    deliver_to: TokenSink | None = None,
    ledger: str | os.PathLike[str] | None = None,
    time_zone: str | tzinfo = defaults.TIME_ZONE,
    settle: float = 30,
    batch_size: int = 100,
) -> tuple[Options, SinkKeys | None, LedgerBooks | None]:
    is_pruned = inputs.flag("prune", prune)
    settings = Options(
        prune=is_pruned,
        max_create=None if max_create is None else inputs.whole_number("max_create", max_create, 0),
        max_delete=parse_max_delete(max_delete, prune=is_pruned),
        settle=float(inputs.amount("settle", settle)),
        batch_size=inputs.whole_number("batch_size", batch_size, 1),
    )
    counts = {alias: entry.count for alias, entry in roster.entries.items()}
    keys = None if deliver_to is None else sink_keys(client, deliver_to, counts)
    books = None
    if ledger is not None:
        books = LedgerBooks(ledger, time_zone, run, lambda: client().clock.utc_now())
    return settings, keys, books


class LedgerBooks:
    """
    The part of a cost ledger that a roster needs.

    :param run: the task's run: it names the files.
    """

    def __init__(
        self, ledger: Any, time_zone: str | tzinfo, run: Run | None, now: Callable[[], datetime]
    ) -> None:
        from airflow_provider_closeai.costs import DeletionRequest, Run, SnapshotRequest

        place: dict[str, Any] = {"ledger": ledger, "time_zone": time_zone, "open_path": folder}
        self._now = now
        self._deletion = DeletionRequest.parse(**place)
        self._snapshot = SnapshotRequest.parse(**place, control_total=False)
        # Only the key: the time that a run stands for must not make it late.
        self._run = Run() if run is None else Run(key=run.key)

    def spent(self, accounts: Sequence[SubAccount], at: datetime) -> Mapping[str, Any]:
        """Return the month-to-date cost of each alias."""
        from airflow_provider_closeai.costs import month_to_date

        return month_to_date(self._deletion.ledger, accounts, at, self._deletion.time_zone)

    def record_listing(self, accounts: Sequence[SubAccount], at: datetime) -> None:
        """Record a full listing as a snapshot, unless a newer one exists or the month has turned."""
        from airflow_provider_closeai.client.errors import UnreadableAccount
        from airflow_provider_closeai.costs import SnapshotRefused, snapshot
        from airflow_provider_closeai.costs.accounting.aggregate import OVERLAP
        from airflow_provider_closeai.costs.accounting.months import month_of
        from airflow_provider_closeai.costs.store.kinds import SNAPSHOTS
        from airflow_provider_closeai.costs.store.observations import shows_more

        zone, now = self._snapshot.time_zone, self._now()
        month = month_of(at, zone)
        if month != month_of(now, zone):
            log.warning("This listing is not recorded in the ledger: the month has turned since it began.")
            return
        files = self._snapshot.ledger.files(SNAPSHOTS, month.name)
        near = [file for file in files if at - OVERLAP < file.at <= now]
        if any(file.at > at or shows_more(self._snapshot.ledger, file, accounts) for file in near):
            log.info("This listing is not recorded in the ledger: a newer one is there, made meanwhile.")
            return
        try:
            # Not under the task's run: if that is cleared days later, this snapshot would be replaced.
            snapshot(self._snapshot, lambda: _Listed(accounts), clock=lambda: at)
        except (SnapshotRefused, UnreadableAccount) as refused:
            log.warning("This listing is not recorded in the ledger: %s", refused)

    def record_deleted(self, accounts: Sequence[SubAccount], at: datetime) -> None:
        """Record accounts that are about to be deleted."""
        from airflow_provider_closeai.costs import record_deleted

        record_deleted(self._deletion, accounts, at, run=self._run, clock=self._now)


class _Listed:
    """Stands in for a client, with a finished listing."""

    def __init__(self, accounts: Sequence[SubAccount]) -> None:
        self._accounts = accounts

    def iter_listing(self) -> Sequence[SubAccount]:
        return self._accounts

    def main_usage(self) -> Any:
        raise NotImplementedError  # no control total is requested
