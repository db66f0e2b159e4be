"""Exact create: after any crash, cut, timeout or retry, exactly ``count`` accounts of an alias.

The API has no idempotency key, so the listing is the only witness. It is believed at once when it shows
an account, and when it shows none only if nothing is in doubt: after an unknown outcome, on a retry, or
soon after anybody on this host created under the alias, it must have been the same for ``settle`` seconds.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Container, Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from airflow_provider_closeai.client.cache import FileStore, Store
from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.errors import (
    CloseAIError,
    Declined,
    OutcomeUnknown,
    UnreadableAccount,
)
from airflow_provider_closeai.client.models import SubAccount, factor_json, same_pricing
from airflow_provider_closeai.provisioning import inputs
from airflow_provider_closeai.provisioning.accounts import (
    count_of,
    format_ids,
    read_alias,
    read_until,
    require_keys,
    sole_writer,
    with_doubt,
)
from airflow_provider_closeai.provisioning.errors import (
    AliasExists,
    MissingAccounts,
    NotConfirmed,
    PricingDiffers,
    TooManyAccounts,
    UnexpectedAnswer,
)
from airflow_provider_closeai.provisioning.journal import Journal
from airflow_provider_closeai.provisioning.pricing import reprice, repricing

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

    def record(self, account: SubAccount) -> dict[str, Any]:
        """
        Return an account's record, with ``pricing_differs: true`` where its prices are not those asked for.

        :param account: of the alias.
        """
        differs = not same_pricing(account.pricing, self.pricing)
        return account.record() | ({"pricing_differs": True} if differs else {})


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

    :param if_exists: what of accounts that exist. ``ensure``: they count, and stay as they are. ``update``:
        their prices become those asked for, too. ``match``: other prices are an error. ``fail``: any that
        existed before the task are an error.
    :raises InvalidParameter: naming the first that is wrong.
    """
    return Wanted(
        alias=inputs.new_alias(alias),
        pricing=inputs.pricing(model_pricing),
        balance=inputs.amount("balance", balance),
        count=inputs.whole("count", count, 1),
        if_exists=inputs.choice("if_exists", if_exists, ("ensure", "update", "match", "fail")),
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
    needs_keys: bool = False,
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
    :param needs_keys: the accounts' keys will be used: refuse accounts whose keys the listing hides.
    :returns: the accounts, oldest id first.
    :raises TooManyAccounts: more than ``count`` exist; none is changed or deleted.
    :raises PricingDiffers: ``if_exists="match"``, and some exist with other prices.
    :raises AliasExists: ``if_exists="fail"``, and some existed before.
    :raises MaskedKeys: keys are needed, and the listing hides them; nothing was sent.
    :raises UnreadableAccount: an entry of the alias cannot be read: it may be one that is wanted.
    :raises UnexpectedAnswer: the platform created under another alias or with other prices.
    :raises NotConfirmed: another task deleted some meanwhile.
    :raises Declined: the platform said no, and not all that is wanted is there.
    :raises OutcomeUnknown: three creates in a row ended unknown, and nothing appeared.
    """
    with sole_writer(client, f"alias:{want.alias}") as name:
        notes, deadline = FileStore(f"{name}.note"), client.config.deadline
        journal = Journal(notes, own_journal, task, first_try, want.settle, deadline)
        ensure = _Ensure(client, want, journal, needs_keys)
        try:
            return ensure.run()
        except CloseAIError as error:
            raise with_doubt(error, ensure.doubt) from None


class _Ensure:
    def __init__(self, client: CloseAIClient, want: Wanted, journal: Journal, needs_keys: bool) -> None:
        self._client = client
        self._want = want
        self._journal = journal
        self._in_doubt = journal.in_doubt
        self._needs_keys = needs_keys
        self._posted = False
        self.doubt: OutcomeUnknown | None = None  # of a post that the listing has not settled yet

    def run(self) -> list[SubAccount]:
        want = self._want
        present = self._listed()
        there_at_first = frozenset(present)
        made: dict[int, SubAccount] = {}
        unknown = 0
        self._refuse_existing(present)
        if self._journal.before is None:
            self._journal.before = there_at_first
        while True:
            if self._in_doubt and len(present) < want.count:
                present = self._settled() | made
            self._in_doubt, self.doubt = False, None
            if unknown:  # what has appeared since then was made here, though no answer says so
                self._refuse_other_prices(_without(present, there_at_first))
            self._judge(present, made)
            missing = min(want.count - len(present), want.batch_size)
            if missing == 0:
                break
            self._journal.begin_post()
            self._posted = True
            try:
                answer = self._client.create(want.alias, want.pricing, want.balance, missing)
            except OutcomeUnknown as error:
                unknown += 1
                if unknown >= _MAX_UNKNOWN:
                    raise
                log.warning("%s Waiting until the listing has settled for %g s.", error, want.settle)
                self._in_doubt, self.doubt = True, error
                continue
            except Declined as error:  # it may have been done in part, or by an earlier post: look once
                unknown += 1
                present = self._listed() | made
                if len(present) < want.count:
                    raise self._declined(error, present) from None
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
            log.info("Created %s of alias %r: ids %s.", count_of(new), want.alias, format_ids(sorted(new)))
        if made:
            listed = self._read_back(made)
            present = listed | made
            self._judge(present, made)
            if len(present) < want.count:
                raise NotConfirmed(
                    f"Alias {want.alias!r} had {want.count} sub-accounts, and has {len(present)} now: "
                    f"ids {format_ids(sorted(present))}. Does another task delete some? A retry creates what "
                    "is missing.",
                    call="create",
                )
            if made.keys() <= listed.keys() and not unknown:
                self._journal.settled()
        changed = self._differing(present)
        if want.if_exists == "update":
            present |= self._update(_without(present, made))
        self._close(present, len(present.keys() - there_at_first), len(changed))
        return [present[key] for key in sorted(present)]

    def _listed(self) -> dict[int, SubAccount]:
        accounts, unreadable = read_alias(self._client, self._want.alias)
        if unreadable:
            told = "; ".join(f"id {item.id}: {item.problem}" for item in unreadable[:20])
            raise UnreadableAccount(
                f"Alias {self._want.alias!r} has sub-accounts that are listed in a form that cannot be read "
                f"({told}). They may be what is wanted, so no {'more ' * self._posted}were created. Look at "
                "them in the platform's console; a retry looks again.",
                call="create",
            )
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

    def _update(self, accounts: dict[int, SubAccount]) -> dict[int, SubAccount]:
        """Give accounts that were there the prices asked for; returns them as they are listed then."""
        want = self._want
        if not accounts:
            return {}

        def read() -> list[SubAccount]:
            listed, _ = read_until(
                self._client, self._listed, lambda seen: accounts.keys() <= seen.keys(), want.settle
            )
            gone = sorted(accounts.keys() - listed.keys())
            if gone:
                raise MissingAccounts(
                    f"Sub-accounts {format_ids(gone)} of alias {want.alias!r} are not listed any more, and "
                    "their prices were not updated. Does another task delete them? A retry looks again.",
                    call="update",
                )
            return [listed[key] for key in sorted(accounts)]

        asked = repricing(want.pricing, list(accounts), mode="replace", batch_size=want.batch_size)
        return {account.id: account for account in reprice(self._client, read, asked)}

    def _close(self, present: dict[int, SubAccount], created: int, changed: int) -> None:
        want = self._want
        differing = self._differing(present)
        if differing:
            log.info(
                "Other prices than asked for (%s) are left as they are, since if_exists is %r: %s.",
                _pricing_text(want.pricing),
                want.if_exists,
                _prices_of(differing),
            )
        log.info(
            "Alias %r has %s (%d created%s now): ids %s.",
            want.alias,
            count_of(present),
            created,
            f", {changed} repriced" if want.if_exists == "update" else "",
            format_ids(sorted(present)),
        )

    def _refuse_existing(self, present: dict[int, SubAccount]) -> None:
        before = self._journal.before
        others = present.keys() if before is None else present.keys() & before
        if self._want.if_exists == "fail" and others:
            raise AliasExists(
                f"Alias {self._want.alias!r} has sub-accounts already: ids {format_ids(sorted(others))}. "
                "Nothing was created. if_exists='ensure' keeps them; so it does with those that an earlier "
                "try of this task made on another host.",
                call="create",
            )

    def _judge(self, present: dict[int, SubAccount], made: dict[int, SubAccount]) -> None:
        want = self._want
        if len(present) > want.count:
            raise TooManyAccounts(
                f"Alias {want.alias!r} has {len(present)} sub-accounts, {want.count} were asked for: ids "
                f"{sorted(present)}. None was changed or deleted: find out which are in use, and delete the "
                "others by id (DeleteSubAccountsOperator), or ask for a larger count. Tasks on several "
                "hosts that share an alias need a pool of one slot.",
                call="create",
            )
        differing = self._differing(_without(present, made))
        if want.if_exists == "match" and differing:
            raise PricingDiffers(
                f"Alias {want.alias!r} exists with other prices than asked for "
                f"({_pricing_text(want.pricing)}): {_prices_of(differing)}. No more were created, since "
                "if_exists is 'match'. 'update' gives them these prices, 'ensure' leaves them as they are.",
                call="create",
            )
        if self._posted:
            return  # the keys in an answer must get out, even if the listing hides others
        if self._needs_keys:
            require_keys(present.values())
        if want.if_exists == "update":
            require_keys(differing)

    def _differing(self, accounts: Mapping[int, SubAccount]) -> list[SubAccount]:
        return [each for each in accounts.values() if not same_pricing(each.pricing, self._want.pricing)]

    def _refuse_other_prices(self, new: dict[int, SubAccount]) -> None:
        differing = self._differing(new)
        if differing:
            raise UnexpectedAnswer(
                f"Alias {self._want.alias!r} was asked for with {_pricing_text(self._want.pricing)}, and the "
                f"platform created: {_prices_of(differing)}. Does it know these models? Correct "
                "model_pricing; UpdatePricingOperator changes the accounts that are there.",
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

    def _declined(self, error: Declined, present: dict[int, SubAccount]) -> Declined:
        return Declined(
            f"{error} Alias {self._want.alias!r} has {len(present)} of {self._want.count} sub-accounts: ids "
            f"{format_ids(sorted(present))}. A retry looks again, and creates only what is missing.",
            call="create",
            base=error.base,
            status=error.status,
            retry_after=error.retry_after,
        )


def _without(accounts: Mapping[int, SubAccount], ids: Container[int]) -> dict[int, SubAccount]:
    return {key: account for key, account in accounts.items() if key not in ids}


def _prices_of(accounts: Sequence[SubAccount]) -> str:
    told = "; ".join(f"id {each.id} has {_pricing_text(each.pricing)}" for each in accounts[:5])
    return told + (f" and {len(accounts) - 5} more" if len(accounts) > 5 else "")


def _pricing_text(pricing: Mapping[str, Any]) -> str:
    factors = {
        model: "no factor" if factor is None else factor_json(factor) for model, factor in pricing.items()
    }
    return ", ".join(f"{model}: {factors[model]}" for model in sorted(factors)) or "no models"
