"""The bases of one connection: discovery, failover and health, shared by all processes through the cache."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import logging
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

import msgspec

from airflow_provider_closeai.client import errors, failures, retry
from airflow_provider_closeai.client.answers import Attempt, Outcome
from airflow_provider_closeai.client.bases import (
    FIRST_WAIT,
    base_to_use,
    decode_healthy,
    decode_links,
    discovery_wait,
    is_bad,
    is_due_again,
    is_lost,
    missed,
    ordered,
    ranked,
    usable,
)
from airflow_provider_closeai.client.cache import STALE_FOR, Cache, HealthCheckResult, PoolState
from airflow_provider_closeai.client.config import ClientConfig
from airflow_provider_closeai.client.models import ApiBase, BaseHealth
from airflow_provider_closeai.client.transport import Call, Transport
from airflow_provider_closeai.local_state.clock import SYSTEM_CLOCK, Clock

log = logging.getLogger(__name__)

LINKS = Call("links", "GET", "/api/v1/links", decode_links, writes=False, longest=2**20)
HEALTHY = Call(
    "healthy", "GET", "/api/v1/healthy", decode_healthy, writes=False, longest=64 * 2**10, auth=False
)
_PROBE_SECONDS = 10.0
_POLL_EVERY = 0.05
_NOT_PROBED = HealthCheckResult(healthy=False, at=0.0, detail="not probed yet", is_proof=False)


class BasePool:
    """The bases of one connection."""

    def __init__(
        self, config: ClientConfig, transport: Transport, cache: Cache, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._config = config
        self._transport = transport
        self._cache = cache
        self._now, self._monotonic = clock.now, clock.monotonic
        self._sleep = clock.sleep
        self._seen: dict[str, HealthCheckResult | None] = {}  # for the bases of calls under way

    def known(self) -> list[ApiBase]:
        """Return the bases in the order of use; ask discovery only if its answer is too old."""
        known = self._current()
        return ordered(known.bases, known.verdicts)

    def refresh(self) -> list[ApiBase]:
        """
        Ask discovery now, however fresh its last answer is, and return the bases in the order of use.

        Raises as :meth:`known`. A fixed list of bases is returned as it is.
        """
        if not self._config.api_bases:
            with self._cache.try_lock("discovery", wait=self._config.deadline):
                self._discover(self._cache.read())
        return self.known()

    @contextlib.contextmanager
    def choose(self, progress: retry.Progress) -> Iterator[str]:
        """
        Yield the base of a call's next attempt. Raises as :meth:`known`.

        A base without a fresh verdict is risked by one process at a time, while the others take the next one:
        one that swallows connections costs one connect timeout, not one per task.
        """
        known = self._known_for_a_call(progress.end)
        candidates = [base.api for base in ordered(known.bases, known.verdicts)]
        progress.bases = len(candidates)
        bases = retry.preferred(candidates, progress.attempts)
        with contextlib.ExitStack() as risk:
            base = bases[0] if len(bases) == 1 else self._risked(bases, known, risk, progress.end)
            self._seen[base] = known.verdicts.get(base)
            yield base

    def _risked(self, bases: Sequence[str], known: PoolState, risk: contextlib.ExitStack, end: float) -> str:
        end = min(end, self._monotonic() + self._config.connect_timeout)  # reading the cache may take long
        for _ in range(max(1, round(self._config.connect_timeout / _POLL_EVERY))):
            untried = [base for base in bases if self._is_old(known.verdicts.get(base))]
            for base in bases:
                if base not in untried:
                    if not is_bad(known.verdicts.get(base)):
                        return base
                    continue
                name = hashlib.sha256(base.encode()).hexdigest()[:8]
                if risk.enter_context(self._cache.try_lock(f"risk-{name}")):
                    return base
            if not untried or self._monotonic() >= end:
                break
            self._sleep(_POLL_EVERY)  # other processes are trying each of them
            known = self._cache.read()
        return min(bases, key=lambda base: is_bad(known.verdicts.get(base)))

    def _known_for_a_call(self, end: float) -> PoolState:
        """
        Return what is known; raises as :meth:`known`.

        A better base that was bad some time ago is probed first, by one process: no call is risked on it. Of
        several, each call probes the one probed longest ago, or none if discovery took half of its time.
        """
        known = self._current(end - self._monotonic())
        best = ordered(known.bases, known.verdicts)[0]
        better = itertools.takewhile(lambda base: base != best, ranked(known.bases))
        doubted = [
            base
            for base in better
            if is_due_again(known.verdicts.get(base.api), self._now(), self._config.health_ttl)
        ]
        if not doubted or self._monotonic() + self._config.deadline / 2 > end:
            return known
        return self._probe([min(doubted, key=lambda base: known.verdicts[base.api].at)], wait=0.0)

    def is_healthy_now(self, base: str, end: float) -> bool:
        """Probe one base, until ``end`` (monotonic seconds) at the latest; do not share the result."""
        left = end - self._monotonic()
        return left > 0 and self._ask_health(base, left).outcome is Outcome.EXECUTED

    def report(self, attempt: Attempt) -> None:
        """Learn from a real call: one that was served counts as a health check."""
        if attempt.outcome in (Outcome.REJECTED, Outcome.DECLINED):
            return  # it answered, which says nothing about the next call
        healthy = attempt.outcome is Outcome.EXECUTED
        last = self._seen.pop(attempt.base, None) or self._cache.read().verdicts.get(attempt.base)
        reached = attempt.reached_platform
        is_news = last is None or (last.healthy, last.reached) != (healthy, reached) or not last.is_proof
        if last and not is_news and self._now() - last.at < self._config.health_ttl / 2:
            return
        if not healthy:
            log.warning("Base %s: %s. It comes last until it is healthy.", attempt.base, attempt.detail)
        detail, misses = "served a call" if healthy else attempt.detail, missed(healthy, last)
        self._learn({attempt.base: HealthCheckResult(healthy, self._now(), detail, reached, misses=misses)})

    def check_health(self) -> list[BaseHealth]:
        """
        Return every base's health, best-ranked first; probe only where the verdict is too old.

        One process of the host probes, the others wait for its results. Raises as :meth:`known`, and if
        discovery refuses the key, whatever it listed before.
        """
        known = self._probe_all()
        if not self._config.api_bases and self._is_due(known):
            known = self._probe_all()  # no base can be reached: discovery may list others now
        verdicts = [(base, known.verdicts.get(base.api, _NOT_PROBED)) for base in ranked(known.bases)]
        return [
            BaseHealth(base, seen.healthy, seen.at, seen.detail, seen.is_proof) for base, seen in verdicts
        ]

    def _probe_all(self) -> PoolState:
        known = self._current()
        if known.refused:
            raise failures.no_bases(self._config.origin, known, self._now())
        if any(self._is_old(known.verdicts.get(base.api)) for base in known.bases):
            known = self._probe(known.bases, wait=_PROBE_SECONDS * (len(known.bases) + 1))
        return known

    def to_use(self) -> str:
        """Return the best healthy base. Probes as :meth:`check_health`."""
        healths = self.check_health()
        base = base_to_use(healths, "any")
        if base is None:
            seen = "; ".join(f"{health.base.api}: {health.detail}" for health in healths)
            raise errors.NoHealthyBase(
                f"No base is healthy now ({seen}). Each is probed again within "
                f"{self._config.health_ttl:g} s; HealthSensor waits until one is.",
                call="healthy",
            )
        return base

    def _current(self, left: float | None = None) -> PoolState:
        """Return what is known. Discovery may take half of ``left`` (seconds; ``None``: the deadline)."""
        known = self._cache.read()
        if fixed := self._config.api_bases:
            bases = tuple(ApiBase(api, priority=len(fixed) - rank) for rank, api in enumerate(fixed))
            return msgspec.structs.replace(known, bases=bases)
        if self._is_due(known):
            wait = 0.0 if self._is_usable(known) else self._config.deadline
            with self._cache.try_lock("discovery", wait=wait) as mine:
                known = self._cache.read()
                if mine and self._is_due(known):
                    known = self._discover(known, left)
        if self._is_usable(known):
            return known
        raise failures.no_bases(self._config.origin, known, self._now())

    def _is_due(self, known: PoolState) -> bool:
        now = self._now()
        age = now - known.discovered_at
        too_old = age >= self._config.discovery_ttl or (age > FIRST_WAIT and is_lost(known))
        return too_old and now >= known.ask_again_at

    def _is_usable(self, known: PoolState) -> bool:
        return bool(known.bases) and self._now() - known.discovered_at < STALE_FOR

    def _discover(self, known: PoolState, left: float | None = None) -> PoolState:
        """Ask discovery, and share the answer or the failure with every process."""
        half = max(self._config.deadline if left is None else left, 0.001) / 2
        end = self._monotonic() + half
        asked = self._ask_discovery(half)
        wait = asked.retry_after
        if wait and self._monotonic() + wait < end and not self._is_usable(known):
            self._sleep(wait)  # no base to use meanwhile
            asked = self._ask_discovery(half / 2)
        bases = usable(asked.value, self._config.allowed_hosts) if asked.value else ()
        now = self._now()
        if bases:

            def renew(old: PoolState) -> PoolState:
                listed = {base.api for base in bases}
                verdicts = {base: seen for base, seen in old.verdicts.items() if base in listed}
                renewed = PoolState(
                    bases=bases,
                    discovered_at=now,
                    verdicts=verdicts,
                    found_shapes=old.found_shapes,
                    leave_alone_until=old.leave_alone_until,
                )
                if not is_lost(old) or listed != {base.api for base in old.bases}:
                    return renewed
                unchanged = old.unchanged + 1
                wait = discovery_wait(unchanged, None)
                return msgspec.structs.replace(
                    renewed, unchanged=unchanged, asked_at=now, ask_again_at=now + wait
                )

            return self._cache.change(renew)
        why = asked.detail if asked.outcome is not Outcome.EXECUTED else self._why_none(asked.value)
        log.warning("Discovery at %s failed: %s.", self._config.origin, why)

        def put_off(old: PoolState) -> PoolState:
            return msgspec.structs.replace(
                old,
                failures=old.failures + 1,
                asked_at=now,
                ask_again_at=now + discovery_wait(old.failures + 1, asked.retry_after),
                why=why,
                refused=asked.outcome is Outcome.REJECTED and asked.status in (401, 403),
            )

        return self._cache.change(put_off)

    def _why_none(self, links: Sequence[ApiBase]) -> str:
        if links and self._config.allowed_hosts:
            hosts = ", ".join(sorted({urlsplit(link.api).hostname or "?" for link in links}))
            return f"it lists {hosts}, and the connection's 'allowed_hosts' admits none: correct it"
        return "it lists no base that may be used"

    def _ask_discovery(self, seconds: float) -> Attempt:
        config = self._config
        links = msgspec.structs.replace(
            LINKS, decode=lambda content: decode_links(content, config.key.reveal())
        )
        seconds = min(seconds, config.connect_timeout + config.read_timeout)
        return self._transport.attempt(links, config.origin, seconds=seconds, fresh=True)

    def _probe(self, bases: Sequence[ApiBase], wait: float) -> PoolState:
        """
        Probe the bases whose verdict is too old, unless another process is doing so.

        :param wait: seconds to wait for that process; if it takes longer, it is stuck, and this one probes.
        """
        with self._cache.try_lock("health", wait=wait) as mine:
            known = self._current()
            old = [base for base in bases if self._is_old(known.verdicts.get(base.api))]
            if old and (mine or wait):
                learned = self._learn({base.api: self._verdict(base, known) for base in old})
                # Take the verdicts only: the shared cache may have been emptied since the bases were read.
                known = msgspec.structs.replace(known, verdicts={**known.verdicts, **learned.verdicts})
        return known

    def _verdict(self, base: ApiBase, known: PoolState) -> HealthCheckResult:
        probe = self._ask_health(base.api)
        last = known.verdicts.get(base.api)
        is_proof = probe.status != 429
        if not is_proof and last is not None and (last.is_proof or not last.healthy):
            # Throttled, so nothing new: a healthy verdict is extended once only.
            return msgspec.structs.replace(last, at=self._now(), is_proof=last.is_proof and not last.healthy)
        healthy = probe.outcome is Outcome.EXECUTED
        detail = "answered 'healthy'" if healthy else probe.detail
        if not healthy:
            log.warning("Base %s is not healthy: %s.", base.api, detail)
        misses = missed(healthy, last)
        return HealthCheckResult(healthy, self._now(), detail, probe.reached_platform, is_proof, misses)

    def _ask_health(self, base: str, seconds: float = _PROBE_SECONDS) -> Attempt:
        seconds = min(seconds, _PROBE_SECONDS, self._config.deadline / 2)
        # A kept connection that dies proves nothing.
        probe = self._transport.attempt(HEALTHY, base, seconds=seconds, fresh=True)
        if probe.outcome is Outcome.EXECUTED and probe.status != 200:
            detail = f"status {probe.status}, where a healthy base answers 200"
            return msgspec.structs.replace(probe, outcome=Outcome.UNKNOWN, detail=detail)
        return probe

    def _learn(self, verdicts: dict[str, HealthCheckResult]) -> PoolState:
        def edit(old: PoolState) -> PoolState:
            return msgspec.structs.replace(old, verdicts={**old.verdicts, **verdicts})

        return self._cache.change(edit)

    def _is_old(self, verdict: HealthCheckResult | None) -> bool:
        return verdict is None or self._now() - verdict.at >= self._config.health_ttl
