"""Looks for keys in everything that an Airflow keeps: files, every cell of the database, the REST API."""

from __future__ import annotations

import base64
import contextlib
import re
import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from cryptography.fernet import Fernet, InvalidToken
from deployment import Deployment, Run

_RUNS = re.compile(rb"[A-Za-z0-9+/=_.-]{24,}")
_ENCRYPTED = re.compile(rb"gAAAAA[A-Za-z0-9_=-]+")
_MAX_DEPTH = 4


@dataclass(frozen=True)
class Finding:
    """A key, and where it is: ``file ...``, ``db <table>.<column>`` or ``rest ...``."""

    key: str
    place: str


def forms(key: str) -> set[bytes]:
    """
    Give the texts that betray a key: what is between its prefix and the last characters, which are shown.

    It has letters and digits only, so its URL-encoded and its JSON-escaped form are itself.
    """
    core = key.rpartition("-")[2][:-4].encode()
    assert core.isalnum(), "encode it in other ways too"
    found = {core, core.hex().encode(), core.hex().upper().encode()}
    for shift in range(3):
        text = base64.b64encode(b"-" * shift + core)
        found.add(text[4:-4])  # its ends depend on what is beside it
    return found


class Hunt:
    """
    A hunt in one Airflow.

    :param airflow: whose.
    :param keys: what is looked for.
    """

    def __init__(self, airflow: Deployment, keys: Iterable[str]) -> None:
        self._airflow = airflow
        self._needles = {form: key for key in keys for form in forms(key)}
        self._fernet = Fernet(airflow.fernet_key)
        self.searched = {"file": 0, "db": 0, "rest": 0}

    def run(self) -> set[Finding]:
        """Search everything."""
        found: set[Finding] = set()
        for where in (self._files(), self._database(), self._rest()):
            for place, data in where:
                self.searched[place.split()[0]] += len(data)
                found |= {Finding(key, place) for key in self._in(data)}
        return found

    def _in(self, data: bytes, depth: int = 0) -> set[str]:
        runs = b"\n".join(set(_RUNS.findall(data)))
        found = {key for form, key in self._needles.items() if form in runs}
        if depth < _MAX_DEPTH:
            for inner in self._unpacked(data):
                found |= self._in(inner, depth + 1)
        return found

    def _unpacked(self, data: bytes) -> Iterator[bytes]:
        for token in _ENCRYPTED.findall(data):
            with contextlib.suppress(InvalidToken):
                yield self._fernet.decrypt(token)
        with contextlib.suppress(zlib.error):
            yield zlib.decompress(data)
        with contextlib.suppress(ValueError):
            yield base64.b64decode(data, validate=True)

    def _files(self) -> Iterator[tuple[str, bytes]]:
        for path in sorted(self._airflow.home.rglob("*")):
            if path.is_file() and not path.is_symlink():
                with contextlib.suppress(FileNotFoundError):
                    yield f"file {path.relative_to(self._airflow.home)}", path.read_bytes()

    def _database(self) -> Iterator[tuple[str, bytes]]:
        path = self._airflow.home / "airflow.db"
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            database.text_factory = bytes
            query = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view')"
            for (table,) in database.execute(query).fetchall():
                rows = database.execute(f'SELECT * FROM "{table.decode()}"')  # noqa: S608
                columns = [column[0] for column in rows.description]
                for row in rows:
                    for column, cell in zip(columns, row, strict=True):
                        data = cell if isinstance(cell, bytes) else str(cell).encode()
                        yield f"db {table.decode()}.{column}", data

    def _rest(self) -> Iterator[tuple[str, bytes]]:
        paths = [
            "dags?limit=100000",
            "variables?limit=100000",
            "connections?limit=100000",
            "eventLogs?limit=100000",
            "importErrors",
            "config",
        ]
        for dag in self._airflow.get("dags?limit=100000")["dags"]:
            paths += [f"dags/{dag['dag_id']}/details", f"dagSources/{dag['dag_id']}"]
        for run in self._airflow.runs():
            paths += self._paths_of(run)
        with ThreadPoolExecutor(4) as pool:
            for path, text in pool.map(self._read, paths):
                yield f"rest {path}", text

    def _paths_of(self, run: Run) -> list[str]:
        paths = [run.path, f"{run.path}/taskInstances?limit=100000"]
        for task in run.tasks():
            path = f"{run.path}/taskInstances/{task['task_id']}"
            mapped = task["map_index"]
            if mapped >= 0:
                paths += [f"{path}/{mapped}", f"{path}/{mapped}/tries"]
            else:
                paths += [path, f"{path}/tries", f"{path}/links"]
            entries = self._airflow.get(f"{path}/xcomEntries?map_index={mapped}")["xcom_entries"]
            paths += [f"{path}/xcomEntries/{entry['key']}?map_index={mapped}" for entry in entries]
            if self._airflow.has_state_store:
                paths.append(f"{path}/state-store?map_index={mapped}")
        return paths

    def _read(self, path: str) -> tuple[str, bytes]:
        answer = self._airflow.call("GET", path)
        assert answer.ok, f"{path}: {answer.status_code} {answer.text[:300]}"
        return path, answer.content
