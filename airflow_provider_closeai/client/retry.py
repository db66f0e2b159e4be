"""Decides when to send again and when to stop; tenacity carries the decisions out.

========== ======================= ==========================================================
outcome    a create                anything else (reads; updates and deletes repeat safely)
========== ======================= ==========================================================
not sent   again, on another base  again, on another base
rejected   429, 408: after a wait  429, 408: after a wait; 404: until each base has said so;
                                   other 4xx: never
declined   never                   never: the platform said no
unknown    **never**               again, on another base first
========== ======================= ==========================================================
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec
import tenacity

from airflow_provider_closeai.client.answers import THROTTLED, Attempt, Outcome
from airflow_provider_closeai.local_state.clock import Clock

FIRST_BACKOFF = 0.5
MAX_BACKOFF = 30.0


class Permit(Protocol):
    """Says whether a call may be sent, for as long as its attempts take."""

    def renew(self) -> Callable[[], bool]:
        """
        Note, directly before an attempt, that the call may be sent now.

        :returns: a function to ask directly before the first byte: whether it may still be sent.
        :raises Exception: the call may not be sent, and is not.
        """

    def wait(self, seconds: float) -> None:
        """Wait between two attempts."""


class Progress(msgspec.Struct, kw_only=True):
    """
    The limits of one call, and how far it has come.

    :param end: its deadline, in monotonic seconds.
    :param max_attempts: the most attempts, over all bases.
    :param repeatable: whether the call may be sent again after an unknown outcome.
    :param attempts: the attempts made, newest last.
    :param bases: number of bases.
    :param permit: asked before each attempt.
    """

    end: float
    max_attempts: int = 5
    repeatable: bool = True
    attempts: list[Attempt] = []
    bases: int = 1
    permit: Permit | None = None


def may_help(attempt: Attempt, repeatable: bool) -> bool:
    """Return whether sending again is allowed and may succeed."""
    if attempt.outcome is Outcome.NOT_SENT:
        return True
    return _asks_to_wait(attempt) or (attempt.outcome is Outcome.UNKNOWN and repeatable)


def is_missed(attempt: Attempt) -> bool:
    """Return whether an attempt met a 404 by which the platform may say that a key does not exist."""
    return attempt.outcome is Outcome.REJECTED and attempt.status == 404


def is_doubted(attempts: Sequence[Attempt], bases: int) -> bool:
    """Return whether a 404 may be a gateway's, because not every base has answered it."""
    return 0 < len({attempt.base for attempt in attempts if is_missed(attempt)}) < bases


def wait_before_next(attempts: Sequence[Attempt], bases: int, jitter: Callable[[], float]) -> float:
    """
    Return the seconds to wait before the next attempt.

    A base that has not been tried in this call is asked at once. When every base has, or the platform asks to
    wait, its Retry-After counts; without one the wait doubles with each round, with jitter.
    """
    newest = attempts[-1]
    asked_to_wait = _asks_to_wait(newest)
    if not asked_to_wait and len({attempt.base for attempt in attempts}) < bases:
        return 0.0
    if newest.retry_after is not None:
        return newest.retry_after
    rounds = len(attempts) if asked_to_wait else len(attempts) // max(bases, 1)
    return float(min(MAX_BACKOFF, FIRST_BACKOFF * 2 ** max(rounds - 1, 0)) * (0.5 + jitter() / 2))


def preferred(candidates: Sequence[str], attempts: Sequence[Attempt]) -> list[str]:
    """
    Order bases for the next attempt: those that failed least often in this call first.

    After a wait that the platform asked for, the same base is asked again. A base that answered 404 is not
    asked again while there are others.
    """
    if attempts and _asks_to_wait(attempts[-1]):
        return [attempts[-1].base]
    failures = [attempt.base for attempt in attempts]
    missed = {attempt.base for attempt in attempts if is_missed(attempt)}
    return sorted([base for base in candidates if base not in missed] or candidates, key=failures.count)


def _asks_to_wait(attempt: Attempt) -> bool:
    return attempt.outcome is Outcome.REJECTED and attempt.status in THROTTLED


def retrying(progress: Progress, clock: Clock) -> tenacity.Retrying:
    """
    Return the loop over one call's attempts, until an outcome is final, or attempts or time run out.

    The loop's body must add each attempt to the progress. The clock's sleep can be interrupted by a signal.
    """

    def is_over(state: tenacity.RetryCallState) -> bool:
        # A kept connection that died was retried at once on the same base: both count as one attempt.
        stale = any(attempt.is_stale for attempt in progress.attempts)
        enough = len(progress.attempts) - stale >= progress.max_attempts
        return enough or clock.monotonic() + state.upcoming_sleep >= progress.end

    def is_open(newest: Attempt) -> bool:
        is_unsure = is_missed(newest) and is_doubted(progress.attempts, progress.bases)
        return is_unsure or may_help(newest, progress.repeatable)

    return tenacity.Retrying(
        retry=tenacity.retry_if_result(is_open),
        wait=lambda state: wait_before_next(progress.attempts, progress.bases, random.random),  # noqa: S311
        stop=is_over,
        sleep=clock.sleep if progress.permit is None else progress.permit.wait,
        retry_error_callback=lambda state: None,
    )
