"""Errors of requests and of their results."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence

from airflow_provider_closeai.client.errors import (
    CloseAIError,
    Declined,
    DiscoveryError,
    ListingUnstable,
    MaskedKeys,
    NoHealthyBase,
    NotSent,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    RequestTimedOut,
    UnreadableAccount,
)

log = logging.getLogger(__name__)


class TooManyAccounts(CloseAIError):
    """More accounts of an alias exist than requested. None was deleted."""

    permanent = True


class AliasExists(CloseAIError):
    """Accounts of the alias exist, and ``if_exists="fail"``."""

    permanent = True


class PricingDiffers(CloseAIError):
    """Accounts of the alias exist with other prices than requested. No more were created."""

    permanent = True


class UnexpectedAnswer(CloseAIError):
    """The platform did something other than requested; a repetition would do so again."""

    permanent = True


class UnconvertedPricing(CloseAIError):
    """An account still has obsolete prices that cannot be sent back. Nothing was changed."""

    permanent = True


class NotASubAccount(CloseAIError):
    """An account selected for deletion is not a sub-account. Nothing was deleted."""

    permanent = True


class TooManySelected(CloseAIError):
    """More accounts were selected for deletion than ``max_delete``. Nothing was deleted."""

    permanent = True


class MissingAccounts(CloseAIError):
    """Selected accounts are not listed. Nothing was changed."""


class NotConfirmed(CloseAIError):
    """The platform accepted a change, but the listing does not show it."""


class AliasBusy(CloseAIError):
    """Other tasks have been working on the same accounts for too long."""


class SupervisorGone(CloseAIError):
    """Airflow no longer supervises this process, and runs another try. Nothing more was sent."""


class NotNoted(CloseAIError):
    """A note that must precede a call could not be written, so the call was not sent."""


#: Errors of a call, or of what must precede it: they say nothing of earlier calls.
OF_A_CALL = (
    AliasBusy,
    Declined,
    DiscoveryError,
    ListingUnstable,
    MaskedKeys,
    MissingAccounts,
    NoHealthyBase,
    NotNoted,
    NotSent,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    RequestTimedOut,
    SupervisorGone,
    UnreadableAccount,
)


class ClockDisagrees(CloseAIError):
    """This machine's clock and the platform's differ: keys' ages are unknown. Nothing was changed."""


def supervisor_gone(call: str = "create") -> SupervisorGone:
    """Return the error of a task process that Airflow has abandoned."""
    return SupervisorGone(
        "The process of Airflow that supervises this task is gone (was it killed, for want of memory?), and "
        "Airflow runs another try. This one sent nothing more; the other looks, and does what is missing.",
        call=call,
    )


def not_noted(what: str, problem: BaseException | None, call: str = "create") -> CloseAIError:
    """
    Return the error of a call that was not sent because a note could not be written first.

    :param what: what went wrong, as the beginning of a sentence.
    :param problem: what the store raised, if anything.
    """
    if isinstance(problem, BrokenPipeError | EOFError):
        return supervisor_gone(call)
    kind = "" if problem is None else f" ({type(problem).__name__})"
    return NotNoted(
        f"{what}{kind}, so nothing more was sent. Is Airflow's API server up? A retry looks, and does what "
        "is missing.",
        call=call,
    )


def about(what: str, error: CloseAIError) -> CloseAIError:
    """
    Return a copy of an error that begins with its subject.

    :param what: for instance ``Sub-accounts [1, 2] are not deleted``.
    """
    changed = copy.copy(error)
    changed.args = (f"{what}: {error}",)
    return changed


def foremost(errors: Sequence[CloseAIError]) -> CloseAIError:
    """Return the error to raise, preferably one that a retry may cure, and log the others."""
    first = min(errors, key=lambda each: each.permanent)
    for error in errors:
        if error is not first:
            log.error("%s", error)
    return first


def with_history(error: CloseAIError, done: str = "", doubt: CloseAIError | None = None) -> CloseAIError:
    """
    Return the error of a task whose earlier calls changed something, or may have: "nothing was changed" is
    only true of the last call.

    :param done: what they did, for instance ``ids [1, 2] were deleted``; empty: nothing.
    :param doubt: why it is not known whether one of them, or a part of it, was executed.
    """
    if error is doubt:
        doubt = None
    if not isinstance(error, OF_A_CALL) or not (done or doubt):
        return error
    if doubt is not None and not error.permanent and not isinstance(error, UnreadableAccount):
        log.warning("%s", error)
        text = f"{doubt} Then {error.call!r} failed, too ({type(error).__name__})."
        changed: CloseAIError = OutcomeUnknown(
            text, call=doubt.call, base=doubt.base, status=doubt.status, retry_after=error.retry_after
        )
    else:
        changed = copy.copy(error)
        text = f"{error} Before that call: {doubt}" if doubt is not None else str(error)
    before = f" Before that call {done}." if done else ""
    changed.args = (f"{text}{before} Run again, the task looks, and does only what is missing.",)
    return changed
