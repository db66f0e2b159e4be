"""What was booked in a ledger: closed figures, and lines appended to months."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal

import msgspec

from airflow_provider_closeai.costs.accounting.money import total
from airflow_provider_closeai.costs.accounting.shares import Owner

#: Sources of an adjustment, as the ledger and the report write them.
NOTE, DIFFERENCE = "manual", "evidence"
#: The id of the main account in notes; sub-accounts' ids are larger.
MAIN_ACCOUNT = 0


class Adjustment(msgspec.Struct, frozen=True):
    """
    A line appended to a month: a note or a difference.

    :param source: ``manual``: a note that was booked by hand. ``evidence``: a difference: the observations
        now differ from those when the month was closed.
    :param certainty: the certainty of the cost with this difference: ``certain`` or ``uncertain``; empty for
        a note.
    """

    recorded_at: datetime
    billing_month: str
    currency: str
    sub_account_id: int
    alias: str
    amount: Decimal
    source: str
    reason: str
    certainty: str | None = ""


class ClosedCost(msgspec.Struct, frozen=True):
    """
    An account's cost in a closed month, according to its counter, and who pays it.

    :param sub_account_id: ``None`` in the only line of a month without accounts.
    :param status: the month's status when it was closed: ``final`` or ``estimated``.
    :param certainty: the certainty of the account's cost: ``certain`` or ``uncertain``.
    :param unseen_minutes: how long around the month's end more may have been spent.
    :param shares: who pays how much of a shared account, as JSON; empty: the owner pays all.
    """

    currency: str
    sub_account_id: int | None
    alias: str
    team: str
    cost_center: str
    amount: Decimal
    status: str
    certainty: str = ""
    unseen_minutes: int = 0
    shares: str = ""

    @property
    def owner(self) -> Owner:
        """Who pays it."""
        return Owner(self.team, self.cost_center)


class Closing(msgspec.Struct, frozen=True):
    """
    A month's figures as closed.

    :param status: ``final`` or ``estimated``, at that time.
    :param accounts: the accounts' costs, by id.
    """

    at: datetime
    status: str
    accounts: dict[int, ClosedCost]

    def in_doubt(self, adjustments: Iterable[Adjustment]) -> set[int]:
        """
        Return the accounts that were closed with an uncertain figure that no difference has settled since.

        :param adjustments: the lines appended to the month, oldest first.
        """
        certainties = {number: one.certainty for number, one in self.accounts.items()}
        certainties.update(
            (line.sub_account_id, line.certainty or "") for line in adjustments if line.source == DIFFERENCE
        )
        return {number for number, certainty in certainties.items() if certainty == "uncertain"}

    @property
    def total(self) -> Decimal:
        """The sum of the accounts' counters."""
        return total(account.amount for account in self.accounts.values())
