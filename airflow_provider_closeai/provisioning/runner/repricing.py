"""Runs repricings: read, merge, write, read back."""

from __future__ import annotations

import logging
from collections.abc import Callable

from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.errors import CloseAIError, Declined, OutcomeUnknown
from airflow_provider_closeai.client.models import SubAccount
from airflow_provider_closeai.local_state.stores import FileStore
from airflow_provider_closeai.provisioning.errors import NotConfirmed, with_doubt
from airflow_provider_closeai.provisioning.journal import Limits, PriceJournal
from airflow_provider_closeai.provisioning.reading import listed_again, read_until, require_keys, select
from airflow_provider_closeai.provisioning.reprice import (
    RepricePlan,
    closing_line,
    log_changes,
    plan_repricing,
)
from airflow_provider_closeai.provisioning.requests import RepriceRequest
from airflow_provider_closeai.provisioning.runner import locking
from airflow_provider_closeai.provisioning.runner.locking import alias_lock
from airflow_provider_closeai.provisioning.texts import format_ids

log = logging.getLogger(__name__)


def reprice(client: CloseAIClient, request: RepriceRequest) -> list[SubAccount]:
    """
    Set prices; what is right already is not sent.

    :param client: the API.
    :param request: what is asked for.
    :returns: all selected accounts as they are afterwards (with ``dry_run``: as they would be).
    :raises MissingAccounts: a selected account is not listed; nothing was changed.
    :raises MaskedKeys: the listing hides the keys of accounts that must change; nothing was changed.
    :raises Declined: the platform said no, and the listing does not show the change.
    :raises NotConfirmed: the listing does not show the change 30 seconds later.
    """
    return reprice_listed(client, lambda: select(client, request.accounts, missing="fail"), request)


def reprice_listed(
    client: CloseAIClient, read: Callable[[], list[SubAccount]], request: RepriceRequest
) -> list[SubAccount]:
    """
    Set the prices of accounts that are read in a way of its own; see :func:`reprice`.

    :param client: the API.
    :param read: lists the accounts that are meant, as they are now.
    :param request: what is asked for; its selection is not used.
    """
    config = client.config
    with alias_lock(client, "pricing") as note:
        limits = Limits(locking.CONFIRM_WITHIN, config.max_late, leave_within=config.deadline)
        journal = PriceJournal(FileStore(note), limits, client.clock.now)
        longest = limits.settle + limits.leave_within + limits.max_late
        accounts, _ = read_until(client, read, lambda listed: not journal.behind(listed), longest)
        plan = plan_repricing(accounts, request)
        if not request.dry_run:
            require_keys(plan.changing)
        log_changes(plan, request.dry_run)
        if request.dry_run:
            accounts = plan.as_planned(accounts)
        elif plan.changing:
            doubt = _send_prices(client, plan, journal)
            listed = {account.id: account for account in _confirm_prices(client, plan, doubt, journal)}
            accounts = [listed.get(account.id, account) for account in accounts]
        log.info("%s", closing_line(accounts, len(plan.changing), request.dry_run))
        return accounts


def _send_prices(
    client: CloseAIClient, plan: RepricePlan, journal: PriceJournal
) -> OutcomeUnknown | Declined | None:
    """Send the changes; an outcome that stays unknown is left to the reading back. A no ends the sending."""
    doubt: OutcomeUnknown | None = None
    for batch in plan.batches:
        journal.note({account.id: batch.pricing for account in batch.accounts}, shown=False)
        try:
            client.update(batch.accounts, batch.alias, batch.pricing)
        except OutcomeUnknown as error:
            log.warning("%s Reading back shows whether it was.", error)
            doubt = error
        except Declined as error:
            return error
        except CloseAIError as error:  # it was not executed
            journal.forget(account.id for account in batch.accounts)
            raise with_doubt(error, doubt) from None
    return doubt


def _confirm_prices(
    client: CloseAIClient,
    plan: RepricePlan,
    doubt: OutcomeUnknown | Declined | None,
    journal: PriceJournal,
) -> list[SubAccount]:
    seconds, unknown = locking.CONFIRM_WITHIN, None
    if isinstance(doubt, Declined):
        seconds = 0.0  # a no is looked into once
    elif doubt is not None:
        seconds, unknown = seconds + client.config.max_late, doubt
    try:
        listed, is_right = read_until(
            client, lambda: listed_again(client, plan.changing), lambda seen: not plan.missing(seen), seconds
        )
    except CloseAIError as error:
        raise with_doubt(error, unknown) from None
    if is_right:
        journal.note({account.id: plan.targets[account.id] for account in plan.changing}, shown=True)
        return listed
    missing = plan.missing(listed)
    journal.forget(missing)  # what was not seen for so long is not on its way
    if doubt is not None:
        raise doubt
    raise NotConfirmed(
        f"The platform accepted the new prices, and {locking.CONFIRM_WITHIN:g} s later the listing does not "
        f"show them for the sub-accounts {format_ids(missing)}. Does it know these models? A retry sends "
        "only what is still different.",
        call="update",
    )
