"""
What tasks have published: the newest events of this package's assets, from the API server's database.

Nothing is asked of the platform, no file is opened, and foreign records are skipped.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Annotated, Any
from urllib.parse import unquote

import msgspec

from airflow_provider_closeai.asset_names import ACCOUNTS, CONNECTION_URI, COSTS_TITLE, HEALTH, PLAN

_ASSETS = 200
_EVENTS = 20  # per asset, besides the newest of each task: one task may handle several rosters or months
_TASKS = 100
_CONNECTIONS = CONNECTION_URI.partition("{")[0]
_EXACT = Context(prec=100)

Amount = Annotated[str, msgspec.Meta(pattern=r"^-?[0-9]{1,40}(\.[0-9]{1,40})?$")]


Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class Base(msgspec.Struct, frozen=True):
    """A base as it was last seen."""

    api: str
    healthy: bool
    checked_at: Moment
    detail: str


class Bases(msgspec.Struct, frozen=True):
    """What a HealthSensor saw; without ``discovered_at``, the connection fixes the list."""

    bases: list[Base]
    discovered_at: Moment | None = None


class Team(msgspec.Struct, frozen=True):
    """A team of a report; ``level`` is ``bad``, ``warn``, ``good`` or empty."""

    team: str
    sub_accounts: int
    month_to_date: Amount
    budget: Amount | None
    verdict: str
    level: str


class Report(msgspec.Struct, frozen=True):
    """What a CostReportOperator wrote."""

    billing_month: str
    currency: str
    status: str
    total: Amount
    sub_accounts: int
    headline: str
    teams: list[Team]
    more_teams: int
    warnings: list[str]
    url: str | None

    def money(self, amount: str) -> str:
        """Write an amount, with more decimals if the month is small, as on the report's own page."""
        places = 2 if abs(Decimal(self.total)) >= 100 else 4
        return f"{Decimal(amount).quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP, _EXACT):,f}"


class Plan(msgspec.Struct, frozen=True):
    """What a PlanSubAccountsOperator planned."""

    roster: str
    digest: str
    summary: str
    has_changes: bool
    lines: list[str]
    more_lines: int


class Changes(msgspec.Struct, frozen=True):
    """What a SyncSubAccountsOperator changed."""

    roster: str
    aliases: int
    sub_accounts: int
    created: int
    repriced: int
    deleted: int
    delivered: int


class Event(msgspec.Struct, frozen=True):
    """
    One event.

    :param asset: the connection, or the folder.
    :param at: when it was published.
    :param record: what was published.
    :param task: the ids of its DAG, task and run.
    :param now: the id and state of that task's newest run, if that did not succeed; this may be the same run,
        if it was cleared or is mapped.
    """

    asset: str
    at: datetime
    record: Any
    task: tuple[str, str, str]
    now: tuple[str, str] | None = None


class Published(msgspec.Struct, frozen=True):
    """All that the page shows; each list is sorted."""

    at: datetime
    bases: list[Event]
    reports: list[Event]
    plans: list[Event]
    changes: list[Event]

    def ago(self, moment: datetime) -> str:
        """Write a time, and how long ago it was."""
        try:
            text = f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        except OverflowError:  # the year 9999 in a zone behind UTC
            return str(moment)
        minutes = int((self.at - moment).total_seconds() // 60)
        if minutes < 1:
            return f"{text} (just now)"
        larger = ((unit, size) for unit, size in (("d", 1440), ("h", 60)) if minutes >= 2 * size)
        unit, size = next(larger, ("min", 1))
        return f"{text} ({minutes // size} {unit} ago)"


def read(dag_ids: Collection[str]) -> Published:
    """
    Read the newest records of each connection, folder and roster.

    :param dag_ids: the DAGs that the user may read; what other DAGs published is skipped.
    """
    from airflow.utils.session import create_session

    with create_session() as session:
        events = list(_events(session, dag_ids))
        newest = {
            kind: [_with_now(session, event) for event in _newest(events, kind)]
            for kind in (Bases, Report, Plan, Changes)
        }
    return Published(datetime.now(UTC), newest[Bases], newest[Report], newest[Plan], newest[Changes])


def _events(session: Any, dag_ids: Collection[str]) -> Iterator[Event]:
    """Yield the events of this package's assets, each asset's newest first."""
    from airflow.models.asset import AssetEvent, AssetModel
    from sqlalchemy import desc, func, or_, select

    ours = or_(
        AssetModel.uri.startswith(_CONNECTIONS, autoescape=True),
        AssetModel.name.startswith(COSTS_TITLE, autoescape=True),
    )
    assets = session.execute(
        select(AssetModel.id, AssetModel.uri, AssetModel.name)
        .where(ours)
        .order_by(AssetModel.id.desc())
        .limit(_ASSETS)
    )
    for asset_id, uri, name in list(assets):
        whose = (AssetEvent.asset_id == asset_id, AssetEvent.source_dag_id.in_(dag_ids))
        task = (AssetEvent.source_dag_id, AssetEvent.source_task_id, AssetEvent.source_map_index)
        newest = (AssetEvent.timestamp.desc(), AssetEvent.id.desc())
        of_tasks = select(func.max(AssetEvent.id).label("id")).where(*whose).group_by(*task)
        last = select(AssetEvent.id).where(*whose).order_by(*newest).limit(_EVENTS)
        ids = {*session.scalars(of_tasks.order_by(desc("id")).limit(_TASKS)), *session.scalars(last)}
        rows = session.execute(
            select(AssetEvent.timestamp, AssetEvent.extra, *task[:2], AssetEvent.source_run_id)
            .where(AssetEvent.id.in_(ids))
            .order_by(*newest)
        )
        for at, extra, dag_id, task_id, run_id in rows:
            label, record = _record(uri, name, extra)
            if record is not None:
                yield Event(label, at, record, (dag_id, task_id, run_id))


def _record(uri: str, name: str, extra: Any) -> tuple[str, Any]:
    """Return an event's subject and record; ``None`` if the record is foreign or of another version."""
    quoted, _, what = uri.removeprefix(_CONNECTIONS).rpartition("/")
    label = unquote(quoted)
    kinds: dict[str, Any] = {HEALTH: Bases, PLAN: Plan, ACCOUNTS: Changes}
    if name.startswith(COSTS_TITLE):
        label, what, kinds = name.removeprefix(COSTS_TITLE), "", {"": Report}
    try:
        return label, msgspec.convert(extra, kinds[what]) if what in kinds else None
    except msgspec.ValidationError:
        return label, None


def _newest(events: Iterable[Event], kind: type) -> list[Event]:
    """Return the newest event of each asset and roster; of reports, the newest month's."""
    found: dict[tuple[str, str], Event] = {}
    for event in events:
        if isinstance(event.record, kind):
            key = (event.asset, getattr(event.record, "roster", ""))
            held = found.setdefault(key, event)
            if _month(event) > _month(held):
                found[key] = event
    return [found[key] for key in sorted(found)]


def _month(event: Event) -> str:
    return str(getattr(event.record, "billing_month", ""))


def _with_now(session: Any, event: Event) -> Event:
    """Add the state of the task's newest run: a failed or waiting one has published nothing."""
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy import select

    dag_id, task_id, _ = event.task
    last = session.execute(
        select(TaskInstance.run_id, TaskInstance.state)
        .where(
            TaskInstance.dag_id == dag_id,
            TaskInstance.task_id == task_id,
            TaskInstance.start_date.is_not(None),
        )
        .order_by(TaskInstance.start_date.desc())
        .limit(1)
    ).first()
    if last is None or last[1] in (None, "success"):
        return event
    return msgspec.structs.replace(event, now=(str(last[0]), str(getattr(last[1], "value", last[1]))))
