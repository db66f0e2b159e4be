"""The API of one main account: every call on the platform's page, and listings proven complete.

What users mean by "create", "reprice" and "delete" is one layer up, in
:mod:`airflow_provider_closeai.provisioning`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal

from airflow_provider_closeai.client import errors, failures, retry
from airflow_provider_closeai.client.alias_filter import AliasFilter
from airflow_provider_closeai.client.answers import Outcome
from airflow_provider_closeai.client.cache import Cache
from airflow_provider_closeai.client.calls import BILLING, CREATE, DELETE, UPDATE, Caller, listing_call
from airflow_provider_closeai.client.config import ClientConfig
from airflow_provider_closeai.client.listing import read_all
from airflow_provider_closeai.client.models import (
    ApiBase,
    BaseHealth,
    CreateAnswer,
    CreditGrants,
    Item,
    SecretToken,
    SubAccount,
    SubAccountPage,
    UnreadableItem,
    pricing_body,
)
from airflow_provider_closeai.client.pool import BasePool
from airflow_provider_closeai.client.transport import Transport
from airflow_provider_closeai.local_state.clock import SYSTEM_CLOCK, Clock
from airflow_provider_closeai.local_state.stores import Store

log = logging.getLogger(__name__)

_TICK = 2.0  # seconds by which the platform's Date may lag behind its other times
_FEW = 20  # aliases that are asked for one by one while the number of accounts is unknown


class CloseAIClient:
    """
    The API of one main account.

    :param config: the connection, from :func:`~airflow_provider_closeai.client.config.config_from`.
    :param store: makes the store that shares what is known of bases; default: only a file of this host.
    """

    def __init__(
        self,
        config: ClientConfig,
        *,
        store: Callable[[str], Store] | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.config = config
        self.clock = clock
        transport = Transport(config)
        self._total: int | None = None  # of the last full listing
        #: The ``Date`` of the last listing's answer, in seconds since the epoch.
        self.platform_time: float | None = None
        #: The bases that have answered listings.
        self.listed_by: set[str] = set()
        #: Called before each page of a listing: the whole may take longer than a claim lasts.
        self.before_page: list[Callable[[], None]] = []
        self.cache = Cache(config, store, clock)
        self._filter = AliasFilter(self.cache)
        self.pool = BasePool(config, transport, self.cache, clock)
        self._caller = Caller(config, transport, self.pool, clock)

    def list_bases(self) -> list[ApiBase]:
        """Return the bases, best first, from the shared cache while it is fresh."""
        return self.pool.known()

    def get_base_url(self) -> str:
        """Return the base to use now, without a trailing slash. An OpenAI client wants ``/v1`` behind it."""
        return self.pool.to_use()

    def check_health(self) -> list[BaseHealth]:
        """Return every base's health; probe only where it is older than ``health_ttl``."""
        return self.pool.check_health()

    def refresh_bases(self) -> list[ApiBase]:
        """Ask discovery now, however fresh its last answer is, and return the bases, best first."""
        return self.pool.refresh()

    def iter_listing(self, alias: str | None = None) -> Iterator[Item]:
        """
        Stream the listing, page by page, including the entries that cannot be read.

        Each account comes once, and none that exists throughout is missed, whatever appears or vanishes
        meanwhile. ``alias`` matches exactly, whatever the platform's own filter does.

        :param alias: only accounts with exactly this alias, and entries whose alias cannot be read.
        :raises ListingUnstable: where the listing never agrees with its own ``total``.
        """
        if alias is None:
            yield from read_all(self.page, self.config.page_size)
        elif self.believes_absent(alias):
            yield from self._filtered(alias)
        elif (found := self._find(alias)) is not None:
            yield from found
        else:
            yield from (item for item in self.iter_listing() if _may_be_of(item, [alias]))

    def iter_aliases(self, aliases: Collection[str]) -> Iterator[Item]:
        """
        Stream the accounts of several aliases, and (perhaps twice) entries whose alias cannot be read.

        The platform's filter is asked for each alias if that takes no more calls than one full listing;
        aliases for which it cannot be trusted come from one full listing.

        :param aliases: each matches exactly.
        """
        left = set(aliases)
        if len(left) == 1:
            yield from self.iter_listing(left.pop())
            return
        silent = set()  # the filter finds none; a full listing, if made anyway, looks for them too
        if self._is_few(left):
            for alias in sorted(left):
                found = self._find(alias)
                if found:
                    left.discard(alias)
                    yield from found
                elif found is not None:
                    silent.add(alias)
        if left - silent:
            yield from (item for item in self.iter_listing() if _may_be_of(item, left))

    def _filtered(self, alias: str) -> Iterator[Item]:
        """Stream what the filter finds of an alias, or a full listing if that is not proven complete."""
        listed = read_all(self.page, self.config.page_size, alias)
        return (item for item in listed if _may_be_of(item, [alias]))

    def _find(self, alias: str) -> list[Item] | None:
        """Return what the platform's filter finds; ``None`` if it cannot be trusted to find all."""
        if not self._filter.may_ask(alias):
            return None
        try:
            items = list(self._filtered(alias))
        except errors.CloseAIError:
            if self._filter.is_trusted(alias):
                raise
            return None  # the filter cannot take such an alias
        is_found = any(item.alias == alias for item in items)
        return items if is_found or self._filter.is_trusted(alias) else None

    def _is_few(self, aliases: Collection[str]) -> bool:
        """Return whether asking the filter for each takes no more calls than a full listing."""
        if self._total is None and len(aliases) <= _FEW:
            return True
        total = self.page(1, 1).total if self._total is None else self._total
        pages = 1.0 if total is None or self.config.page_size < 1 else total / self.config.page_size
        return len(aliases) <= pages

    def iter_sub_accounts(
        self, alias: str | None = None, sk: str | SecretToken | None = None
    ) -> Iterator[SubAccount]:
        """
        Stream the sub-accounts, as :meth:`iter_listing` does; warn of entries that cannot be read.

        A key is matched here and never sent in a URL, which logs would keep.

        :param alias: only accounts with exactly this alias.
        :param sk: only the account with exactly this key.
        :raises ListingUnstable: where the listing never agrees with its own ``total``.
        :raises MaskedKeys: ``sk`` is given, and the listing hides the keys.
        """
        token = SecretToken(sk.strip()) if isinstance(sk, str) else sk
        for item in self.iter_listing(alias):
            if isinstance(item, UnreadableItem):
                log.warning("A sub-account is left out: it cannot be read (%s).", item)
            elif token is None:
                yield item
            else:
                failures.require_keys([item])
                if item.token == token:
                    yield item

    def get_sub_account(self, account_id: int) -> SubAccount | None:
        """
        Return one sub-account, ``None`` where there is none.

        :raises UnreadableAccount: it is listed but cannot be read.
        """
        found = next((item for item in self.iter_listing() if item.id == account_id), None)
        if isinstance(found, UnreadableItem):
            raise failures.unreadable([found])
        return found

    def page(self, number: int, size: int, alias: str | None = None) -> SubAccountPage:
        """
        Return one page of the listing as the platform gives it.

        :param number: from 1.
        :param size: accounts per page; -1: all.
        :param alias: the platform's own filter, exact or not.
        """
        query = {"page": str(number), "page_size": str(size)}
        if alias is not None:
            query["alias"] = alias
        for prepare in tuple(self.before_page):
            prepare()
        executed = self._caller.send(listing_call(number, size), query=query)[-1]
        self.platform_time = executed.date
        self.listed_by.add(executed.base)
        answer: SubAccountPage = executed.value
        if alias is None:
            self._total = answer.total
        else:
            found = {each.id for each in answer.items or () if each.alias == alias and each.id}
            self._filter.note_found(alias, found)
        return answer

    def check_filter(self, alias: str, accounts: Iterable[SubAccount], settle: float) -> None:
        """
        Check that the platform's filter finds accounts from a full listing; stop using it if it misses one
        that is still listed.

        :param settle: seconds until all bases list an account: a younger one proves nothing.
        """
        ages = {each.id: self._age_of(each) for each in accounts}
        known = {number for number, age in ages.items() if age is None or age >= settle - _TICK}
        found = self._find(alias) if known and self._filter.may_ask(alias) else None
        if found is None:
            return
        missed = known - {item.id for item in found}
        if missed and any(item.id in missed for item in self.iter_listing()):
            log.warning(
                "The platform's alias filter does not find all accounts of alias %r that are listed. It is "
                "used no more: all accounts are listed instead.",
                alias,
            )
            self._filter.note_missed()

    def prove_filter(self, accounts: Iterable[SubAccount]) -> None:
        """
        Check, before accounts are changed, that the platform's filter finds them: one that it misses would be
        taken for deleted. Aliases that it misses are read from full listings from now on.
        """
        by_alias: dict[str, set[int]] = {}
        for account in accounts:
            if account.alias and not self._filter.has_found(account.alias, account.id):
                by_alias.setdefault(account.alias, set()).add(account.id)
        if not self._is_few(by_alias):
            self._filter.doubt(by_alias)
            return
        for alias in filter(self._filter.may_ask, by_alias):
            found = self._find(alias)
            if found is None or not by_alias[alias] <= {item.id for item in found}:
                self._filter.doubt([alias])  # deleted meanwhile, listed late, or missed

    def doubt_filter(self, accounts: Iterable[SubAccount]) -> None:
        """Read the aliases of accounts that the platform's filter hides from full listings from now on."""
        self._filter.doubt(account.alias for account in accounts if account.alias)

    def believes_absent(self, alias: str) -> bool:
        """Return whether the platform's filter alone may say that an alias has no accounts."""
        return self._filter.may_ask(alias) and self._filter.is_trusted(alias)

    def may_be_unlisted(
        self, accounts: Iterable[SubAccount], since: float, settle: float
    ) -> list[SubAccount]:
        """
        Return the accounts that one base lists and another may not list yet.

        :param since: when they were listed, in monotonic seconds.
        :param settle: seconds until all bases list an account.
        """
        if len(self.listed_by) == 1 or self.clock.monotonic() >= since + settle:
            return []
        ages = ((each, self._age_of(each)) for each in accounts)
        return [each for each, age in ages if age is None or age < settle]

    def _age_of(self, account: SubAccount) -> float | None:
        """Return an account's age in seconds, by the platform's clock; ``None``: unknown."""
        if account.created is None or self.platform_time is None:
            return None
        return self.platform_time - account.created.timestamp()

    def create(
        self,
        alias: str,
        model_pricing: Mapping[str, Decimal],
        balance: Decimal,
        count: int,
        permit: retry.Permit | None = None,
    ) -> tuple[SubAccount, ...]:
        """
        Send one create, and never again once it may have been executed.

        :param permit: asked before each attempt.
        :raises OutcomeUnknown: it may have been executed: list to find out.
        """
        body = {
            "alias": alias,
            "model_pricing": pricing_body(model_pricing),
            "balance": balance,
            "count": count,
        }
        answer: CreateAnswer = self._caller.send(CREATE, body=body, permit=permit)[-1].value
        return answer.items or ()

    def update(
        self,
        accounts: Sequence[SubAccount],
        alias: str | None,
        model_pricing: Mapping[str, Decimal],
        permit: retry.Permit | None = None,
    ) -> bool:
        """
        Replace the entire price list of accounts.

        :param alias: the alias that they have already: the call sets it.
        :param model_pricing: factor by model; any other model loses permission.
        :param permit: asked before each attempt.
        :returns: whether an earlier attempt may still be executed after this one.
        """
        body = {"sks": _sks(accounts), "alias": alias or "", "model_pricing": pricing_body(model_pricing)}
        attempts = self._caller.send(UPDATE, body=body, permit=permit)
        return any(attempt.outcome is Outcome.UNKNOWN for attempt in attempts)

    def delete(self, accounts: Sequence[SubAccount]) -> None:
        """Delete accounts."""
        self._caller.send(DELETE, body={"sks": _sks(accounts)})

    def main_usage(self) -> Decimal:
        """Return the main account's consumption this month, as the platform counts it. Rate limited."""
        grants: CreditGrants = self._caller.send(BILLING)[-1].value
        return grants.total_used


def _may_be_of(item: Item, aliases: Collection[str]) -> bool:
    """Return whether an entry has one of the aliases, or cannot be read and may have it."""
    return (item.alias or "") in aliases or (item.alias is None and isinstance(item, UnreadableItem))


def _sks(accounts: Sequence[SubAccount]) -> list[SecretToken]:
    failures.require_keys(accounts)
    return [account.token for account in accounts]
