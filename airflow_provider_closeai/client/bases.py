"""Which base serves: discovery, order, failover, health.

The decisions (:func:`ranked`, :func:`ordered`, :func:`discovery_wait`, :func:`base_to_use`) are pure;
:class:`Bases` carries them out on what the cache shares with every other process.
"""

from __future__ import annotations

import fnmatch
import itertools
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from airflow_provider_closeai.client import errors
from airflow_provider_closeai.client.cache import MAX_PUT_OFF, STALE_FOR, Cache, Knowledge, Verdict
from airflow_provider_closeai.client.config import ClientConfig, clean_origin, without_v1
from airflow_provider_closeai.client.models import ApiBase, BaseHealth
from airflow_provider_closeai.client.transport import Attempt, Outcome, Transport

log = logging.getLogger(__name__)

Require = Literal["any", "primary", "all"]
LINKS_PATH = "/api/v1/links"
HEALTH_PATH = "/api/v1/healthy"
FIRST_WAIT = 60.0
MAX_WAIT = 15 * 60.0
_PROBE_SECONDS = 10.0
_NOT_PROBED = Verdict(healthy=False, at=0.0, detail="another process is still probing it")


def ranked(bases: Iterable[ApiBase]) -> list[ApiBase]:
    """Order bases as the platform recommends them: status ``ok`` first, then the larger priority."""
    return sorted(bases, key=lambda base: (base.status != "ok", -base.priority))


def ordered(bases: Iterable[ApiBase], verdicts: dict[str, Verdict]) -> list[ApiBase]:
    """Order bases for a call: as recommended, those with a bad verdict last."""
    return sorted(ranked(bases), key=lambda base: _is_bad(verdicts.get(base.api)))


def discovery_wait(failures: int, retry_after: float | None) -> float:
    """
    Seconds until discovery may be asked again after it failed.

    :param failures: how often in a row, this time included.
    :param retry_after: what the platform asked for, which counts, up to a day.
    """
    if retry_after is not None:
        return min(retry_after, MAX_PUT_OFF)
    return min(MAX_WAIT, FIRST_WAIT * 2.0 ** min(failures - 1, 10))


def base_to_use(healths: Sequence[BaseHealth], require: Require) -> str | None:
    """
    Decide whether enough bases are healthy, and which to use.

    :param healths: best-ranked base first.
    :param require: ``any``: one of them; ``primary``: the best-ranked one; ``all``: each of them.
    :returns: the best healthy base, or ``None`` where the requirement is not met.
    """
    if not healths:
        return None
    met = {
        "any": any(health.healthy for health in healths),
        "primary": healths[0].healthy,
        "all": all(health.healthy for health in healths),
    }[require]
    return next(health.base.api for health in healths if health.healthy) if met else None


def usable(links: Iterable[ApiBase], allowed_hosts: Sequence[str]) -> tuple[ApiBase, ...]:
    """
    Keep the bases that the main key may be sent to, their addresses normalised; warn of the others.

    :param links: discovery's answer.
    :param allowed_hosts: globs; empty: any host.
    """
    kept: dict[str, ApiBase] = {}
    for link in links:
        try:
            origin = without_v1(clean_origin(link.api))
        except ValueError as problem:
            log.warning("Discovery lists a base whose address %s: dropped.", problem)
            continue
        host = urlsplit(origin).hostname or ""
        if allowed_hosts and not any(fnmatch.fnmatch(host, glob.lower()) for glob in allowed_hosts):
            log.warning("Discovery lists %s, which 'allowed_hosts' does not admit: dropped.", origin)
            continue
        kept.setdefault(origin, msgspec.structs.replace(link, api=origin))
    return tuple(kept.values())


class Bases:
    """
    The bases of one connection.

    :param config: the connection.
    :param transport: sends the requests.
    :param cache: what all processes share.
    :param now: seconds since the epoch.
    :param sleep: waits.
    """

    def __init__(
        self,
        config: ClientConfig,
        transport: Transport,
        cache: Cache,
        *,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._config = config
        self._transport = transport
        self._cache = cache
        self._now = now
        self._sleep = sleep

    def known(self) -> list[ApiBase]:
        """
        Return the bases in the order of use; asks discovery only when its answer is too old.

        :raises DiscoveryError: where nothing is known, and discovery does not answer.
        :raises AuthenticationFailed: where discovery refuses the key.
        """
        known = self._current()
        return ordered(known.bases, known.verdicts)

    def refresh(self) -> list[ApiBase]:
        """Ask discovery now; raises as :meth:`known`."""
        if not self._config.api_bases:
            with self._cache.sole("discovery", wait=self._config.deadline):
                known = self._discover(self._cache.read())
            if not known.bases:
                raise self._nothing_known(known)
        return self.known()

    def candidates(self) -> list[ApiBase]:
        """
        Return the bases in the order in which a call tries them. Raises as :meth:`known`.

        A better base that was bad some time ago is probed first, by one process: no call is risked on it.
        """
        known = self._current()
        best = ordered(known.bases, known.verdicts)[0]
        better = itertools.takewhile(lambda base: base != best, ranked(known.bases))
        doubted = [base for base in better if self._is_old(known.verdicts.get(base.api))]
        if doubted:
            known = self._probe(doubted, wait=0.0)
        return ordered(known.bases, known.verdicts)

    def report(self, attempt: Attempt) -> None:
        """
        Learn from a real call: one that was served is a health check.

        :param attempt: its outcome.
        """
        if attempt.outcome is Outcome.REJECTED:
            return  # somebody answered; whether that was the platform is not proven
        healthy = attempt.outcome is Outcome.EXECUTED
        last = self._cache.read().verdicts.get(attempt.base)
        if last and last.healthy == healthy and self._now() - last.at < self._config.health_ttl / 2:
            return
        if not healthy:
            log.warning("Base %s: %s. It comes last until it is healthy.", attempt.base, attempt.detail)
        detail = "served a call" if healthy else attempt.detail
        self._learn({attempt.base: Verdict(healthy=healthy, at=self._now(), detail=detail)})

    def check_health(self) -> list[BaseHealth]:
        """
        Return what is known of every base, best-ranked first; probes only verdicts that are too old.

        One process of the host probes, the others wait for what it finds. Raises as :meth:`known`.
        """
        known = self._current()
        if any(self._is_old(known.verdicts.get(base.api)) for base in known.bases):
            known = self._probe(known.bases, wait=_PROBE_SECONDS * (len(known.bases) + 1))
        verdicts = [(base, known.verdicts.get(base.api, _NOT_PROBED)) for base in ranked(known.bases)]
        return [BaseHealth(base, seen.healthy, seen.at, seen.detail) for base, seen in verdicts]

    def to_use(self) -> str:
        """
        Return the base to use now: the best one that is healthy. Probes as :meth:`check_health`.

        :raises NoHealthyBase: where none is.
        """
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

    def _current(self) -> Knowledge:
        known = self._with_fixed(self._cache.read())
        if self._config.api_bases:
            return known
        if self._is_due(known):
            wait = 0.0 if self._is_usable(known) else self._config.deadline
            with self._cache.sole("discovery", wait=wait) as mine:
                known = self._cache.read()
                if mine and self._is_due(known):
                    known = self._discover(known)
        if self._is_usable(known):
            return known
        raise self._nothing_known(known)

    def _with_fixed(self, known: Knowledge) -> Knowledge:
        fixed = self._config.api_bases
        if not fixed:
            return known
        bases = tuple(ApiBase(api, priority=len(fixed) - rank) for rank, api in enumerate(fixed))
        return msgspec.structs.replace(known, bases=bases)

    def _is_due(self, known: Knowledge) -> bool:
        now = self._now()
        return now >= known.discovered_at + self._config.discovery_ttl and now >= known.ask_again_at

    def _is_usable(self, known: Knowledge) -> bool:
        return bool(known.bases) and self._now() - known.discovered_at < STALE_FOR

    def _discover(self, known: Knowledge) -> Knowledge:
        """Ask discovery once, and share the answer or the failure with every process."""
        asked = self._ask_discovery()
        told = asked.retry_after
        if told is not None and told < self._config.deadline / 2 and not self._is_usable(known):
            self._sleep(told)  # there is nothing else to go on with
            asked = self._ask_discovery()
        bases = usable(asked.value, self._config.allowed_hosts) if asked.value else ()
        now = self._now()
        if bases:

            def renew(old: Knowledge) -> Knowledge:
                listed = {base.api for base in bases}
                verdicts = {base: seen for base, seen in old.verdicts.items() if base in listed}
                return Knowledge(bases=bases, discovered_at=now, verdicts=verdicts)

            return self._cache.change(renew)
        why = asked.detail if asked.outcome is not Outcome.EXECUTED else "it lists no base that may be used"
        log.warning("Discovery at %s failed: %s.", self._config.origin, why)

        def put_off(old: Knowledge) -> Knowledge:
            return msgspec.structs.replace(
                old,
                failures=old.failures + 1,
                ask_again_at=now + discovery_wait(old.failures + 1, asked.retry_after),
                why=why,
                refused=asked.status in (401, 403),
            )

        return self._cache.change(put_off)

    def _ask_discovery(self) -> Attempt:
        config = self._config
        seconds = min(config.deadline / 2, config.connect_timeout + config.read_timeout)
        return self._transport.attempt(
            "GET", self._config.origin, LINKS_PATH, decode=_decode_links, seconds=seconds
        )

    def _nothing_known(self, known: Knowledge) -> errors.CloseAIError:
        origin, why = self._config.origin, known.why or "another process is still asking"
        if known.refused:
            return errors.AuthenticationFailed(
                f"Discovery at {origin} refuses the key ({why}). Put the main account's sk into the "
                "connection's API key; a sub-account's sk has no access.",
                call="links",
                base=origin,
            )
        wait = max(0.0, known.ask_again_at - self._now())
        return errors.DiscoveryError(
            f"No base is known: discovery at {origin} failed ({why}), and is asked again in {wait:.0f} s at "
            "the earliest. If you know a base that works, list it in the connection's extra 'api_bases': "
            "then discovery is not needed.",
            call="links",
            base=origin,
            retry_after=wait,
        )

    def _probe(self, bases: Sequence[ApiBase], wait: float) -> Knowledge:
        """Probe those of the bases whose verdict is too old, if no other process is doing it."""
        with self._cache.sole("health", wait=wait) as mine:
            known = self._current()
            old = [base for base in bases if self._is_old(known.verdicts.get(base.api))] if mine else []
            if old:
                learned = self._learn({base.api: self._verdict(base, known) for base in old})
                # Not its bases: the shared cache may have been emptied since they were read.
                known = msgspec.structs.replace(known, verdicts={**known.verdicts, **learned.verdicts})
        return self._with_fixed(known)

    def _verdict(self, base: ApiBase, known: Knowledge) -> Verdict:
        probe = self._transport.attempt(
            "GET",
            base.api,
            HEALTH_PATH,
            decode=_decode_healthy,
            seconds=_PROBE_SECONDS,
            auth=False,
        )
        last = known.verdicts.get(base.api)
        if probe.status == 429 and last is not None:
            return msgspec.structs.replace(last, at=self._now())  # asked too often: no news
        healthy = probe.outcome is Outcome.EXECUTED
        detail = "answered 'healthy'" if healthy else probe.detail
        if not healthy:
            log.warning("Base %s is not healthy: %s.", base.api, detail)
        return Verdict(healthy=healthy, at=self._now(), detail=detail)

    def _learn(self, verdicts: dict[str, Verdict]) -> Knowledge:
        def edit(old: Knowledge) -> Knowledge:
            return msgspec.structs.replace(old, verdicts={**old.verdicts, **verdicts})

        return self._cache.change(edit)

    def _is_old(self, verdict: Verdict | None) -> bool:
        return verdict is None or self._now() - verdict.at >= self._config.health_ttl


def _is_bad(verdict: Verdict | None) -> bool:
    return verdict is not None and not verdict.healthy


def _decode_links(content: bytes) -> tuple[ApiBase, ...]:
    """Read discovery's answer entry by entry: a broken one costs only itself."""
    links = []
    for entry in msgspec.json.decode(content, type=list[Any]):
        try:
            links.append(msgspec.convert(entry, ApiBase, strict=False))
        except msgspec.ValidationError as problem:
            log.warning("Discovery lists an entry that cannot be read (%s): dropped.", problem)
    return tuple(links)


def _decode_healthy(content: bytes) -> Any:
    if content.strip() != b"healthy":
        raise ValueError("it does not say 'healthy'")
    return True
