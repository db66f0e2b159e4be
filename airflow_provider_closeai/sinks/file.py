"""Keys in encrypted files: for trying out, and for a volume that you trust."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

    from airflow_provider_closeai.client.models import SecretToken, SubAccount


class EncryptedFileSink:
    """
    One Fernet-encrypted file per account, mode 0600.

    Make a key with ``python -c "from cryptography.fernet import Fernet;
    print(Fernet.generate_key().decode())"`` and put it into a connection's password.

    :param directory: where the files go; made (0700) when missing. ``~`` is the worker's home.
    :param key_conn_id: the connection whose password is the Fernet key.
    """

    def __init__(self, directory: str | os.PathLike[str], key_conn_id: str) -> None:
        self.directory = os.fspath(directory)
        self.key_conn_id = key_conn_id

    def __repr__(self) -> str:
        return f"EncryptedFileSink({self.directory!r}, {self.key_conn_id!r})"

    def deliver(self, account: SubAccount) -> str:
        """Write the key, unless the file holds it already."""
        path = self._path(account.id)
        with contextlib.suppress(FileNotFoundError):
            if self.read(account.id) == account.token:
                return str(path)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        sealed = self._fernet().encrypt(account.token.reveal().encode())
        descriptor, temporary = tempfile.mkstemp(dir=path.parent)
        try:
            with open(descriptor, "wb") as file:
                file.write(sealed)
                file.flush()
                os.fsync(descriptor)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
        return str(path)

    def read(self, account_id: int) -> SecretToken:
        """
        Read a key back.

        :param account_id: whose.
        :raises FileNotFoundError: where none was delivered.
        """
        from airflow_provider_closeai.client.models import SecretToken

        return SecretToken(self._fernet().decrypt(self._path(account_id).read_bytes()).decode())

    def held(self, accounts: Sequence[SubAccount]) -> dict[int, datetime | None]:
        """Return when each key's file was written."""
        found: dict[int, datetime | None] = {}
        for account in accounts:
            with contextlib.suppress(FileNotFoundError):
                if self.read(account.id) == account.token:
                    written = self._path(account.id).stat().st_mtime
                    found[account.id] = datetime.fromtimestamp(written, UTC)
        return found

    def _path(self, account_id: int) -> Path:
        return Path(self.directory).expanduser() / f"sub-account-{account_id}.fernet"

    def _fernet(self) -> Fernet:
        from airflow.providers.common.compat.sdk import BaseHook
        from cryptography.fernet import Fernet

        return Fernet(BaseHook.get_connection(self.key_conn_id).password or "")
