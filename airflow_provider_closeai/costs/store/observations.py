"""Read the observations of a month."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from airflow_provider_closeai.costs.accounting.history import WHILE_DELETING
from airflow_provider_closeai.costs.accounting.money import ZERO
from airflow_provider_closeai.costs.accounting.months import Month, month_of
from airflow_provider_closeai.costs.accounting.observations import (
    ControlTotal,
    Observation,
    ObservedFile,
    ObservedMonth,
    PreviousMonth,
)
from airflow_provider_closeai.costs.errors import DamagedFile
from airflow_provider_closeai.costs.store.kinds import CLOSED, CONTROL, DELETED, SNAPSHOTS
from airflow_provider_closeai.costs.store.ledger import Ledger, LedgerFile

_READ = ("billing_month", "sub_account_id", "alias", "monthly_cost", "created_at")


def read_month(ledger: Ledger, month: Month) -> ObservedMonth:
    """
    Read what a ledger has of a month. What is damaged is described, not raised.

    :param ledger: where from.
    :param month: which.
    """
    kinds = (SNAPSHOTS, DELETED)
    warnings: list[str] = []
    return ObservedMonth(
        month=month,
        ledger=str(ledger.root),
        known_months=ledger.months(SNAPSHOTS),
        files=_files(ledger, month),
        unrecognized_files=[name for kind in kinds for name in ledger.unrecognized_files(kind, month.name)],
        previous=_previous_month(ledger, month),
        control=_control(ledger, month, warnings),
        control_warnings=warnings,
    )


def is_empty_of(ledger: Ledger, month: str) -> bool:
    """
    Return whether a ledger has nothing of a month, not even files of unrecognized names.

    :param ledger: where from.
    :param month: ``YYYY-MM``.
    """
    has_files = any(ledger.files(kind, month) for kind in (SNAPSHOTS, DELETED, CLOSED))
    return not has_files and not ledger.unrecognized_files(SNAPSHOTS, month)


def _files(ledger: Ledger, month: Month) -> Iterator[ObservedFile]:
    found = ledger.files(SNAPSHOTS, month.name) + ledger.files(DELETED, month.name)
    for file in sorted(found, key=lambda file: (file.at, file.kind)):
        is_complete = file.kind == SNAPSHOTS
        try:
            observations = _read(ledger, file, month)
        except DamagedFile as error:
            yield ObservedFile(file.name, file.at, is_complete, damage=str(error))
        else:
            yield ObservedFile(file.name, file.at, is_complete, observations)


def _read(ledger: Ledger, file: LedgerFile, month: Month) -> Sequence[Observation]:
    """Read a file, which must be of that month in the reader's time zone."""
    own = month_of(file.at, month.zone)
    if own.name != file.month:
        raise DamagedFile(
            f"The ledger's file {ledger.root}/{file.name} was written as {file.month}, and in {own.zone} it "
            f"is of {own.name}. Give the snapshot and the report the same time_zone."
        )
    names, *columns = ledger.read(file, _READ)
    if others := set(names) - {file.month}:
        raise DamagedFile(f"The ledger's file {file.name} holds lines of {', '.join(sorted(others))}.")
    if None in columns[0]:
        raise DamagedFile(f"The ledger's file {file.name} has a line without a sub_account_id.")
    return list(map(Observation, *columns))


def _previous_month(ledger: Ledger, month: Month) -> PreviousMonth:
    """Read the last usable snapshot of the month before. What is damaged is named in that month's report."""
    earlier = month.step(-1)
    deleted: set[int] = set()
    for file in reversed(ledger.files(SNAPSHOTS, earlier.name)):
        with contextlib.suppress(DamagedFile):
            costs = {seen.sub_account_id: seen.monthly_cost or ZERO for seen in _read(ledger, file, earlier)}
            for record in ledger.files(DELETED, earlier.name):
                if record.at < file.at - WHILE_DELETING:
                    continue
                with contextlib.suppress(DamagedFile):
                    deleted.update(seen.sub_account_id for seen in _read(ledger, record, earlier))
            return PreviousMonth(file.at, costs, deleted)
    return PreviousMonth()


def _control(ledger: Ledger, month: Month, warnings: list[str]) -> ControlTotal | None:
    """Read the newest control total; ``warnings`` takes what is wrong with newer files."""
    for file in reversed(ledger.files(CONTROL, month.name)):
        try:
            [amounts] = ledger.read(file, ["total_used"])
        except DamagedFile as error:
            warnings.append(f"Left out: {error}")
            continue
        if len(amounts) == 1 and amounts[0] is not None:
            return ControlTotal(file.at, amounts[0])
        warnings.append(f"Left out: the control total {file.name} holds no amount.")
    return None


def accounts_left(ledger: Ledger, month: Month) -> tuple[LedgerFile | None, list[int]]:
    """
    Return the newest snapshot, and its accounts of which no deletion was recorded up to a month.

    :param ledger: where from.
    :param month: which.
    """
    last = ledger.newest(SNAPSHOTS)
    if last is None or not last.rows:
        return last, []
    deleted = {
        account_id
        for name in {last.month, month.name}
        for file in ledger.files(DELETED, name)
        for account_id in ledger.read(file, ["sub_account_id"])[0]
    }
    return last, [number for number in ledger.read(last, ["sub_account_id"])[0] if number not in deleted]
