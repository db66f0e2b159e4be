"""The state file: accounts, money, ids and keys over restarts."""

from __future__ import annotations

import fcntl
import json
import os
import sys
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

from airflow_provider_closeai.simulator.clock import local
from airflow_provider_closeai.simulator.options import whole_number
from airflow_provider_closeai.simulator.state import State, taken
from airflow_provider_closeai.simulator.values import dumps, stamp

_FORMAT = 1
_LEASE = 10.0
"""Real seconds that a written clock is ahead. After a kill the clock resumes there: no cost ever falls."""


class Keeper:
    """Writes a state to a file, after each change and every few seconds while the clock runs.

    Only one simulator uses the file at a time, and only its owner can read it.
    """

    def __init__(self, path: str | os.PathLike[str], state: State, ports: Callable[[], list[int]]) -> None:
        self._path = Path(os.path.realpath(os.path.expanduser(path)))
        self._state, self._ports = state, ports
        self._locked: int | None = None
        self._lock = threading.Lock()
        self._written: tuple[int, list[int]] | None = None
        self._until = state.clock.now()
        self._failed = False
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def restore(self) -> list[int] | None:
        """Load the file and return the ports in it; None if there is no file yet."""
        self._lock_file()
        try:
            kept = json.loads(self._path.read_bytes().decode(), parse_float=Decimal)
            if not isinstance(kept, dict) or kept.get("format") != _FORMAT:
                raise ValueError("it is not a state file of this version")  # noqa: TRY301  # like any other damage
            self._state.restore(kept)
            ports = [whole_number(1, 65535)(port) for port in taken(kept, "ports", list)]
            moment = local(datetime.fromisoformat(taken(kept, "clock", str)))
            if moment > self._state.clock.now():
                self._state.clock.set(moment)
        except FileNotFoundError:
            return None
        except OSError:
            self._unlock_file()
            raise
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
            self._unlock_file()
            why = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise ValueError(
                f"the state file {self._path} is damaged: {why}. It was left as it is: "
                "mend it, or move it away to begin anew"
            ) from None
        return ports

    def start(self) -> None:
        """Write the file, and keep it current."""
        self._lock_file()
        with self._lock:
            self._write()
        self._ended.clear()
        self._thread = threading.Thread(target=self._run, name="state-file", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Write the file a last time, and release it."""
        if self._thread:
            self._ended.set()
            self._thread.join()
            self._thread = None
            self._write_or_say(lease=0)
        self._unlock_file()

    def keep(self) -> None:
        """Write the file if it is out of date; do nothing before the start."""
        if not self._thread:
            return
        with self._lock:
            written = (self._state.changes, self._ports())
            renew_at = self._until - timedelta(seconds=_LEASE / 2 * self._state.clock.speed)
            if written != self._written or renew_at < self._state.clock.now():
                self._write_or_say()

    def _lock_file(self) -> None:
        """Lock the file against other simulators, unless it is locked already."""
        if self._locked is not None:
            return
        if self._path.is_dir():
            raise IsADirectoryError(f"the state file {self._path} is a directory")
        if not self._path.parent.is_dir():
            raise FileNotFoundError(f"the folder of the state file {self._path} does not exist")
        locked = os.open(self._path.with_name(f".{self._path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(locked, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(locked)
            raise ValueError(
                f"the state file {self._path} is used by another simulator: end that one, or name another "
                "file"
            ) from None
        self._locked = locked

    def _unlock_file(self) -> None:
        if self._locked is not None:
            os.close(self._locked)
            self._locked = None

    def _run(self) -> None:
        while not self._ended.wait(_LEASE / 10):
            self.keep()

    def _write_or_say(self, lease: float = _LEASE) -> None:
        try:
            self._write(lease)
            self._failed = False
        except OSError as error:
            if not self._failed:
                print(f"cannot write the state file {self._path}: {error.strerror}", file=sys.stderr)
            self._failed = True

    def _write(self, lease: float = _LEASE) -> None:
        with self._state.lock:
            written = (self._state.changes, self._ports())
            until = self._state.clock.now() + timedelta(seconds=lease * self._state.clock.speed)
            kept = {"format": _FORMAT, "clock": stamp(until), "ports": written[1], **self._state.dump()}
        _replace(self._path, dumps(kept))
        self._written, self._until = written, until


def _replace(path: Path, text: str) -> None:
    """Replace a file atomically."""
    new = path.with_name(f".{path.name}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    with open(os.open(new, flags, 0o600), "wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(text.encode("utf-8", "backslashreplace"))
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)
