"""Repricing: read, merge, write, read back. No account is renamed, no model is lost by merging."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal

import msgspec

from airflow_provider_closeai.client.cache import FileStore
from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.errors import CloseAIError, Declined, OutcomeUnknown
from airflow_provider_closeai.client.models import (
    ModelPricing,
    SubAccount,
    factor_json,
    same_factor,
    same_pricing,
)
from airflow_provider_closeai.provisioning import inputs
from airflow_provider_closeai.provisioning.accounts import (
    CONFIRM_WITHIN,
    count_of,
    format_ids,
    listed_again,
    read_until,
    require_keys,
    select,
    sole_writer,
    with_doubt,
)
from airflow_provider_closeai.provisioning.errors import NotConfirmed, UnconvertedPricing
from airflow_provider_closeai.provisioning.journal import PriceJournal
from airflow_provider_closeai.provisioning.selection import Selection, selection

log = logging.getLogger(__name__)


class Repricing(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for, validated."""

    accounts: Selection
    pricing: dict[str, Decimal]
    mode: str
    batch_size: int
    dry_run: bool


def repricing(
    model_pricing: object,
    sub_accounts: object = None,
    alias: object = None,
    sks: object = None,
    mode: object = "merge",
    batch_size: object = 100,
    dry_run: object = False,
) -> Repricing:
    """
    Validate the parameters of a repricing.

    :param mode: ``merge`` changes the models named and keeps the others; ``replace`` sets the list.
    :raises InvalidParameter: naming the first that is wrong.
    """
    return Repricing(
        accounts=selection(sub_accounts, alias, sks),
        pricing=inputs.pricing(model_pricing),
        mode=inputs.choice("mode", mode, ("merge", "replace")),
        batch_size=inputs.whole("batch_size", batch_size, 1),
        dry_run=inputs.flag("dry_run", dry_run),
    )


def target_pricing(account: SubAccount, pricing: Mapping[str, Decimal], mode: str) -> dict[str, Decimal]:
    """
    Decide the whole price list that an account shall have.

    :param account: as it is.
    :param pricing: what is asked for.
    :param mode: ``merge`` or ``replace``.
    :raises UnconvertedPricing: where merging would have to keep dead prices, which cannot be sent.
    """
    if mode == "replace":
        return dict(pricing)
    merged: dict[str, Decimal | None] = {**account.pricing, **pricing}
    dead = [model for model, factor in merged.items() if factor is None]
    if dead:
        raise UnconvertedPricing(
            f"Sub-account {account.id} ({account.alias!r}) still has dead prices, and no pricing_factor, for "
            f"{', '.join(dead)}. Merging cannot keep what cannot be sent: name these models in "
            "model_pricing, or use mode='replace'. Nothing was changed.",
            call="update",
        )
    return {model: factor for model, factor in merged.items() if factor is not None}


def update_pricing(client: CloseAIClient, asked: Repricing) -> list[SubAccount]:
    """
    Set prices; what is right already is not sent.

    :param client: the API.
    :param asked: what is asked for.
    :returns: all selected accounts as they are afterwards (with ``dry_run``: as they would be).
    :raises MissingAccounts: a selected account is not listed; nothing was changed.
    :raises MaskedKeys: the listing hides the keys of accounts that must change; nothing was changed.
    :raises Declined: the platform said no, and the listing does not show the change.
    :raises NotConfirmed: the listing does not show the change 30 seconds later.
    """
    return reprice(client, lambda: select(client, asked.accounts, missing="fail"), asked)


def reprice(
    client: CloseAIClient, read: Callable[[], list[SubAccount]], asked: Repricing
) -> list[SubAccount]:
    """
    Set the prices of accounts that are read in a way of its own; see :func:`update_pricing`.

    :param client: the API.
    :param read: lists the accounts that are meant, as they are now.
    :param asked: what is asked for; its selection is not used.
    """
    with sole_writer(client, "pricing") as name:
        deadline = client.config.deadline
        journal = PriceJournal(FileStore(f"{name}.note"), CONFIRM_WITHIN, deadline)
        accounts, _ = read_until(
            client, read, lambda listed: not journal.behind(listed), CONFIRM_WITHIN + deadline
        )
        targets = {account.id: target_pricing(account, asked.pricing, asked.mode) for account in accounts}
        changing = [account for account in accounts if not same_pricing(account.pricing, targets[account.id])]
        if not asked.dry_run:
            require_keys(changing)
        for account in changing:
            _tell(account, targets[account.id], asked.dry_run)
        ids = format_ids([account.id for account in accounts])
        if asked.dry_run:
            log.info(
                "%s selected, %d would change (dry run, nothing was changed): ids %s.",
                count_of(accounts),
                len(changing),
                ids,
            )
            return [_with_pricing(account, targets[account.id]) for account in accounts]
        if changing:
            doubt = _write(client, changing, targets, asked.batch_size, journal)
            accounts = _confirmed(client, accounts, targets, doubt, journal)
            journal.note({account.id: targets[account.id] for account in changing}, shown=True)
        log.info(
            "%s selected, all have the prices asked for (%d changed now): ids %s.",
            count_of(accounts),
            len(changing),
            ids,
        )
        return accounts


def _write(
    client: CloseAIClient,
    accounts: Sequence[SubAccount],
    targets: Mapping[int, dict[str, Decimal]],
    batch_size: int,
    journal: PriceJournal,
) -> OutcomeUnknown | Declined | None:
    """Send the changes; an outcome that stays unknown is left to the reading back. A no ends the sending."""
    groups: dict[tuple[str | None, frozenset[tuple[str, Decimal]]], list[SubAccount]] = {}
    for account in accounts:
        groups.setdefault((account.alias, frozenset(targets[account.id].items())), []).append(account)
    doubt: OutcomeUnknown | None = None
    for (alias, _), members in groups.items():
        for start in range(0, len(members), batch_size):
            batch = members[start : start + batch_size]
            journal.note({account.id: targets[account.id] for account in batch}, shown=False)
            try:
                client.update(batch, alias, targets[batch[0].id])
            except OutcomeUnknown as error:
                log.warning("%s Reading back shows whether it was.", error)
                doubt = error
            except Declined as error:
                return error
            except CloseAIError as error:  # it was not executed
                journal.forget(account.id for account in batch)
                raise with_doubt(error, doubt) from None
    return doubt


def _confirmed(
    client: CloseAIClient,
    accounts: Sequence[SubAccount],
    targets: Mapping[int, dict[str, Decimal]],
    doubt: OutcomeUnknown | Declined | None,
    journal: PriceJournal,
) -> list[SubAccount]:
    def wrong(listed: Sequence[SubAccount]) -> list[int]:
        right = {account.id for account in listed if same_pricing(account.pricing, targets[account.id])}
        return [account.id for account in accounts if account.id not in right]

    unknown = doubt if isinstance(doubt, OutcomeUnknown) else None
    try:
        listed, is_right = read_until(
            client,
            lambda: listed_again(client, accounts),
            lambda seen: not wrong(seen),
            0 if doubt is not unknown else CONFIRM_WITHIN,  # a no is looked into once
        )
    except CloseAIError as error:
        raise with_doubt(error, unknown) from None
    if is_right:
        return listed
    journal.forget(wrong(listed))  # what was not seen for so long is not on its way
    if doubt is not None:
        raise doubt
    raise NotConfirmed(
        f"The platform accepted the new prices, and {CONFIRM_WITHIN:g} s later the listing does not show "
        f"them for the sub-accounts {format_ids(wrong(listed))}. Does it know these models? A retry sends "
        "only what is still different.",
        call="update",
    )


def _tell(account: SubAccount, target: Mapping[str, Decimal], dry_run: bool) -> None:
    lost = [model for model in account.pricing if model not in target]
    there = account.pricing
    changed = [
        f"{model} {_factor_text(there, model)} -> {factor_json(factor)}"
        for model, factor in target.items()
        if model not in there or not same_factor(there[model], factor)
    ]
    would = "would change" if dry_run else "changes"
    log.info("Sub-account %s (%r) %s: %s.", account.id, account.alias, would, ", ".join(changed) or "-")
    if lost:
        log.warning(
            "Sub-account %s (%r) %s permission for: %s.",
            account.id,
            account.alias,
            "would lose" if dry_run else "loses",
            ", ".join(lost),
        )


def _factor_text(pricing: Mapping[str, Decimal | None], model: str) -> object:
    if model not in pricing:
        return "new"
    factor = factor_json(pricing[model])
    return "without a factor" if factor is None else factor


def _with_pricing(account: SubAccount, pricing: Mapping[str, Decimal]) -> SubAccount:
    entries = tuple(ModelPricing(model, factor) for model, factor in pricing.items())
    return msgspec.structs.replace(account, model_pricing=entries)
