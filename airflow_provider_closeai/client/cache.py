"""What is known about the bases, shared by every process that uses the same key.

The cache tells a process where to send the main key. So it is private (directory 0700, file 0600, ours,
no link) and signed with a key derived from the sk: text that cannot be verified is ignored.
Nothing in it is secret, and no problem with it fails a task.

It is a file on this host and, if configured, also a store of the whole deployment. This host's own verdict on
a base counts while it is bad or fresh, else the deployment's: a base may be out of reach from one host only.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import ClassVar

import msgspec

from airflow_provider_closeai.client.config import LONGEST_SECONDS, ClientConfig
from airflow_provider_closeai.client.models import ApiBase
from airflow_provider_closeai.local_state.clock import SYSTEM_CLOCK, Clock
from airflow_provider_closeai.local_state.folder import reason, warn_once
from airflow_provider_closeai.local_state.locks import lock
from airflow_provider_closeai.local_state.stores import MAX_BYTES, FileStore, Store

STALE_FOR = LONGEST_SECONDS
MAX_PUT_OFF = 24 * 3600.0
#: Seconds for which this host's processes do not use the shared store after it failed.
LEAVE_ALONE = 300.0
_SKEW = 60.0
_MAX_SKEW = 1800.0  # seconds between the clocks of two hosts; times further ahead are not believed


class HealthCheckResult(msgspec.Struct, frozen=True):
    """
    The last known health of a base.

    :param healthy: whether it served.
    :param at: when that was seen (epoch seconds).
    :param detail: how that was seen, for people.
    :param reached: whether the platform's own server answered, with success or not.
    :param is_proof: whether this proves anything: a probe that was throttled (429) does not.
    :param misses: failures in a row.
    """

    healthy: bool
    at: float
    detail: str
    reached: bool = True
    is_proof: bool = True
    misses: int = 0


class PoolState(msgspec.Struct, frozen=True):
    """
    All that processes share.

    :param bases: discovery's last good answer.
    :param discovered_at: when it came (epoch seconds); 0: never.
    :param failures: discoveries that failed since then.
    :param unchanged: discoveries in a row, asked because no base could be reached, that listed the same.
    :param asked_at: when discovery was last asked in vain; dates ``ask_again_at``, for clocks that differ.
    :param ask_again_at: discovery is not asked again before then.
    :param why: why the last discovery failed, for people.
    :param refused: whether discovery refused the key (401, 403).
    :param verdicts: the last health of each base.
    :param found_shapes: shapes of aliases that the platform's filter has found (:mod:`.alias_filter`).
    :param key_asked_at: with fixed bases: when the platform was last asked about the key.
    :param ask_key_again_at: with fixed bases: until then it is known whether the key is refused.
    :param key_refused: what the platform said when it refused the key; empty: it did not.
    :param published: the bases' health as a task last published it.
    :param published_at: when that was (epoch seconds).
    :param leave_alone_until: until then this host's processes do not use the shared store.
    """

    bases: tuple[ApiBase, ...] = ()
    discovered_at: float = 0.0
    failures: int = 0
    unchanged: int = 0
    asked_at: float = 0.0
    ask_again_at: float = 0.0
    why: str = ""
    refused: bool = False
    verdicts: dict[str, HealthCheckResult] = {}
    found_shapes: tuple[tuple[str, ...], ...] = ()
    key_asked_at: float = 0.0
    ask_key_again_at: float = 0.0
    key_refused: str = ""
    published: str = ""
    published_at: float = 0.0
    leave_alone_until: float = 0.0


def merged(here: PoolState, theirs: PoolState, now: float, health_ttl: float) -> PoolState:
    """
    Merge what this host and the deployment know.

    :param here: what this host knows; the verdicts are its own.
    :param theirs: what the deployment knows.
    :param health_ttl: seconds for which a verdict is used.
    """
    newest = max(here, theirs, key=lambda known: (known.discovered_at, known.asked_at))
    of_key = max(here, theirs, key=lambda known: known.key_asked_at)
    verdicts = {
        base: _deciding(here.verdicts.get(base), theirs.verdicts.get(base), now, health_ttl)
        for base in {**theirs.verdicts, **here.verdicts}
    }
    return msgspec.structs.replace(
        newest,
        verdicts={base: seen for base, seen in verdicts.items() if seen is not None},
        found_shapes=tuple(dict.fromkeys((*here.found_shapes, *theirs.found_shapes))),
        key_asked_at=of_key.key_asked_at,
        ask_key_again_at=of_key.ask_key_again_at,
        key_refused=of_key.key_refused,
        leave_alone_until=here.leave_alone_until,
    )


def _deciding(
    own: HealthCheckResult | None, other: HealthCheckResult | None, now: float, health_ttl: float
) -> HealthCheckResult | None:
    if own is None or other is None:
        return own or other
    if not own.healthy or now - own.at < health_ttl or now - other.at >= health_ttl:
        return own  # bad from this host until this host sees it good
    return other


class Cache:
    """
    Reads, verifies and writes what is known.

    :param config: gives the key, and what the cache is about (origin, fixed bases, allowed hosts).
    :param store: makes the deployment's store from a name; default: there is none.
    """

    _unshared: ClassVar[dict[str, str]] = {}  # per process, for when the file cannot be written

    def __init__(
        self,
        config: ClientConfig,
        store: Callable[[str], Store] | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        about = msgspec.json.encode([config.origin, config.api_bases, config.allowed_hosts])
        self._mac_key = hmac.digest(config.key.reveal().encode(), b"closeai cache 1 " + about, "sha256")
        self.name = hashlib.sha256(self._mac_key).hexdigest()[:24]
        self._file = FileStore(self.name)
        self._shared = None if store is None else store(self.name)
        self._health_ttl = config.health_ttl
        self._clock = clock
        self._last: tuple[str, PoolState] | None = None

    def read(self) -> PoolState:
        """Return what is known: an empty state if no store's text can be verified."""
        here = self._read_here()
        theirs = self._read_shared(here)
        return here if theirs is None else merged(here, theirs, self._clock.now(), self._health_ttl)

    def change(self, edit: Callable[[PoolState], PoolState]) -> PoolState:
        """
        Change what is known, in one process of the host at a time.

        :param edit: makes the new state from the newest one.
        """
        with lock(self.name, 2.0, self._clock):
            theirs = self._read_shared(self._read_here())
            here = self._read_here()  # read again: a failure was noted in it
            before = here if theirs is None else merged(here, theirs, self._clock.now(), self._health_ttl)
            after = edit(before)
            news = {base: seen for base, seen in after.verdicts.items() if seen != before.verdicts.get(base)}
            own = {base: seen for base, seen in (here.verdicts | news).items() if base in after.verdicts}
            here = msgspec.structs.replace(after, verdicts=own)
            self._write_here(here)
            if (shared := self._shared_now(here)) is not None:
                old = {} if theirs is None else theirs.verdicts
                all_of = {base: seen for base, seen in (old | news).items() if base in after.verdicts}
                self._write_shared(shared, here, all_of)
        return after

    def _read_here(self) -> PoolState:
        text = None
        try:
            text = self._file.read()
        except Exception as problem:
            warn_once(f"The shared cache of bases cannot be read ({reason(problem)}).")
        known = self._verified(self._unshared.get(self.name, text))
        return (known and self._dated(known, _SKEW)) or PoolState()

    def _write_here(self, known: PoolState) -> None:
        text = self._signed(known)
        try:
            self._file.write(text)
            self._unshared.pop(self.name, None)
        except Exception as problem:
            warn_once(
                f"The shared cache of bases cannot be written ({reason(problem)}): "
                "this process keeps what it learns to itself."
            )
            self._unshared[self.name] = text

    def _shared_now(self, here: PoolState) -> Store | None:
        left = here.leave_alone_until - self._clock.now()
        return None if 0 < left <= LEAVE_ALONE else self._shared

    def _read_shared(self, here: PoolState) -> PoolState | None:
        if (shared := self._shared_now(here)) is None:
            return None
        try:
            known = self._verified(shared.read())
        except Exception as problem:
            with lock(self.name, 2.0, self._clock):
                self._leave_alone(problem)
            return None
        return known and self._dated(known, _MAX_SKEW)

    def _write_shared(self, shared: Store, here: PoolState, verdicts: dict[str, HealthCheckResult]) -> None:
        known = msgspec.structs.replace(here, verdicts=verdicts, leave_alone_until=0.0)
        try:
            shared.write(self._signed(known))
        except Exception as problem:
            self._leave_alone(problem)

    def _leave_alone(self, problem: Exception) -> None:
        warn_once(
            f"The deployment's cache of bases (a Variable) does not work ({reason(problem)}): it is left "
            f"alone for {LEAVE_ALONE / 60:.0f} minutes, and this host's processes share what they learn."
        )
        here = self._read_here()  # the failure may have taken long: others may have written meanwhile
        self._write_here(msgspec.structs.replace(here, leave_alone_until=self._clock.now() + LEAVE_ALONE))

    def _signed(self, known: PoolState) -> str:
        payload = msgspec.json.encode(known).decode()
        return f"{self._mac(payload)} {payload}"

    def try_lock(self, what: str, wait: float = 0.0) -> AbstractContextManager[bool]:
        """
        Let one process of the host at a time do something; yield whether this one may.

        :param wait: seconds to wait for the others.
        """
        return lock(f"{self.name}.{what}", wait, self._clock, is_reentrant=False)

    def _mac(self, payload: str) -> str:
        return hmac.new(self._mac_key, payload.encode(errors="replace"), "sha256").hexdigest()

    def _verified(self, text: str | None) -> PoolState | None:
        if not isinstance(text, str) or len(text) > MAX_BYTES:
            return None
        if self._last is not None and self._last[0] == text:
            return self._last[1]
        mac, _, payload = text.partition(" ")
        if not hmac.compare_digest(mac.encode(errors="replace"), self._mac(payload).encode()):
            warn_once(f"The cache of bases {self.name} is not ours or was changed: ignored, asked anew.")
            return None
        try:
            known = msgspec.json.decode(payload, type=PoolState)
        except msgspec.DecodeError:
            return None
        self._last = (text, known)
        return known

    def _dated(self, known: PoolState, tolerance: float) -> PoolState | None:
        """
        Date future times within the tolerance as now; drop what is further ahead.

        A wait never lasts longer than intended; one that began in the future is dropped.

        :param tolerance: seconds by which a clock may be ahead.
        """
        now = self._clock.now()
        if known.discovered_at > now + tolerance:
            return None  # none of its times can be trusted
        if known.asked_at > now + _SKEW:
            known = msgspec.structs.replace(known, failures=0, asked_at=0.0, why="", refused=False)
        if known.key_asked_at > now + _SKEW:
            known = msgspec.structs.replace(known, key_asked_at=0.0, ask_key_again_at=0.0, key_refused="")
        verdicts = {
            base: seen if seen.at <= now else msgspec.structs.replace(seen, at=now)
            for base, seen in known.verdicts.items()
            if seen.at <= now + tolerance
        }
        return msgspec.structs.replace(
            known,
            discovered_at=min(known.discovered_at, now),
            ask_again_at=min(known.ask_again_at, known.asked_at + MAX_PUT_OFF),
            verdicts=verdicts,
        )
