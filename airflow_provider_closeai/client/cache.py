"""What is known about the bases, shared by every process that uses the same key.

The cache tells a process where to send the main key. So it is private (directory 0700, file 0600, ours,
no link) and signed with a key derived from the sk: what cannot be verified is as if it were not there.
Nothing in it is secret, and nothing that goes wrong with it fails a task.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import ClassVar

import msgspec

from airflow_provider_closeai.client.config import ClientConfig
from airflow_provider_closeai.client.models import ApiBase
from airflow_provider_closeai.local_state.clock import SYSTEM_CLOCK, Clock
from airflow_provider_closeai.local_state.folder import reason, warn_once
from airflow_provider_closeai.local_state.locks import lock
from airflow_provider_closeai.local_state.stores import MAX_BYTES, FileStore, Store

STALE_FOR = 7 * 24 * 3600.0
MAX_PUT_OFF = 24 * 3600.0
_SKEW = 60.0


class HealthCheckResult(msgspec.Struct, frozen=True):
    """
    What was last seen of a base.

    :param healthy: whether it served.
    :param at: when (epoch seconds).
    :param detail: how that was seen, for a person.
    :param reached: whether the platform's own server answered there, well or not.
    :param is_proof: whether it proves anything: that a probe was refused, as 429 does, does not.
    """

    healthy: bool
    at: float
    detail: str
    reached: bool = True
    is_proof: bool = True


class PoolState(msgspec.Struct, frozen=True):
    """
    All that the processes share.

    :param bases: discovery's last good answer.
    :param discovered_at: when it came (epoch seconds); 0: never.
    :param failures: discoveries that failed since then.
    :param unchanged: discoveries in a row, asked because no base could be reached, that listed the same.
    :param ask_again_at: not before then may discovery be asked again.
    :param why: what the last failed discovery met, for a person.
    :param refused: whether it was the key that discovery refused (401, 403).
    :param verdicts: by base.
    :param found_shapes: of aliases that the platform's filter has found (:mod:`.alias_filter`).
    :param ask_key_again_at: with fixed bases: until then it is known whether the key is refused.
    :param key_refused: what the platform said when it refused the key; empty: it did not.
    """

    bases: tuple[ApiBase, ...] = ()
    discovered_at: float = 0.0
    failures: int = 0
    unchanged: int = 0
    ask_again_at: float = 0.0
    why: str = ""
    refused: bool = False
    verdicts: dict[str, HealthCheckResult] = {}
    found_shapes: tuple[tuple[str, ...], ...] = ()
    ask_key_again_at: float = 0.0
    key_refused: str = ""


class Cache:
    """
    Reads and writes what is known, verified.

    :param config: the key and what the knowledge is about (origin, fixed bases, allowed hosts).
    :param store: makes the store for a name; default: a file of this host's user.
    :param clock: says what the time is, and waits for locks.
    """

    _unshared: ClassVar[dict[str, str]] = {}  # per process, for when the store cannot be written

    def __init__(
        self,
        config: ClientConfig,
        store: Callable[[str], Store] | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        about = msgspec.json.encode([config.origin, config.api_bases, config.allowed_hosts])
        self._mac_key = hmac.digest(config.key.reveal().encode(), b"closeai cache 1 " + about, "sha256")
        self.name = hashlib.sha256(self._mac_key).hexdigest()[:24]
        self._store = (store or FileStore)(self.name)
        self._clock = clock
        self._last: tuple[str, PoolState] | None = None

    def read(self) -> PoolState:
        """Return what is known; nothing known, where the store's text cannot be verified."""
        text = None
        try:
            text = self._store.read()
        except Exception as problem:
            warn_once(f"The shared cache of bases cannot be read ({reason(problem)}).")
        text = self._unshared.get(self.name, text)
        return self._verified(text) or PoolState()

    def change(self, edit: Callable[[PoolState], PoolState]) -> PoolState:
        """
        Change what is known, one process of the host at a time.

        :param edit: makes the new knowledge from the newest.
        """
        with lock(self.name, 2.0, self._clock):
            known = edit(self.read())
            payload = msgspec.json.encode(known).decode()
            text = f"{self._mac(payload)} {payload}"
            try:
                self._store.write(text)
                self._unshared.pop(self.name, None)
            except Exception as problem:
                warn_once(
                    f"The shared cache of bases cannot be written ({reason(problem)}): "
                    "this process keeps what it learns to itself."
                )
                self._unshared[self.name] = text
        return known

    def try_lock(self, what: str, wait: float = 0.0) -> AbstractContextManager[bool]:
        """
        Let one process of the host do something; yields whether it is this one.

        :param what: ``discovery`` or ``health``.
        :param wait: seconds to wait for the others.
        """
        return lock(f"{self.name}.{what}", wait, self._clock, is_reentrant=False)

    def _mac(self, payload: str) -> str:
        return hmac.new(self._mac_key, payload.encode(errors="replace"), "sha256").hexdigest()

    def _verified(self, text: str | None) -> PoolState | None:
        if not isinstance(text, str) or len(text) > MAX_BYTES:
            return None
        if self._last is not None and self._last[0] == text:
            return self._without_future(self._last[1])
        mac, _, payload = text.partition(" ")
        if not hmac.compare_digest(mac.encode(errors="replace"), self._mac(payload).encode()):
            warn_once(f"The cache of bases {self.name} is not ours or was changed: ignored, asked anew.")
            return None
        try:
            known = msgspec.json.decode(payload, type=PoolState)
        except msgspec.DecodeError:
            return None
        self._last = (text, known)
        return self._without_future(known)

    def _without_future(self, known: PoolState) -> PoolState | None:
        now = self._clock.now()
        if known.discovered_at > now + _SKEW or known.ask_again_at > now + MAX_PUT_OFF + _SKEW:
            return None  # a clock was wrong: then nothing of it can be dated
        if all(seen.at <= now + _SKEW for seen in known.verdicts.values()):
            return known
        verdicts = {base: seen for base, seen in known.verdicts.items() if seen.at <= now + _SKEW}
        return msgspec.structs.replace(known, verdicts=verdicts)
