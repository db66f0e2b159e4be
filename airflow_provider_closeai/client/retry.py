"""When to send again, and when to stop: pure decisions, then tenacity to carry them out.

========== ======================= ==========================================================
outcome    a create                anything else (reads; updates and deletes repeat safely)
========== ======================= ==========================================================
not sent   again, on another base  again, on another base
rejected   429, 408: after a wait  429, 408: after a wait; other 4xx: never
unknown    **never**               again, on another base first
========== ======================= ==========================================================
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import msgspec
import tenacity

from airflow_provider_closeai.client.transport import Attempt, Outcome

FIRST_BACKOFF = 0.5
MAX_BACKOFF = 30.0
_WAIT_AND_REPEAT = (408, 429)


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """
    The bounds of one call.

    :param repeatable: whether the call may be sent again after an unknown outcome.
    :param max_attempts: attempts over all bases.
    :param deadline: seconds over all attempts and waits.
    """

    repeatable: bool
    max_attempts: int
    deadline: float


def may_help(attempt: Attempt, repeatable: bool) -> bool:
    """Say whether sending again is allowed, and could end otherwise."""
    if attempt.outcome is Outcome.NOT_SENT:
        return True
    if attempt.outcome is Outcome.REJECTED:
        return attempt.status in _WAIT_AND_REPEAT
    return attempt.outcome is Outcome.UNKNOWN and repeatable


def wait_before_next(attempts: Sequence[Attempt], bases: int, jitter: Callable[[], float]) -> float:
    """
    Seconds to wait before the next attempt.

    A base that has not failed in this call is asked at once. When every base has failed, or the platform
    asks to wait, its Retry-After counts; without one the wait doubles with each round, jittered.

    :param attempts: what happened so far, the newest last.
    :param bases: how many bases there are.
    :param jitter: a random number in [0, 1).
    """
    newest = attempts[-1]
    asked_to_wait = newest.outcome is Outcome.REJECTED
    if not asked_to_wait and len({attempt.base for attempt in attempts}) < bases:
        return 0.0
    if newest.retry_after is not None:
        return newest.retry_after
    rounds = len(attempts) if asked_to_wait else len(attempts) // max(bases, 1)
    return float(min(MAX_BACKOFF, FIRST_BACKOFF * 2 ** max(rounds - 1, 0)) * (0.5 + jitter() / 2))


def choose(candidates: Sequence[str], attempts: Sequence[Attempt]) -> str:
    """
    Choose the base of the next attempt: the best of those that failed least often in this call.

    After a wait that the platform asked for, the same base is asked again.

    :param candidates: bases, best first.
    :param attempts: what happened so far.
    """
    if attempts and attempts[-1].outcome is Outcome.REJECTED:
        return attempts[-1].base
    failures = [attempt.base for attempt in attempts]
    return min(candidates, key=failures.count)


def run(
    once: Callable[[list[Attempt], float], Attempt],
    policy: Policy,
    *,
    bases: Callable[[], int],
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> list[Attempt]:
    """
    Attempt until the outcome is final, attempts or the deadline run out.

    :param once: makes one attempt, given those so far and the seconds left.
    :param policy: the bounds.
    :param bases: how many bases there are.
    :param clock: monotonic seconds.
    :param sleep: waits; must let a signal through, as :func:`time.sleep` does.
    :returns: all attempts, the newest last. At least one.
    """
    attempts: list[Attempt] = []
    end = clock() + policy.deadline

    def again(newest: Attempt) -> bool:
        return may_help(newest, policy.repeatable)

    def wait(state: tenacity.RetryCallState) -> float:
        return wait_before_next(attempts, bases(), random.random)  # noqa: S311

    def enough(state: tenacity.RetryCallState) -> bool:
        if len(attempts) >= policy.max_attempts:
            return True
        return clock() + state.upcoming_sleep >= end

    def attempt() -> Attempt:
        attempts.append(once(attempts, max(end - clock(), 0.001)))
        return attempts[-1]

    tenacity.Retrying(
        retry=tenacity.retry_if_result(again),  # what is raised, a signal's exception too, goes through
        wait=wait,
        stop=enough,
        sleep=sleep,
        retry_error_callback=lambda state: None,
    )(attempt)
    return attempts
