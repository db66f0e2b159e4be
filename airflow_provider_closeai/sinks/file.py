"""Keys in encrypted files: for trials, or on a volume that you trust."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_closeai.client.errors import InvalidParameter
from airflow_provider_closeai.sinks._stored import Stored, StoredSink

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

    from airflow_provider_closeai.client.models import SecretToken, SubAccount


class EncryptedFileSink(StoredSink):
    """
    One Fernet-encrypted file per account or alias, mode 0600, with the key or a JSON list of keys.

    Make a key with ``python -c "from cryptography.fernet import Fernet;
    print(Fernet.generate_key().decode())"`` and put it into a connection's password.

    :param directory: the files' folder, created (0700) if missing. ``~`` is the worker's home.
    :param key_conn_id: the connection whose password is the Fernet key.
    :param reference: the files' names, with ``{alias}`` or ``{id}``; ``.fernet`` is added.
    :param as_connection: must be False: Airflow could not read such a connection.
    """

    _ALLOWED: ClassVar[str] = r"A-Za-z0-9_+=.@-"
    _LONGEST: ClassVar[int] = 240

    def __init__(
        self,
        directory: str | os.PathLike[str],
        key_conn_id: str,
        reference: str = "sub-account-{id}",
        *,
        as_connection: bool = False,
    ) -> None:
        if as_connection:
            raise InvalidParameter(
                "EncryptedFileSink cannot deliver connections: no secrets backend of Airflow's reads "
                "encrypted files. Leave as_connection out, or give SecretsManagerSink or VaultSink; see "
                "docs/keys.md."
            )
        super().__init__(reference)
        self.directory = _local(directory)
        self.key_conn_id = key_conn_id

    def __repr__(self) -> str:
        return f"EncryptedFileSink({self.directory!r}, {self.key_conn_id!r}, {self.reference!r})"

    def read(self, account_id: int | None = None, alias: str | None = None) -> SecretToken:
        """
        Read a key back; the newest, if the file holds several.

        :param account_id: the key's account, if ``reference`` has ``{id}``.
        :param alias: the key's alias, if it has ``{alias}``.
        :raises FileNotFoundError: no key was delivered.
        """
        return self.read_all(account_id, alias)[0]

    def read_all(self, account_id: int | None = None, alias: str | None = None) -> list[SecretToken]:
        """
        Read all keys of a file, newest first.

        :param account_id: as in :meth:`read`.
        :param alias: as there.
        :raises FileNotFoundError: no key was delivered.
        """
        from airflow_provider_closeai.client.models import SecretToken

        sealed = self._path(self._reference.name(account_id, alias)).read_bytes()
        return [SecretToken(key) for key in self._keys(self._connect().decrypt(sealed).decode())]

    def _name(self, account: SubAccount) -> str:
        return str(self._path(super()._name(account)))

    def _read(self, store: Any, names: Sequence[str]) -> dict[str, Stored]:
        found: dict[str, Stored] = {}
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                text = store.decrypt(Path(name).read_bytes()).decode()
                found[name] = (text, datetime.fromtimestamp(Path(name).stat().st_mtime, UTC))
        return found

    def _write(self, store: Any, name: str, value: Any, account: SubAccount, is_new: bool) -> None:
        path = Path(name)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        sealed = store.encrypt(value.encode())
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

    def _path(self, name: str) -> Path:
        return Path(self.directory).expanduser() / f"{name}.fernet"

    def _connect(self) -> Fernet:
        from airflow.providers.common.compat.sdk import BaseHook
        from cryptography.fernet import Fernet

        return Fernet(BaseHook.get_connection(self.key_conn_id).password or "")


def _local(directory: Any) -> str:
    """Return a local folder as text; elsewhere, files are neither private nor replaced atomically."""
    try:
        text = os.fsdecode(directory).strip()
    except TypeError:  # a path of a store
        text = ""
    text = re.sub(r"^file://(localhost)?(?=[/~])", "", text)
    if not text or re.match(r"\$|[A-Za-z][\w+.-]*:", text) or re.search(r"{[{%]", text):
        raise InvalidParameter(
            f"directory {str(directory)!r} is not a folder of this host. Give one such as "
            "'/var/closeai/keys' or '~/closeai-keys': stores are not files, and templates and variables are "
            "not rendered in it. "
            "See docs/keys.md for SecretsManagerSink and VaultSink."
        )
    return text
