"""Reads everything that a plan is made from, once: the listing, the sink's keys, the month's costs."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.errors import CloseAIError
from airflow_provider_closeai.client.models import SubAccount, UnreadableItem
from airflow_provider_closeai.provisioning.runner.locking import alias_lock
from airflow_provider_closeai.provisioning.runner.rotating import DeliveryJournal, Keys
from airflow_provider_closeai.provisioning.steps import Listing
from airflow_provider_closeai.roster import checks, decide
from airflow_provider_closeai.roster.decide import Options, Seen
from airflow_provider_closeai.roster.models import Roster
from airflow_provider_closeai.roster.plan import Plan
from airflow_provider_closeai.roster.render import log_lines

log = logging.getLogger(__name__)

#: Lock for planning and applying rosters: one at a time on this host.
LOCK = "roster"


class Books(Protocol):
    """The part of the cost ledger that a roster needs."""

    def spent(self, accounts: Sequence[SubAccount], at: datetime) -> Mapping[str, Decimal]:
        """Return each alias's month-to-date cost, including deleted accounts'."""

    def record_listing(self, accounts: Sequence[SubAccount], at: datetime) -> None:
        """Record a full listing."""

    def record_deleted(self, accounts: Sequence[SubAccount], at: datetime) -> None:
        """Record accounts that are about to be deleted."""


def make_plan(
    client: CloseAIClient, roster: Roster, options: Options, *, keys: Keys | None, books: Books | None
) -> Plan:
    """
    Look, decide what to change, and log it. Changes nothing.

    :param keys: where keys go.
    :param books: the cost ledger.
    :raises ListingUnstable: the listing is not proven complete.
    :raises PlanRefused: the listing is empty or of another main account, or ``max_create`` is exceeded.
    :raises TooManySelected: ``max_delete`` is exceeded.
    :raises ClockDisagrees: the clocks differ, and ages, expiries or months depend on it.
    """
    checks.check_roster(roster, has_sink=keys is not None, has_ledger=books is not None)
    with alias_lock(client, LOCK):
        plan = Look(client, roster, keys, books).plan(options)
    for line in log_lines(plan):
        log.info("%s", line)
    refusal = checks.refusal(plan)
    if refusal is not None:
        raise refusal
    return plan


class Look:
    """One look at everything that a plan is made from."""

    def __init__(self, client: CloseAIClient, roster: Roster, keys: Keys | None, books: Books | None) -> None:
        self.roster, self.keys, self.books = roster, keys, books
        began, self.at = client.clock.monotonic(), client.clock.utc_now()
        items = list(client.iter_listing())
        accounts = tuple(item for item in items if isinstance(item, SubAccount))
        self.listing = Listing(accounts, began, client.clock.monotonic(), is_whole=True)
        now = client.clock.utc_now()
        checks.check_time(roster, accounts, client.platform_time, now)
        checks.main_account_of(accounts, roster.main_account)
        self.journal: DeliveryJournal | None = None
        #: Why the sink could not tell what it holds: then nothing is created or deleted.
        self.silence: CloseAIError | None = None
        held, replaced = None, frozenset[int]()
        if keys is not None:
            wanted = [each for each in accounts if each.alias in roster.entries and not each.is_other]
            replaced = keys.replaced(wanted)
            try:
                held = keys.held([each for each in wanted if not each.token.is_masked])
            except CloseAIError as error:
                self.silence = error
            else:
                if held is None:  # this host's journal says what was delivered
                    self.journal = DeliveryJournal(client, LOCK, keys.name)
                    held = self.journal.held
        self.seen = Seen(
            accounts=accounts,
            unreadable=tuple(item for item in items if isinstance(item, UnreadableItem)),
            held=held,
            silence="" if self.silence is None else str(self.silence),
            replaced=replaced,
            spent=None if books is None else books.spent(accounts, self.at),
            now=now,
        )

    def plan(self, options: Options) -> Plan:
        """Decide what to change."""
        return decide.make_plan(self.roster, self.seen, options)
