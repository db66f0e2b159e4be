"""A month's observations: its accounts' counters, file by file, as the store reads them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal

import msgspec

from airflow_provider_closeai.costs.accounting.months import Month


class Observation(msgspec.Struct, frozen=True, gc=False):
    """
    An account in one listing.

    :param monthly_cost: its counter; ``None``: the platform gave none.
    :param created_at: as the platform wrote it.
    :param enabled: this and the fields after it are recorded but not read for reports.
    :param model_pricing: its prices, as JSON.
    :param user_id: the main account's id.
    """

    sub_account_id: int
    alias: str
    monthly_cost: Decimal | None
    created_at: str
    enabled: bool | None = None
    balance: Decimal | None = None
    model_pricing: str = ""
    user_id: int | None = None


class ControlTotal(msgspec.Struct, frozen=True):
    """The main account's usage as the platform reported it, and when."""

    at: datetime
    used: Decimal


class ObservedFile(msgspec.Struct, frozen=True):
    """
    A file of observations.

    :param name: its path in the ledger.
    :param at: when its counters were read.
    :param is_complete: it lists all accounts; otherwise, accounts just before their deletion.
    :param observations: ``None`` if the file is damaged.
    :param damage: what is wrong with it.
    """

    name: str
    at: datetime
    is_complete: bool
    observations: Iterable[Observation] | None = None
    damage: str = ""


class ObservedMonth(msgspec.Struct, frozen=True):
    """
    All that a ledger has of a month.

    :param ledger: the ledger's folder, for messages.
    :param known_months: the months with snapshots, in order.
    :param files: in chronological order; read during iteration, so that few are in memory.
    :param earlier: files of the month before, from the last snapshot before all possible turns on.
    :param later: files of the months after, in chronological order.
    :param problems: what is wrong with file names and closings, for people.
    :param controls: the control totals, newest first.
    :param control_warnings: what is wrong with the control totals' files.
    """

    month: Month
    ledger: str
    known_months: list[str]
    files: Iterable[ObservedFile]
    problems: list[str]
    controls: Sequence[ControlTotal]
    control_warnings: list[str]
    earlier: Iterable[ObservedFile] = ()
    later: Iterable[ObservedFile] = ()
