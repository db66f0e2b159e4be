"""The API's calls as on the platform's page, and how one is carried out.

A call goes to the best base and, where its outcome allows, on to the next (:mod:`.retry`).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import msgspec

from airflow_provider_closeai.client import failures, retry
from airflow_provider_closeai.client.answers import Attempt, Outcome
from airflow_provider_closeai.client.config import ClientConfig
from airflow_provider_closeai.client.connections import LONGEST
from airflow_provider_closeai.client.decoding import decode_create, decode_page, decoder
from airflow_provider_closeai.client.models import CreditGrants, SuccessAnswer
from airflow_provider_closeai.client.pool import BasePool
from airflow_provider_closeai.client.transport import Call, Transport
from airflow_provider_closeai.local_state.clock import Clock

_ACCOUNTS = "/api/v1/account/sub-account"
_PAGE = 5000  # accounts that fit into an answer of usual length, however long their prices

LIST = Call("list", "GET", f"{_ACCOUNTS}/list", decode_page, writes=False)
LIST_FURTHER = msgspec.structs.replace(LIST, may_miss=True)  # a page may not exist
LIST_AT_ONCE = msgspec.structs.replace(LIST, longest=8 * LONGEST)
CREATE = Call("create", "POST", f"{_ACCOUNTS}/token", decode_create, repeatable=False)
UPDATE = Call("update", "POST", f"{_ACCOUNTS}/token/info", decoder(SuccessAnswer), may_miss=True)
DELETE = Call("delete", "DELETE", f"{_ACCOUNTS}/token", decoder(SuccessAnswer), may_miss=True)
BILLING = Call("billing", "GET", "/dashboard/billing/credit_grants", decoder(CreditGrants), writes=False)


def listing_call(page: int, size: int) -> Call:
    """Return the call for a page of the listing; ``size``: accounts per page, -1: all."""
    if page > 1:
        return LIST_FURTHER
    return LIST if 0 < size <= _PAGE else LIST_AT_ONCE


class Caller:
    """Carries out calls."""

    def __init__(self, config: ClientConfig, transport: Transport, pool: BasePool, clock: Clock) -> None:
        self._config = config
        self._transport = transport
        self._pool = pool
        self._clock = clock

    def send(
        self,
        call: Call,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        permit: retry.Permit | None = None,
    ) -> list[Attempt]:
        """
        Attempt a call until it is executed, and return the attempts.

        :param body: sent as JSON.
        :raises CloseAIError: the call failed; says what all attempts together prove (:mod:`.failures`).
        """
        progress = retry.Progress(
            end=self._clock.monotonic() + self._config.deadline,
            max_attempts=self._config.max_attempts,
            repeatable=call.repeatable,
            permit=permit,
        )
        attempts = progress.attempts
        try:
            for step in retry.retrying(progress, self._clock):
                step.retry_state.set_result(self._attempt(call, progress, query, body))
        except Exception as problem:  # the permit's or the pool's: an earlier attempt may still be executed
            if not call.writes or not _may_be_executed(attempts):
                raise
            detail = f"not sent again ({type(problem).__name__})"
            attempts.append(Attempt(base=attempts[-1].base, outcome=Outcome.NOT_SENT, detail=detail))
        if attempts[-1].outcome is Outcome.EXECUTED:
            return attempts
        if retry.is_doubted(attempts, progress.bases):
            unknown = functools.partial(msgspec.structs.replace, outcome=Outcome.UNKNOWN)
            attempts = [unknown(each) if retry.is_missed(each) else each for each in attempts]
        if not call.writes and self._is_shut_out(progress):
            raise failures.shut_out(call.name, attempts)
        raise failures.failed_call(call.name, attempts, writes=call.writes)

    def _attempt(
        self, call: Call, progress: retry.Progress, query: Mapping[str, str] | None, body: object
    ) -> Attempt:
        def send(base: str, *, fresh: bool) -> Attempt:
            may_leave = None if progress.permit is None else progress.permit.renew()
            left = progress.end - self._clock.monotonic()  # discovery and probes may have taken it
            if left <= 0:
                detail = "the deadline had passed before it could be sent, and it was not sent"
                attempt = Attempt(base=base, outcome=Outcome.NOT_SENT, detail=detail, is_late=True)
            else:
                attempt = self._transport.attempt(
                    call, base, seconds=left, query=query, body=body, fresh=fresh, may_leave=may_leave
                )
            progress.attempts.append(attempt)
            # With hardly any time left it says nothing of the base, nor does a kept connection that died.
            is_fair = left >= min(self._config.connect_timeout, self._config.deadline / 2)
            proves_ill = is_fair and not attempt.is_stale and not attempt.is_late
            if attempt.outcome is Outcome.EXECUTED or proves_ill:
                self._pool.report(attempt)
            return attempt

        with self._pool.choose(progress) as base:
            had_stale = any(attempt.is_stale for attempt in progress.attempts)
            attempt = send(base, fresh=had_stale or not call.repeatable)
            return send(base, fresh=True) if attempt.is_stale else attempt

    def _is_shut_out(self, progress: retry.Progress) -> bool:
        """Return whether every base is healthy and refuses the key, in a form that is not the platform's."""
        tried = {attempt.base for attempt in progress.attempts}
        refusals = (each for each in progress.attempts if each.is_foreign and each.status in (401, 403))
        refusing = dict.fromkeys(attempt.base for attempt in refusals)
        refuse_all = len(tried) == len(refusing) >= progress.bases
        return refuse_all and all(self._pool.is_healthy_now(base, progress.end) for base in refusing)


def _may_be_executed(attempts: Sequence[Attempt]) -> bool:
    return any(attempt.outcome is Outcome.UNKNOWN for attempt in attempts)
