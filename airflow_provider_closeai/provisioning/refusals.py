"""What an exact create refuses. Each function returns the error for people, or ``None`` if all is well."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from airflow_provider_closeai.client import failures
from airflow_provider_closeai.client.errors import CloseAIError, Declined, UnreadableAccount
from airflow_provider_closeai.client.models import SubAccount, UnreadableItem
from airflow_provider_closeai.provisioning.errors import (
    AliasExists,
    NotConfirmed,
    PricingDiffers,
    TooManyAccounts,
    UnexpectedAnswer,
)
from airflow_provider_closeai.provisioning.requests import CreateRequest
from airflow_provider_closeai.provisioning.texts import format_ids, prices_of, pricing_text

Accounts = Mapping[int, SubAccount]


def existing(request: CreateRequest, ids: Collection[int]) -> CloseAIError | None:
    """Refuse accounts that existed before the task (``if_exists="fail"``)."""
    if not ids:
        return None
    return AliasExists(
        f"Alias {request.alias!r} has sub-accounts already: ids {format_ids(sorted(ids))}. "
        "Nothing was created. if_exists='ensure' keeps them; so it does with those that an earlier "
        "try of this task made on another host.",
        call="create",
    )


def surplus(request: CreateRequest, present: Accounts, made: Collection[int]) -> CloseAIError | None:
    """Refuse more accounts than requested: it is unknown which are in use, except those just made."""
    if len(present) <= request.count:
        return None
    own = f" This task made {sorted(made)}, and delivered no key of them." if made else ""
    return TooManyAccounts(
        f"Alias {request.alias!r} has {len(present)} sub-accounts, {request.count} were asked for: ids "
        f"{sorted(present)}.{own} None was changed or deleted: find out which are in use, and delete the "
        "others by id (DeleteSubAccountsOperator), or ask for a larger count. Do tasks of several "
        "hosts share the alias? See docs/operators/create.md#several-hosts.",
        call="create",
    )


def prices_to_match(request: CreateRequest, kept: Sequence[SubAccount]) -> CloseAIError | None:
    """Refuse accounts with other prices than requested (``if_exists="match"``)."""
    differing = request.differing(kept)
    if not differing:
        return None
    return PricingDiffers(
        f"Alias {request.alias!r} exists with other prices than asked for "
        f"({pricing_text(request.pricing)}): {prices_of(differing)}. No more were created, since "
        "if_exists is 'match'. 'update' gives them these prices, 'ensure' leaves them as they are.",
        call="create",
    )


def hidden_keys(request: CreateRequest, kept: Sequence[SubAccount], needs_keys: bool) -> CloseAIError | None:
    """Refuse accounts whose keys are needed but hidden by the listing."""
    needed = list(kept) if needs_keys else []
    needed += request.differing(kept) if request.if_exists == "update" else []
    return failures.masked_keys(needed)


def other_prices(request: CreateRequest, new: Accounts) -> CloseAIError | None:
    """Refuse new accounts with other prices than requested."""
    differing = request.differing(new.values())
    if not differing:
        return None
    return UnexpectedAnswer(
        f"Alias {request.alias!r} was asked for with {pricing_text(request.pricing)}, and the "
        f"platform created: {prices_of(differing)}. Does it know these models? Correct "
        "model_pricing; UpdatePricingOperator changes the accounts that are there.",
        call="create",
    )


def other_alias(request: CreateRequest, new: Accounts) -> CloseAIError | None:
    """Refuse new accounts with another alias than requested."""
    others = {key: account.alias for key, account in new.items() if account.alias != request.alias}
    if not others:
        return None
    return UnexpectedAnswer(
        f"Alias {request.alias!r} was asked for, and the platform created {others} (id: alias). Each "
        "further run may create more of them: choose an alias that the platform keeps as it is, and "
        "delete these by id.",
        call="create",
    )


def nothing_new(request: CreateRequest, present: int) -> CloseAIError:
    """Refuse to continue when successful answers name no new account."""
    return UnexpectedAnswer(
        f"The platform says that it created accounts of alias {request.alias!r}, and names no new "
        f"one: {present} of {request.count} are there. Has the main account reached a limit?",
        call="create",
    )


def unreadable(request: CreateRequest, items: Sequence[UnreadableItem], *, more: bool) -> CloseAIError:
    """Refuse entries of the alias that cannot be read."""
    shown = "; ".join(str(item) for item in items[:20])
    return UnreadableAccount(
        f"Alias {request.alias!r} has sub-accounts that are listed in a form that cannot be read "
        f"({shown}). They may be what is wanted, so no {'more ' * more}were created. Look at "
        "them in the platform's console; a retry looks again.",
        call="create",
    )


def vanished(request: CreateRequest, present: Accounts) -> CloseAIError:
    """Report that accounts have vanished."""
    return NotConfirmed(
        f"Alias {request.alias!r} had {request.count} sub-accounts, and has {len(present)} now: "
        f"ids {format_ids(sorted(present))}. Does another task delete some? A retry creates what is missing.",
        call="create",
    )


def still_missing(request: CreateRequest, error: Declined, present: Accounts) -> CloseAIError:
    """Report the accounts that exist after the platform declined."""
    return Declined(
        f"{error} Alias {request.alias!r} has {len(present)} of {request.count} sub-accounts: ids "
        f"{format_ids(sorted(present))}. A retry looks again, and creates only what is missing.",
        call="create",
        base=error.base,
        status=error.status,
        retry_after=error.retry_after,
    )
