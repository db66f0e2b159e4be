"""What is known about the bases, shared by every process that uses the same key.

The cache tells a process where to send the main key. So it is private (directory 0700, file 0600, ours,
no link) and signed with a key derived from the sk: what cannot be verified is as if it were not there.
Nothing in it is secret, and nothing that goes wrong with it fails a task.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import hmac
import logging
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar, Protocol

import msgspec

from airflow_provider_closeai.client.config import ClientConfig
from airflow_provider_closeai.client.models import ApiBase

log = logging.getLogger(__name__)

STALE_FOR = 7 * 24 * 3600.0
MAX_PUT_OFF = 24 * 3600.0
_SKEW = 60.0
_MAX_BYTES = 256 * 1024


class Verdict(msgspec.Struct, frozen=True):
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


class Knowledge(msgspec.Struct, frozen=True):
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
    verdicts: dict[str, Verdict] = {}
    found_shapes: tuple[tuple[str, ...], ...] = ()
    ask_key_again_at: float = 0.0
    key_refused: str = ""


class Store(Protocol):
    """Where the signed text lies. Both may raise anything: the cache treats that as absent."""

    def read(self) -> str | None:
        """Return the text, ``None`` where there is none."""

    def write(self, text: str) -> None:
        """Replace the text whole."""


class Cache:
    """
    Reads and writes what is known, verified.

    :param config: the key and what the knowledge is about (origin, fixed bases, allowed hosts).
    :param store: makes the store for a name; default: a file of this host's user.
    :param now: seconds since the epoch.
    """

    _unshared: ClassVar[dict[str, str]] = {}  # per process, for when the store cannot be written

    def __init__(
        self,
        config: ClientConfig,
        store: Callable[[str], Store] | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        about = msgspec.json.encode([config.origin, config.api_bases, config.allowed_hosts])
        self._mac_key = hmac.digest(config.key.reveal().encode(), b"closeai cache 1 " + about, "sha256")
        self.name = hashlib.sha256(self._mac_key).hexdigest()[:24]
        self._store = (store or FileStore)(self.name)
        self._now = now

    def read(self) -> Knowledge:
        """Return what is known; nothing known, where the store's text cannot be verified."""
        text = None
        try:
            text = self._store.read()
        except Exception as problem:
            _warn_once(f"The shared cache of bases cannot be read ({_reason(problem)}).")
        text = self._unshared.get(self.name, text)
        return self._verified(text) or Knowledge()

    def change(self, edit: Callable[[Knowledge], Knowledge]) -> Knowledge:
        """
        Change what is known, one process of the host at a time.

        :param edit: makes the new knowledge from the newest.
        """
        with lock(f"{self.name}.write", wait=2.0):
            known = edit(self.read())
            payload = msgspec.json.encode(known).decode()
            text = f"{self._mac(payload)} {payload}"
            try:
                self._store.write(text)
                self._unshared.pop(self.name, None)
            except Exception as problem:
                _warn_once(
                    f"The shared cache of bases cannot be written ({_reason(problem)}): "
                    "this process keeps what it learns to itself."
                )
                self._unshared[self.name] = text
        return known

    @contextlib.contextmanager
    def sole(self, what: str, wait: float = 0.0) -> Iterator[bool]:
        """
        Let one process of the host do something; yields whether it is this one.

        :param what: ``discovery`` or ``health``.
        :param wait: seconds to wait for the others.
        """
        with lock(f"{self.name}.{what}", wait=wait) as mine:
            yield mine

    def _mac(self, payload: str) -> str:
        return hmac.new(self._mac_key, payload.encode(errors="replace"), "sha256").hexdigest()

    def _verified(self, text: str | None) -> Knowledge | None:
        if not isinstance(text, str) or len(text) > _MAX_BYTES:
            return None
        mac, _, payload = text.partition(" ")
        if not hmac.compare_digest(mac.encode(errors="replace"), self._mac(payload).encode()):
            _warn_once(f"The cache of bases {self.name} is not ours or was changed: ignored, asked anew.")
            return None
        try:
            known = msgspec.json.decode(payload, type=Knowledge)
        except msgspec.DecodeError:
            return None
        now = self._now()
        if known.discovered_at > now + _SKEW or known.ask_again_at > now + MAX_PUT_OFF + _SKEW:
            return None  # a clock was wrong: then nothing of it can be dated
        verdicts = {base: seen for base, seen in known.verdicts.items() if seen.at <= now + _SKEW}
        return msgspec.structs.replace(known, verdicts=verdicts)


class FileStore:
    """
    A file of this user on this host.

    :param name: file name without its ending.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def read(self) -> str | None:
        """Return the text; ``None`` where there is no file, or one that others could have written."""
        with contextlib.suppress(FileNotFoundError):
            path = private_directory() / f"{self._name}.json"
            with open(path, encoding="utf-8", opener=_open_safely) as file:
                if _is_private(os.fstat(file.fileno())):
                    return file.read(_MAX_BYTES + 1)
        return None

    def write(self, text: str) -> None:
        """Replace the file in one step."""
        directory = private_directory()
        descriptor, temporary = tempfile.mkstemp(dir=directory, prefix=".new-")
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
            os.replace(temporary, directory / f"{self._name}.json")
        except BaseException:
            os.unlink(temporary)
            raise


def private_directory() -> Path:
    """
    Return this user's directory of this host, made when missing.

    :raises PermissionError: where somebody else owns it, or could write to it.
    """
    directory = Path(tempfile.gettempdir()) / f"airflow-provider-closeai-{os.geteuid()}"
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    seen = os.lstat(directory)
    if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != os.geteuid() or seen.st_mode & 0o077:
        raise PermissionError(f"{directory} is not a directory of this user alone: remove it")
    return directory


@functools.lru_cache(maxsize=64)
def _warn_once(message: str) -> None:
    log.warning(message)


def _reason(problem: Exception) -> str:
    return str(problem) if isinstance(problem, OSError) else type(problem).__name__


def _open_safely(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _is_private(seen: os.stat_result) -> bool:
    return stat.S_ISREG(seen.st_mode) and seen.st_uid == os.geteuid() and not seen.st_mode & 0o077


@contextlib.contextmanager
def lock(name: str, wait: float, sleep: Callable[[float], None] = time.sleep) -> Iterator[bool]:
    """
    Hold a lock among this user's processes and threads on this host; it ends with its process.

    :param name: of the lock.
    :param wait: seconds to wait for it at most.
    :param sleep: waits between tries.
    :returns: whether it is held. Where no lock can be made at all (a read-only disk), it is as if held.
    """
    try:
        descriptor = os.open(
            private_directory() / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
    except OSError as problem:
        _warn_once(f"No locks among the processes of this host ({_reason(problem)}).")
        yield True
        return
    try:
        yield _acquire(descriptor, time.monotonic() + wait, sleep)
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, until: float, sleep: Callable[[float], None]) -> bool:
    pause = 0.005
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            sleep(pause)
            pause = min(pause * 2, 0.25)
        else:
            return True
