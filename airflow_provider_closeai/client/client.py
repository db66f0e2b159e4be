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
from airflow_provider_closeai.client.models import (
    ApiBase,
    BaseHealth,
    CreateAnswer,
    Done,
    SecretToken,
    SubAccount,
    SubAccountPage,
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

    def get_base_url(self) -> str:
        """Return the base to use now, without a trailing slash. An OpenAI client wants ``/v1`` behind it."""
        return self.bases.to_use()

    def check_health(self) -> list[BaseHealth]:
        """Return what is known of every base's health; probes only what is older than ``health_ttl``."""
        return self.bases.check_health()

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
        for account in self._iter_listing(filtered):
            if alias in (None, account.alias) and token in (None, account.token):
                yield account

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

    def _iter_listing(self, alias: str | None) -> Iterator[SubAccount]:
        """Read the listing until it is proven whole: see :class:`_Pass`."""
        seen: set[int] = set()
        previous: set[int] | None = None
        size = self.config.page_size
        # The platform's filter is only a short cut: believed when its answer is whole by itself.
        readings = [_Pass(self, alias, size)] if alias is not None else []
        readings += [_Pass(self, None, size), _Pass(self, None, size), _Pass(self, None, -1)]
        for reading in readings:
            for account in reading:
                if account.id not in seen:
                    seen.add(account.id)
                    yield account
            if reading.is_whole or (reading.adds_up and reading.ids == previous):
                return
            previous = reading.ids if reading.adds_up and reading.alias is None else None
        raise errors.ListingUnstable(
            f"The listing does not agree with its own total ({len(reading.ids)} accounts read, total "
            f"{reading.total}), three times in a row. Nothing was concluded from it. Try again when nothing "
            "else creates or deletes accounts.",
            call="list",
        )

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


class _Pass:
    """
    One reading of the whole listing, page by page.

    Pages shift while they are read when accounts appear or vanish: an account on a page's edge is then
    missed. A reading of one page cannot shift. One of several pages is believed when it agrees with its
    own total and the next reading brings the same accounts: a deletion that hid an account from the first
    is missing from the second. As a last resort everything is asked in one answer.
    """

    def __init__(self, client: CloseAIClient, alias: str | None, size: int) -> None:
        self._client = client
        self.alias = alias
        self._size = size
        self.ids: set[int] = set()
        self.total: int | None = None
        self.is_steady = True
        self.pages = 0

    def __iter__(self) -> Iterator[SubAccount]:
        while True:
            answer = self._client.page(self.pages + 1, self._size, self.alias)
            self.is_steady = self.is_steady and self.total in (None, answer.total)
            self.total = answer.total
            items = answer.items or ()
            new = {account.id: account for account in items if account.id not in self.ids}
            # A page that only repeats is not the end: pages shifted, or the platform ignores their number.
            self.is_steady = self.is_steady and bool(new or not items)
            if self._size == -1 and self.total is None and 0 < (answer.page_size or 0) <= len(items):
                self.is_steady = False  # a full page that nothing counts: "everything" may have been capped
            self.pages += 1
            self.ids.update(new)
            yield from new.values()
            if not new or self._size == -1 or (self.total is not None and len(self.ids) >= self.total):
                return

    @property
    def adds_up(self) -> bool:
        """Whether as many accounts came as every page's ``total`` said; true where there is no total."""
        return self.is_steady and self.total in (None, len(self.ids))

    @property
    def is_whole(self) -> bool:
        """Whether it is proven complete by itself."""
        return self.adds_up and (self._size == -1 or (self.pages == 1 and self.total is not None))


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
