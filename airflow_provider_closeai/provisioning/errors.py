"""What can be wrong with what was asked, or with what came of it."""

from __future__ import annotations

import logging

from airflow_provider_closeai.client.errors import (
    CloseAIError,
    NotSent,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    RequestTimedOut,
)

log = logging.getLogger(__name__)


class TooManyAccounts(CloseAIError):
    """More accounts of an alias exist than were asked for. None was deleted."""

    permanent = True


class AliasExists(CloseAIError):
    """``if_exists="fail"``, and accounts of the alias exist."""

    permanent = True


class PricingDiffers(CloseAIError):
    """Accounts of the alias exist with other prices than those asked for. No more were created."""

    permanent = True


class UnexpectedAnswer(CloseAIError):
    """The platform did something else than it was asked for; repeating it would do it again."""

    permanent = True


class UnconvertedPricing(CloseAIError):
    """An account still has dead prices that cannot be sent back. Nothing was changed."""

    permanent = True


class NotASubAccount(CloseAIError):
    """What was selected for deletion is not a sub-account. Nothing was deleted."""

    permanent = True


class TooManySelected(CloseAIError):
    """More accounts were selected for deletion than ``max_delete``. Nothing was deleted."""

    permanent = True


class MissingAccounts(CloseAIError):
    """Accounts that were selected are not in the listing. Nothing was changed."""


class NotConfirmed(CloseAIError):
    """The platform accepted a change, and the listing does not show it."""


class AliasBusy(CloseAIError):
    """Other tasks have been working on the same accounts for too long."""


class SupervisorGone(CloseAIError):
    """Airflow does not watch over this process any more, and runs another try. Nothing more was sent."""


class NotNoted(CloseAIError):
    """What must be noted before a post could not be noted, so the post was not sent."""


class ClockDisagrees(CloseAIError):
    """This machine's clock and the platform's differ: ages cannot be told. Nothing was changed."""


def supervisor_gone(call: str = "create") -> SupervisorGone:
    """Return the error of a task process that Airflow has given up."""
    return SupervisorGone(
        "The process of Airflow that supervises this task is gone (was it killed, for want of memory?), and "
        "Airflow runs another try. This one sent nothing more; the other looks, and does what is missing.",
        call=call,
    )


def not_noted(what: str, problem: BaseException | None, call: str = "create") -> CloseAIError:
    """
    Return the error of a call that was not sent, since something could not be noted first.

    :param what: went wrong, as the beginning of a sentence.
    :param problem: what the store raised, if it did.
    """
    if isinstance(problem, BrokenPipeError | EOFError):
        return supervisor_gone(call)
    kind = "" if problem is None else f" ({type(problem).__name__})"
    return NotNoted(
        f"{what}{kind}, so nothing more was sent. Is Airflow's API server up? A retry looks, and does what "
        "is missing.",
        call=call,
    )


def after(done: str, error: CloseAIError) -> CloseAIError:
    """
    Return the error of a task of which earlier calls were executed: the last one alone changed nothing.

    :param done: what they did, for instance ``ids [1, 2] were deleted``; empty: nothing.
    """
    if not done or not isinstance(error, NotSent | RateLimited | RequestTimedOut | Rejected):
        return error
    return type(error)(
        f"{error} Before that call {done}. Run again, the task looks, and does what is missing.",
        call=error.call,
        base=error.base,
        status=error.status,
        retry_after=error.retry_after,
    )


def with_doubt(error: CloseAIError, doubt: OutcomeUnknown | None) -> CloseAIError:
    """
    Return the error of a try whose earlier call is still in doubt: that nothing was changed is then not true.
    """
    says_unchanged = isinstance(error, NotSent | RateLimited | RequestTimedOut | OutcomeUnknown)
    if doubt is None or error is doubt or not says_unchanged:
        return error
    log.warning("%s", error)
    return OutcomeUnknown(
        f"{doubt} Then {error.call!r} failed, too ({type(error).__name__}). A retry looks first, and does "
        "only what is missing.",
        call=doubt.call,
        base=doubt.base,
        status=doubt.status,
        retry_after=error.retry_after,
    )
