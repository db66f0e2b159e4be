"""Exact create: after any crash, cut, timeout or retry, exactly ``count`` accounts of an alias.

The API has no idempotency key, so the listing is the only witness. It is believed at once when it shows
an account, and when it shows none only if nothing is in doubt: after an unknown outcome, on a retry, or
soon after anybody on this host created under the alias, it must have been the same for ``settle`` seconds.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

from airflow_provider_closeai.client.cache import FileStore, Store
from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.errors import CloseAIError, OutcomeUnknown
from airflow_provider_closeai.client.models import SubAccount, factor_json
from airflow_provider_closeai.provisioning import inputs
from airflow_provider_closeai.provisioning.accounts import read_until, sole_writer
from airflow_provider_closeai.provisioning.errors import (
    AliasExists,
    NotConfirmed,
    PricingDiffers,
    TooManyAccounts,
    UnexpectedAnswer,
)
from airflow_provider_closeai.provisioning.journal import Journal

log = logging.getLogger(__name__)

SETTLE = 30.0
_MAX_UNKNOWN = 3


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for, validated."""

    alias: str
    pricing: dict[str, Decimal]
    balance: Decimal
    count: int
    if_exists: str
    batch_size: int
    settle: float


def wanted(
    alias: object,
    model_pricing: object,
    balance: object,
    count: object = 1,
    if_exists: object = "ensure",
    batch_size: object = 100,
    settle: object = SETTLE,
) -> Wanted:
    """
    Validate the parameters of a create; see :func:`ensure_sub_accounts`.

    :raises InvalidParameter: naming the first that is wrong.
    """
    return Wanted(
        alias=inputs.alias_text(alias),
        pricing=inputs.pricing(model_pricing),
        balance=inputs.amount("balance", balance),
        count=inputs.whole("count", count, 1),
        if_exists=inputs.choice("if_exists", if_exists, ("ensure", "fail")),
        batch_size=inputs.whole("batch_size", batch_size, 1),
        settle=inputs.seconds("settle", settle),
    )


def ensure_sub_accounts(
    client: CloseAIClient,
    want: Wanted,
    *,
    first_try: bool = True,
    task: str = "",
    own_journal: Store | None = None,
) -> list[SubAccount]:
    """
    Make it so that exactly ``count`` sub-accounts of the alias exist.

    :param client: the API.
    :param want: what is asked for.
    :param first_try: False when an earlier try of the same task may have created something.
    :param task: names the task over all its tries.
    :param own_journal: kept for all tries of the task; a retry that finds there that nothing was posted
        need not wait. With ``if_exists="fail"`` a retry recognises by it what its earlier try made;
        without it only on the same host.
    :returns: the accounts, oldest id first.
    :raises TooManyAccounts: more than ``count`` exist; none is deleted.
    :raises PricingDiffers: some exist with other prices.
    :raises AliasExists: ``if_exists="fail"``, and some existed before.
    :raises UnexpectedAnswer: the platform created under another alias.
    :raises NotConfirmed: another task deleted some meanwhile.
    :raises OutcomeUnknown: three creates in a row ended unknown, and nothing appeared.
    """
    with sole_writer(client, f"alias:{want.alias}") as name:
        notes, deadline = FileStore(f"{name}.note"), client.config.deadline
        journal = Journal(notes, own_journal, task, first_try, want.settle, deadline)
        return _Ensure(client, want, journal).run()


class _Ensure:
    def __init__(self, client: CloseAIClient, want: Wanted, journal: Journal) -> None:
        self._client = client
        self._want = want
        self._journal = journal
        self._in_doubt = journal.in_doubt

    def run(self) -> list[SubAccount]:
        want = self._want
        present = self._listed()
        made: dict[int, SubAccount] = {}
        unknown = 0
        self._refuse_existing(present)
        if self._journal.before is None:
            self._journal.before = frozenset(present)
        while True:
            if self._in_doubt and len(present) < want.count:
                present = self._settled() | made
            self._in_doubt = False
            self._judge(present)
            missing = min(want.count - len(present), want.batch_size)
            if missing == 0:
                break
            self._journal.begin_post()
            try:
                answer = self._client.create(want.alias, want.pricing, want.balance, missing)
            except OutcomeUnknown as error:
                unknown += 1
                if unknown >= _MAX_UNKNOWN:
                    raise
                log.warning("%s Waiting until the listing has settled for %g s.", error, want.settle)
                self._in_doubt = True
                continue
            except CloseAIError:  # proven not executed
                if not unknown and not made:
                    self._journal.not_posted()
                raise
            new = {account.id: account for account in answer}
            self._refuse_other_alias(new)
            self._refuse_other_prices(new)
            made |= new
            grown = len(present | new) - len(present)
            unknown += grown == 0
            if unknown >= _MAX_UNKNOWN:
                raise UnexpectedAnswer(
                    f"The platform says that it created accounts of alias {want.alias!r}, and names no new "
                    f"one: {len(present)} of {want.count} are there. Has the main account reached a limit?",
                    call="create",
                )
            present = present | new
            self._in_doubt = grown < missing
            log.info("Created %d sub-accounts of alias %r: ids %s.", len(new), want.alias, sorted(new))
        if made:
            listed = self._read_back(made)
            present = listed | made
            self._judge(present)
            if len(present) < want.count:
                raise NotConfirmed(
                    f"Alias {want.alias!r} had {want.count} sub-accounts, and has {len(present)} now: "
                    f"ids {sorted(present)}. Does another task delete some? A retry creates what is missing.",
                    call="create",
                )
            if made.keys() <= listed.keys() and not unknown:
                self._journal.settled()
        return [present[key] for key in sorted(present)]

    def _listed(self) -> dict[int, SubAccount]:
        accounts = self._client.iter_sub_accounts(alias=self._want.alias)
        return {account.id: account for account in accounts if not account.is_other}

    def _settled(self) -> dict[int, SubAccount]:
        """Read until enough is there, or the same was there for ``settle`` seconds."""
        settle = self._want.settle
        pause = min(5.0, settle / 6)
        present = self._listed()
        since = time.monotonic()
        while len(present) < self._want.count and time.monotonic() - since < settle:
            self._client.sleep(pause)
            newest = self._listed()
            if newest.keys() != present.keys():
                since = time.monotonic()
            present = newest
        return present

    def _read_back(self, made: dict[int, SubAccount]) -> dict[int, SubAccount]:
        """Wait until the listing shows what was made, so that the next task finds it."""
        listed, complete = read_until(
            self._client, self._listed, lambda seen: made.keys() <= seen.keys(), self._want.settle
        )
        if not complete:
            log.warning(
                "The listing does not show the new accounts %s yet, %g s after they were created.",
                sorted(made.keys() - listed.keys()),
                self._want.settle,
            )
        return listed

    def _refuse_existing(self, present: dict[int, SubAccount]) -> None:
        before = self._journal.before
        others = present.keys() if before is None else present.keys() & before
        if self._want.if_exists == "fail" and others:
            raise AliasExists(
                f"Alias {self._want.alias!r} has sub-accounts already: ids {sorted(others)}. Nothing was "
                "created. If an earlier try of this task on another host made them, use if_exists='ensure'.",
                call="create",
            )

    def _judge(self, present: dict[int, SubAccount]) -> None:
        want = self._want
        if len(present) > want.count:
            raise TooManyAccounts(
                f"Alias {want.alias!r} has {len(present)} sub-accounts, {want.count} were asked for: ids "
                f"{sorted(present)}. None was deleted: find out which are in use, and delete the others by "
                "id (DeleteSubAccountsOperator). Tasks on several hosts that share an alias need a pool "
                "of one slot.",
                call="create",
            )
        differing = self._differing(present)
        if differing:
            raise PricingDiffers(
                f"Alias {want.alias!r} exists with other prices than asked for "
                f"({_pricing_text(want.pricing)}): {differing}. No more were created. Use "
                "UpdatePricingOperator to change prices, or ask for those that are there.",
                call="create",
            )

    def _differing(self, accounts: dict[int, SubAccount]) -> str:
        differing = [account for account in accounts.values() if account.pricing != self._want.pricing]
        return "; ".join(f"id {account.id} has {_pricing_text(account.pricing)}" for account in differing[:5])

    def _refuse_other_prices(self, new: dict[int, SubAccount]) -> None:
        differing = self._differing(new)
        if differing:
            raise UnexpectedAnswer(
                f"Alias {self._want.alias!r} was asked for with {_pricing_text(self._want.pricing)}, and the "
                f"platform created: {differing}. Does it know these models? Correct model_pricing; "
                "UpdatePricingOperator changes the accounts that are there.",
                call="create",
            )

    def _refuse_other_alias(self, new: dict[int, SubAccount]) -> None:
        others = {account.id: account.alias for account in new.values() if account.alias != self._want.alias}
        if others:
            raise UnexpectedAnswer(
                f"Alias {self._want.alias!r} was asked for, and the platform created {others} (id: alias). A "
                "retry would create them again: choose an alias that the platform keeps as it is, and delete "
                "these by id.",
                call="create",
            )


def _pricing_text(pricing: Mapping[str, Any]) -> str:
    factors = {
        model: "no factor" if factor is None else factor_json(factor) for model, factor in pricing.items()
    }
    return ", ".join(f"{model}: {factors[model]}" for model in sorted(factors))
