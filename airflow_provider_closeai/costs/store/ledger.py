"""The ledger: a folder of files that are written once.

::

    <ledger>/<kind>/billing_month=2026-11/20261124T010003_000000Z-1200-<run>-<digest>.csv

A file's name has the time of its observation, the number of its lines, the task run that wrote it, and its
SHA-256, which shows whether it was cut or edited.
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
_NOT_OURS = re.compile(r"[._]|$")  # hidden files, and those like _SUCCESS
_CURE = "Look whether this worker, and the connection in its address, may read there. A retry is safe."
_PARTITION_NAME = re.compile(_PARTITION + r"(2\d{3}-(?:0[1-9]|1[0-2]))")


class LedgerFile(msgspec.Struct, frozen=True):
    """
    A file, as described by its name.

    :param kind: for instance ``snapshots``.
    :param month: its billing month, ``YYYY-MM``.
    :param at: when it was observed.
    :param rows: the number of its lines.
    :param run: the task run that wrote it.
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
        """Sort key of files: at the same moment, deletions come after listings."""
        return self.at, self.kind == DELETED

    @property
    def name(self) -> str:
        """Its path in the ledger."""
        stamp = self.at.astimezone(UTC).strftime(_STAMP)
        file = f"{stamp}-{self.rows}-{self.run}-{self.digest}.{self.extension}"
        return f"{self.kind}/{_PARTITION}{self.month}/{file}"


def run_key(*parts: object) -> str:
    """
    Return the short name of a task run, the same for all its tries.

    :param parts: what identifies it: DAG, run, task, map index.
    """
    return hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()[:12]


class Ledger:
    """
    A ledger in a folder.

    :param root: the folder: text, a ``pathlib.Path``, or Airflow's ``ObjectStoragePath`` (``s3://`` and the
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
        :param run: the task run that writes it (:func:`run_key`).
        :param rows: its lines: objects with the attributes of the kind's columns.
        :param extension: ``csv`` or ``parquet``.
        :raises NotWritten: it cannot be written.
        """
        data = _encode(kind, month, at, rows, extension)
        digest = hashlib.sha256(data).hexdigest()[:16]
        file = LedgerFile(kind, month, at, len(rows), run, digest, extension)
        with atomic_write(self.root / file.name, durable=True) as target:
            target.write(data)
        return file

    def files(self, kind: str, month: str) -> list[LedgerFile]:
        """
        List a month's files, oldest first.

        All files count, even with equal run keys, as after merging two deployments' ledgers.
        """
        names = sorted(_names(self.root / f"{kind}/{_PARTITION}{month}"))
        return [file for file in (_file(kind, month, name) for name in names) if file]

    def newest(self, kind: str) -> LedgerFile | None:
        """Return the newest file."""
        found = (self.files(kind, month) for month in reversed(self.months(kind)))
        return next((files[-1] for files in found if files), None)

    def months(self, kind: str) -> list[str]:
        """List the months with files."""
        names = _names(self.root / kind)
        return sorted(found[1] for found in map(_PARTITION_NAME.fullmatch, names) if found)

    def unrecognized_files(self, kind: str, month: str) -> list[str]:
        """List files whose names are not ledger names: renamed ones, or somebody else's."""
        folder = f"{kind}/{_PARTITION}{month}"
        inside = (name for name in _names(self.root / folder) if not _file(kind, month, name))
        beside = (name for name in _names(self.root / kind) if not _PARTITION_NAME.fullmatch(name))
        found = [f"{folder}/{name}" for name in inside] + [f"{kind}/{name}" for name in beside]
        return sorted(name for name in found if not _NOT_OURS.match(name.rpartition("/")[2]))

    def read(self, file: LedgerFile, wanted: Sequence[str]) -> list[Sequence[Any]]:
        """
        Read columns of a file, completely or not at all; see :func:`~.tables.read_csv`.

        :param wanted: names of its columns.
        :raises DamagedFile: it is damaged; says how.
        :raises NotRead: it could not be read this time.
        """
        path = self.root / file.name
        try:
            return _decode(_content(path), file, wanted)
        except DamagedFile as error:
            raise DamagedFile(f"The ledger's file {path} is damaged: {error}.") from error

    def rows(self, file: LedgerFile) -> list[tuple[Any, ...]]:
        """
        Read an entire file, line by line, in the order of its columns.

        :raises DamagedFile: it is damaged; says how.
        """
        return list(zip(*self.read(file, [column.name for column in columns_of(file.kind)]), strict=True))

    def remove(self, file: LedgerFile) -> None:
        """Delete a file that another one replaces; if that fails, it stays."""
        try:
            (self.root / file.name).unlink()
        except Exception as error:  # a write-once folder, or any error of a store's library
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
            store.invalidate_cache()  # cached listings: other hosts write, too
        return [path.name for path in folder.iterdir() if not path.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except Exception as error:  # an OSError, or any error of a store's library
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
    """Return whether a file's name is a folder's or a broken link's, which no retry would read."""
    is_lost = isinstance(error, FileNotFoundError) and path.is_symlink()
    return is_lost or isinstance(error, IsADirectoryError) or getattr(error, "errno", None) == errno.ELOOP
