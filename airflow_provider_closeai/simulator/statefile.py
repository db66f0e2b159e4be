"""The state file: accounts, money, ids and keys over restarts."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from airflow_provider_closeai.simulator.clock import local
from airflow_provider_closeai.simulator.options import whole
from airflow_provider_closeai.simulator.state import State, taken
from airflow_provider_closeai.simulator.values import dumps, stamp

_FORMAT = 1
_LEASE = 10.0
"""Real seconds for which a written clock holds. A killed simulator goes on after them: no cost ever falls."""


class StateFile:
    """One file that only one simulator uses at a time; readable by its owner only."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(os.path.realpath(os.path.expanduser(path)))
        self._locked: int | None = None

    def lock(self) -> None:
        """Keep other simulators away from the file; nothing to do when it is done already."""
        if self._locked is not None:
            return
        if self.path.is_dir():
            raise IsADirectoryError(f"the state file {self.path} is a directory")
        if not self.path.parent.is_dir():
            raise FileNotFoundError(f"the folder of the state file {self.path} does not exist")
        locked = os.open(self.path.with_name(f".{self.path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(locked, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(locked)
            raise ValueError(
                f"the state file {self.path} is used by another simulator: end that one, or name another file"
            ) from None
        self._locked = locked

    def unlock(self) -> None:
        """Let others use the file."""
        if self._locked is not None:
            os.close(self._locked)
            self._locked = None

    def read(self) -> dict[str, Any] | None:
        """Lock the file and give what is in it; None where there is no file yet."""
        self.lock()
        with self.checked():
            try:
                found = json.loads(self.path.read_bytes().decode(), parse_float=Decimal)
            except FileNotFoundError:
                return None
            if not isinstance(found, dict) or found.get("format") != _FORMAT:
                raise ValueError("it is not a state file of this version")
            return found

    @contextlib.contextmanager
    def checked(self) -> Iterator[None]:
        """Take whatever goes wrong inside for damage of the file, and say so."""
        try:
            yield
        except OSError:
            self.unlock()
            raise
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
            self.unlock()
            why = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise ValueError(
                f"the state file {self.path} is damaged: {why}. It was left as it is: "
                "mend it, or move it away to begin anew"
            ) from None

    def write(self, text: str) -> None:
        """Replace the file, wholly or not at all."""
        new = self.path.with_name(f".{self.path.name}.new")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        with open(os.open(new, flags, 0o600), "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(text.encode("utf-8", "backslashreplace"))
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, self.path)


class Keeper:
    """Keeps a state in its file: after each change, and every few seconds while the clock runs."""

    def __init__(self, path: str | os.PathLike[str], state: State, ports: Callable[[], list[int]]) -> None:
        self._file, self._state, self._ports = StateFile(path), state, ports
        self._lock = threading.Lock()
        self._written: tuple[int, list[int]] | None = None
        self._until = state.clock.now()
        self._failed = False
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def restore(self) -> list[int] | None:
        """Take over what is in the file, and give the ports of then; None where there is no file yet."""
        kept = self._file.read()
        if kept is None:
            return None
        with self._file.checked():
            self._state.restore(kept)
            ports = [whole(1, 65535)(port) for port in taken(kept, "ports", list)]
            moment = local(datetime.fromisoformat(taken(kept, "clock", str)))
            if moment > self._state.clock.now():
                self._state.clock.set(moment)
        return ports

    def start(self) -> None:
        """Write the file, and go on doing so."""
        self._file.lock()
        with self._lock:
            self._write()
        self._ended.clear()
        self._thread = threading.Thread(target=self._run, name="state-file", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Write the file for the last time, and let others use it."""
        if self._thread:
            self._ended.set()
            self._thread.join()
            self._thread = None
            self._write_or_say(lease=0)
        self._file.unlock()

    def keep(self) -> None:
        """Write the file if it does not say what is so now; not before the start."""
        if not self._thread:
            return
        with self._lock:
            written = (self._state.changes, self._ports())
            renew_at = self._until - timedelta(seconds=_LEASE / 2 * self._state.clock.speed)
            if written != self._written or renew_at < self._state.clock.now():
                self._write_or_say()

    def _run(self) -> None:
        while not self._ended.wait(_LEASE / 10):
            self.keep()

    def _write_or_say(self, lease: float = _LEASE) -> None:
        try:
            self._write(lease)
            self._failed = False
        except OSError as error:
            if not self._failed:
                print(f"cannot write the state file {self._file.path}: {error.strerror}", file=sys.stderr)
            self._failed = True

    def _write(self, lease: float = _LEASE) -> None:
        with self._state.lock:
            written = (self._state.changes, self._ports())
            until = self._state.clock.now() + timedelta(seconds=lease * self._state.clock.speed)
            kept = {"format": _FORMAT, "clock": stamp(until), "ports": written[1], **self._state.dump()}
        self._file.write(dumps(kept))
        self._written, self._until = written, until
