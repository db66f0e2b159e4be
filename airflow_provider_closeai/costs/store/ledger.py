"""The ledger: a folder of files that are written once.

::

    <ledger>/<kind>/billing_month=2026-11/20261124T010003_000000Z-1200-<run>-<digest>.csv

A file's name has the time of its observation, the number of its lines, the task run that wrote it, and its
SHA-256: a file that was cut or edited is found out.
"""

from __future__ import annotations

import errno
import hashlib
import io
import logging
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from airflow_provider_closeai.costs import tables
from airflow_provider_closeai.costs.errors import DamagedFile, NotRead
from airflow_provider_closeai.costs.places import local_path
from airflow_provider_closeai.costs.store.files import atomic_write, reason
from airflow_provider_closeai.costs.store.kinds import DELETED, columns_of

log = logging.getLogger(__name__)

_STAMP = "%Y%m%dT%H%M%S_%fZ"
_NAME = re.compile(r"(\d{8}T\d{6}_\d{6}Z)-(\d+)-([0-9a-f]{12})-([0-9a-f]{16})\.(csv|parquet)")
_PARTITION = "billing_month="
_NOT_OURS = re.compile(r"[._]|$")  # hidden files, and such as _SUCCESS
_CURE = "Look whether this worker, and the connection in its address, may read there. A retry is safe."
_PARTITION_NAME = re.compile(_PARTITION + r"(2\d{3}-(?:0[1-9]|1[0-2]))")


class LedgerFile(msgspec.Struct, frozen=True):
    """
    One file, as its name describes it.

    :param kind: for instance ``snapshots``.
    :param month: its billing month, ``YYYY-MM``.
    :param at: when it was observed.
    :param rows: how many lines it has.
    :param run: which task run wrote it.
    :param digest: the beginning of its SHA-256.
    :param extension: ``csv`` or ``parquet``.
    """

    kind: str
    month: str
    at: datetime
    rows: int
    run: str
    digest: str
    extension: str

    @property
    def order(self) -> tuple[datetime, bool]:
        """Where it comes among other files: of one moment, what was deleted had been listed."""
        return self.at, self.kind == DELETED

    @property
    def name(self) -> str:
        """Its path inside the ledger."""
        stamp = self.at.astimezone(UTC).strftime(_STAMP)
        file = f"{stamp}-{self.rows}-{self.run}-{self.digest}.{self.extension}"
        return f"{self.kind}/{_PARTITION}{self.month}/{file}"


def run_key(*parts: object) -> str:
    """
    Make the short name of a task run, the same for all its tries.

    :param parts: what identifies it: DAG, run, task, map index.
    """
    return hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()[:12]


class Ledger:
    """
    A ledger.

    :param root: its folder: text, a ``pathlib.Path``, or Airflow's ``ObjectStoragePath`` (``s3://`` and the
        like).
    """

    def __init__(self, root: Any) -> None:
        self.root = local_path("ledger", root)

    def write(
        self,
        kind: str,
        month: str,
        at: datetime,
        run: str,
        rows: Sequence[Any],
        *,
        extension: str = "csv",
    ) -> LedgerFile:
        """
        Write a complete file, or none.

        :param month: its billing month.
        :param at: when it was observed.
        :param run: which task run writes it (:func:`run_key`).
        :param rows: its lines: objects with the attributes of the kind's columns.
        :param extension: ``csv`` or ``parquet``.
        :raises NotWritten: the folder or the store does not take it.
        """
        data = _encode(kind, month, at, rows, extension)
        digest = hashlib.sha256(data).hexdigest()[:16]
        file = LedgerFile(kind, month, at, len(rows), run, digest, extension)
        with atomic_write(self.root / file.name, durable=True) as target:
            target.write(data)
        return file

    def files(self, kind: str, month: str) -> list[LedgerFile]:
        """
        List files of a month, oldest first.

        Two deployments may give their runs the same keys: where their ledgers were merged, each file counts.
        """
        names = sorted(_names(self.root / f"{kind}/{_PARTITION}{month}"))
        return [file for file in (_file(kind, month, name) for name in names) if file]

    def newest(self, kind: str) -> LedgerFile | None:
        """Return the newest file."""
        found = (self.files(kind, month) for month in reversed(self.months(kind)))
        return next((files[-1] for files in found if files), None)

    def months(self, kind: str) -> list[str]:
        """List the months of which there are files."""
        names = _names(self.root / kind)
        return sorted(found[1] for found in map(_PARTITION_NAME.fullmatch, names) if found)

    def unrecognized_files(self, kind: str, month: str) -> list[str]:
        """List what has no ledger name: it was renamed, or put there by somebody."""
        folder = f"{kind}/{_PARTITION}{month}"
        inside = (name for name in _names(self.root / folder) if not _file(kind, month, name))
        beside = (name for name in _names(self.root / kind) if not _PARTITION_NAME.fullmatch(name))
        found = [f"{folder}/{name}" for name in inside] + [f"{kind}/{name}" for name in beside]
        return sorted(name for name in found if not _NOT_OURS.match(name.rpartition("/")[2]))

    def read(self, file: LedgerFile, wanted: Sequence[str]) -> list[Sequence[Any]]:
        """
        Read columns of a file, completely or not at all; see :func:`~.tables.read_csv`.

        :param wanted: names of its columns.
        :raises DamagedFile: naming the file and what is wrong with it.
        :raises NotRead: the folder or the store did not give it, this time.
        """
        path = self.root / file.name
        try:
            return _decode(_content(path), file, wanted)
        except DamagedFile as error:
            raise DamagedFile(f"The ledger's file {path} is damaged: {error}.") from error

    def rows(self, file: LedgerFile) -> list[tuple[Any, ...]]:
        """
        Read all of a file, line by line, in the order of its columns.

        :raises DamagedFile: naming the file and what is wrong with it.
        """
        return list(zip(*self.read(file, [column.name for column in columns_of(file.kind)]), strict=True))

    def remove(self, file: LedgerFile) -> None:
        """Take away a file that shows nothing which another does not show; where it cannot be, it stays."""
        try:
            (self.root / file.name).unlink()
        except Exception as error:  # a folder that only takes new files, or whatever a store's library says
            log.warning("%s, of an earlier try, is superseded but stays: %s.", file.name, reason(error))


def _encode(kind: str, month: str, at: datetime, rows: Sequence[Any], extension: str) -> bytes:
    buffer = io.BytesIO()
    columns = columns_of(kind, at, month)
    if extension == "csv":
        tables.write_csv(buffer, columns, rows)
    else:
        tables.write_parquet(buffer, columns, lambda: rows)
    return buffer.getvalue()


def _decode(data: bytes, file: LedgerFile, wanted: Sequence[str]) -> list[Sequence[Any]]:
    found = hashlib.sha256(data).hexdigest()[:16]
    if found != file.digest:
        raise DamagedFile(
            f"its content is not what was written (SHA-256 begins with {found}): it was cut or edited"
        )
    known = {column.name: column for column in columns_of(file.kind)}
    read = tables.read_csv if file.extension == "csv" else tables.read_parquet
    columns = read(data, [known[name] for name in wanted])
    if len(columns[0]) != file.rows:
        raise DamagedFile(f"it has {len(columns[0])} lines instead of {file.rows}")
    return columns


def _file(kind: str, month: str, name: str) -> LedgerFile | None:
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    stamp, rows, run, digest, extension = found.groups()
    try:
        at = datetime.strptime(stamp, _STAMP).replace(tzinfo=UTC)
    except ValueError:
        return None
    return LedgerFile(kind, month, at, int(rows), run, digest, extension)


def _names(folder: Any) -> list[str]:
    try:
        if (store := getattr(folder, "fs", None)) is not None:
            store.invalidate_cache()  # of listings: other hosts write, too
        return [path.name for path in folder.iterdir() if not path.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except Exception as error:  # an OSError, or whatever the library of a store says
        said = reason(error)
        raise NotRead(f"The ledger's folder {folder} could not be listed: {said}. {_CURE}") from error


def _content(path: Any) -> bytes:
    try:
        return bytes(path.read_bytes())
    except Exception as error:  # as above
        if _is_no_file(path, error):
            raise DamagedFile(f"it is not a file ({reason(error)})") from error
        raise NotRead(f"The ledger's file {path} could not be read: {reason(error)}. {_CURE}") from error


def _is_no_file(path: Any, error: Exception) -> bool:
    """Return whether a folder, or a link that leads nowhere, has a file's name: no retry would read it."""
    is_lost = isinstance(error, FileNotFoundError) and path.is_symlink()
    return is_lost or isinstance(error, IsADirectoryError) or getattr(error, "errno", None) == errno.ELOOP
