"""The calls of the API as the platform's page has them, each a few lines.

A call goes to the best base and, where its outcome allows, on to the next (:mod:`.retry`). What users
mean by "create", "reprice" and "delete" is one floor up, in :mod:`airflow_provider_closeai.provisioning`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from airflow_provider_closeai.client import errors, retry
from airflow_provider_closeai.client.bases import Bases
from airflow_provider_closeai.client.cache import Cache, Store
from airflow_provider_closeai.client.config import ClientConfig
from airflow_provider_closeai.client.listing import read_all
from airflow_provider_closeai.client.models import (
    ApiBase,
    BaseHealth,
    CreateAnswer,
    CreditGrants,
    Done,
    SecretToken,
    SubAccount,
    SubAccountPage,
    UnreadableItem,
    decoder,
    pricing_body,
)
from airflow_provider_closeai.client.transport import Attempt, Outcome, Transport

_ACCOUNTS = "/api/v1/account/sub-account"
# Aliases that any filter takes literally; others are matched here, over the whole listing.
_PLAIN = re.compile(r"[A-Za-z0-9 _.:/@-]+")


class Call(msgspec.Struct, frozen=True):
    """One kind of call: its name for people, and how it travels."""

    name: str
    method: str
    path: str
    decode: Callable[[bytes], Any]
    repeatable: bool = True


def _decode_done(content: bytes) -> Done:
    done: Done = _decode_success(content)
    if not done.success:
        raise ValueError("it says success: false")
    return done


def _decode_create(content: bytes) -> CreateAnswer:
    answer: CreateAnswer = _decode_created(content)
    if not answer.success:
        raise ValueError("it says success: false")
    return answer


_decode_success = decoder(Done)
_decode_created = decoder(CreateAnswer)

LIST = Call("list", "GET", f"{_ACCOUNTS}/list", decoder(SubAccountPage))
CREATE = Call("create", "POST", f"{_ACCOUNTS}/token", _decode_create, repeatable=False)
UPDATE = Call("update", "POST", f"{_ACCOUNTS}/token/info", _decode_done)
DELETE = Call("delete", "DELETE", f"{_ACCOUNTS}/token", _decode_done)
BILLING = Call("billing", "GET", "/dashboard/billing/credit_grants", decoder(CreditGrants))


class CloseAIClient:
    """
    The API of one main account.

    :param config: the connection, from :func:`~airflow_provider_closeai.client.config.config_from`.
    :param store: where the knowledge of bases is shared; default: a file of this host's user.
    :param sleep: waits between attempts.
    """

    def __init__(
        self,
        config: ClientConfig,
        *,
        store: Callable[[str], Store] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.config = config
        self.sleep = sleep
        self._transport = Transport(config)
        self.cache = Cache(config, store)
        self.bases = Bases(config, self._transport, self.cache, sleep=sleep)

    def list_bases(self) -> list[ApiBase]:
        """Return the bases, best first, from the shared cache while it is fresh."""
        return self.bases.known()

    def refresh_bases(self) -> list[ApiBase]:
        """Ask discovery now, however fresh its last answer is, and return the bases, best first."""
        return self.bases.refresh()

    def get_base_url(self) -> str:
        """Return the base to use now, without a trailing slash. An OpenAI client wants ``/v1`` behind it."""
        return self.bases.to_use()

    def check_health(self) -> list[BaseHealth]:
        """Return what is known of every base's health; probes only what is older than ``health_ttl``."""
        return self.bases.check_health()

    def iter_listing(self, alias: str | None = None) -> Iterator[SubAccount | UnreadableItem]:
        """
        Stream the listing with the entries that cannot be read.

        :param alias: only accounts with exactly this alias.
        """
        return self.iter_sub_accounts(alias)

    def iter_sub_accounts(self, alias: str | None = None, sk: str | None = None) -> Iterator[SubAccount]:
        """
        Stream the sub-accounts, page by page.

        Each account comes once, and every account that was there throughout comes, whatever appears or
        vanishes meanwhile. ``alias`` and ``sk`` match exactly, whatever the platform's own filter does.
        A key is never part of an address, where logs would keep it: it is matched here.

        :param alias: only accounts with exactly this alias.
        :param sk: only the account with exactly this key.
        :raises ListingUnstable: where the listing never agrees with its own ``total``.
        """
        filtered = alias if alias is not None and _PLAIN.fullmatch(alias) else None
        token = SecretToken(sk) if sk is not None else None
        for account in read_all(self.page, self.config.page_size, filtered):
            if alias in (None, account.alias) and token in (None, account.token):
                yield account

    def iter_listing(self, alias: str | None = None) -> Iterator[SubAccount | UnreadableItem]:
        """
        Stream the listing, with the entries that cannot be read.

        :param alias: only accounts with exactly this alias, and entries whose alias cannot be read.
        """
        yield from self.iter_sub_accounts(alias=alias)

    def get_sub_account(self, account_id: int) -> SubAccount | None:
        """
        Return one sub-account, ``None`` where there is none.

        :param account_id: its id.
        """
        return next((item for item in self.iter_sub_accounts() if item.id == account_id), None)

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
        answer: SubAccountPage = self._call(LIST, query=query)
        return answer

    def create(
        self, alias: str, model_pricing: Mapping[str, Decimal], balance: Decimal, count: int
    ) -> tuple[SubAccount, ...]:
        """
        Send one create. Never sent again once it may have been executed.

        :raises OutcomeUnknown: it may have been executed: find out by listing.
        """
        body = {
            "alias": alias,
            "model_pricing": pricing_body(model_pricing),
            "balance": balance,
            "count": count,
        }
        answer: CreateAnswer = self._call(CREATE, body=body)
        return answer.items or ()

    def update(
        self, accounts: Sequence[SubAccount], alias: str | None, model_pricing: Mapping[str, Decimal]
    ) -> None:
        """
        Replace the whole price list of accounts.

        :param accounts: whose.
        :param alias: the alias they have: the call sets it.
        :param model_pricing: factor by model; a model that is not in it loses permission.
        """
        pricing = pricing_body(model_pricing)
        self._call(UPDATE, body={"sks": _sks(accounts), "alias": alias or "", "model_pricing": pricing})

    def delete(self, accounts: Sequence[SubAccount]) -> None:
        """
        Delete accounts.

        :param accounts: which.
        """
        self._call(DELETE, body={"sks": _sks(accounts)})

    def main_usage(self) -> Decimal:
        """Return what the main account consumed this month, by the platform's own count. Rate limited."""
        grants: CreditGrants = self._call(BILLING)
        return grants.total_used

    def _call(self, call: Call, *, query: Mapping[str, str] | None = None, body: object = None) -> Any:
        policy = retry.Policy(
            repeatable=call.repeatable,
            max_attempts=self.config.max_attempts,
            deadline=self.config.deadline,
        )
        count = 1
        fair = min(self.config.connect_timeout, self.config.deadline / 2)

        def once(attempts: list[Attempt], seconds: float) -> Attempt:
            nonlocal count
            began = time.monotonic()
            candidates = [base.api for base in self.bases.candidates()]
            count = len(candidates)
            left = max(seconds - (time.monotonic() - began), 0.001)  # discovery may have taken some
            attempt = self._transport.attempt(
                call.method,
                retry.choose(candidates, attempts),
                call.path,
                decode=call.decode,
                seconds=left,
                query=query,
                body=body,
                fresh=not call.repeatable,
            )
            # What had hardly any time left says nothing about the base.
            if attempt.outcome is Outcome.EXECUTED or left >= fair:
                self.bases.report(attempt)
            return attempt

        attempts = retry.run(once, policy, bases=lambda: count, clock=time.monotonic, sleep=self.sleep)
        if attempts[-1].outcome is Outcome.EXECUTED:
            return attempts[-1].value
        raise failed_call(call.name, attempts)


def _sks(accounts: Sequence[SubAccount]) -> list[str]:
    return [account.token.reveal() for account in accounts]  # the one place where tokens leave their box


def failed_call(name: str, attempts: Sequence[Attempt]) -> errors.CloseAIError:
    """
    Make the error of a call from its attempts.

    :param name: the call.
    :param attempts: all of them, the newest last.
    """
    last = attempts[-1]
    told = "; ".join(f"{attempt.base}: {attempt.detail}" for attempt in attempts[-4:])
    tried = f"{name!r} failed after {len(attempts)} attempt{'s' * (len(attempts) > 1)} ({told})."
    sent = [attempt for attempt in attempts if attempt.outcome is Outcome.UNKNOWN]
    refused = last.outcome is Outcome.REJECTED
    if sent and name != LIST.name and last.status not in (401, 403):
        refused = False  # this attempt changed nothing; the one before it may have
    kind: type[errors.CloseAIError]
    if refused:
        kind, next_step = _REJECTIONS.get(last.status, _OTHER_REJECTION)
    elif sent:
        kind = errors.OutcomeUnknown
        next_step = "Nothing was changed: it only reads. Try again later."
        if name != LIST.name:
            next_step = "It was sent and may have been executed: list before you send it again."
    else:
        kind = errors.NotSent
        next_step = "Nothing was sent, nothing was changed. Check the network from this worker to the bases."
    return kind(
        f"{tried} {next_step}", call=name, base=last.base, status=last.status, retry_after=last.retry_after
    )


_OTHER_REJECTION: tuple[type[errors.CloseAIError], str] = (
    errors.Rejected,
    "The platform refused it and changed nothing; sent again it would be refused again. Correct the request.",
)
_REJECTIONS: dict[int | None, tuple[type[errors.CloseAIError], str]] = {
    401: (
        errors.AuthenticationFailed,
        "The key is not known there: put the main account's sk into the connection's API key.",
    ),
    403: (
        errors.PermissionDenied,
        "The key may not do this: a sub-account's sk has no access, use the main account's.",
    ),
    408: (
        errors.RequestTimedOut,
        "The platform did not read it in time and changed nothing. Try again later.",
    ),
    429: (
        errors.RateLimited,
        "The platform asks to wait longer than the connection's 'deadline' and 'max_attempts' allow; "
        "nothing was changed.",
    ),
}
