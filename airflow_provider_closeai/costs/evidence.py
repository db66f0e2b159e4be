"""Reading the ledger's observations, each whole or not at all."""

from __future__ import annotations

import contextlib
from datetime import datetime, timedelta
from decimal import Decimal

import msgspec

from airflow_provider_closeai.costs.errors import DamagedFile
from airflow_provider_closeai.costs.ledger import CONTROL, DELETED, SNAPSHOTS, Ledger, LedgerFile
from airflow_provider_closeai.costs.months import ZERO, Month, month_of

_WANTED = ("billing_month", "sub_account_id", "alias", "monthly_cost", "created_at")

#: For how long a snapshot may still list an account whose deletion was recorded.
WHILE_DELETING = timedelta(minutes=15)

#: Of one account: id, alias, monthly_cost (``None``: the platform gave none), created_at.
Line = tuple[int, str, Decimal | None, str]


class Control(msgspec.Struct, frozen=True):
    """What the platform said the main account used, and when."""

    at: datetime
    used: Decimal


def read_lines(ledger: Ledger, file: LedgerFile, month: Month) -> list[Line]:
    """
    Read all of an observation.

    :param ledger: where from.
    :param file: which.
    :param month: the month that it must be of, in the reader's time zone.
    :raises DamagedFile: naming the file and what is wrong with it.
    """
    own = month_of(file.at, month.zone)
    if own.name != file.month:
        raise DamagedFile(
            f"The ledger's file {ledger.root}/{file.name} was written as {file.month}, and in {own.zone} it "
            f"is of {own.name}. Give the snapshot and the report the same time_zone."
        )
    names, *columns = ledger.read(file, _WANTED)
    if others := set(names) - {file.month}:
        raise DamagedFile(f"The ledger's file {file.name} holds lines of {', '.join(sorted(others))}.")
    if None in columns[0]:
        raise DamagedFile(f"The ledger's file {file.name} has a line without a sub_account_id.")
    return list(zip(*columns, strict=True))


class Before(msgspec.Struct, frozen=True):
    """
    The last usable snapshot of the month before.

    :param at: when it was made; ``None``: there is none.
    :param costs: its counters.
    :param gone: which of its accounts were recorded deleted since.
    """

    at: datetime | None = None
    costs: dict[int, Decimal] = {}
    gone: set[int] = set()


def read_before(ledger: Ledger, month: Month) -> Before:
    """
    Read the last usable snapshot of the month before. What is damaged is named in that month's own report.

    :param ledger: where from.
    :param month: the month.
    """
    earlier = month.step(-1)
    gone: set[int] = set()
    for file in reversed(ledger.files(SNAPSHOTS, earlier.name)):
        with contextlib.suppress(DamagedFile):
            costs = {number: cost or ZERO for number, _, cost, _ in read_lines(ledger, file, earlier)}
            for record in ledger.files(DELETED, earlier.name):
                if record.at < file.at - WHILE_DELETING:
                    continue
                with contextlib.suppress(DamagedFile):
                    gone.update(number for number, *_ in read_lines(ledger, record, earlier))
            return Before(file.at, costs, gone)
    return Before()


def read_control(ledger: Ledger, month: Month, warnings: list[str]) -> Control | None:
    """
    Read a month's newest control total.

    :param ledger: where from.
    :param month: which.
    :param warnings: takes what is wrong with one.
    """
    for file in reversed(ledger.files(CONTROL, month.name)):
        try:
            [amounts] = ledger.read(file, ["total_used"])
        except DamagedFile as error:
            warnings.append(f"Left out: {error}")
            continue
        if len(amounts) == 1 and amounts[0] is not None:
            return Control(file.at, amounts[0])
        warnings.append(f"Left out: the control total {file.name} holds no amount.")
    return None
