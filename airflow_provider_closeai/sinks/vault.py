"""Keys in HashiCorp Vault, through its provider (extra ``hashicorp``)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_closeai.sinks._stored import Stored, StoredSink

if TYPE_CHECKING:
    from airflow_provider_closeai.client.models import SubAccount


class VaultSink(StoredSink):
    """
    One KV secret per account or alias, with the fields ``token``, ``alias`` and ``id``.

    If an alias will have more than one account, ``token`` and ``id`` are lists. With ``as_connection``
    the fields are those of the connection. KV version 2 keeps earlier values as the secret's versions.

    :param reference: the secrets' paths below the connection's mount point, with ``{alias}`` or ``{id}``.
    :param vault_conn_id: the Vault connection; it sets the KV engine version.
    :param as_connection: store an Airflow connection of type ``openai``, not the bare key.
    :param base_url: that connection's host; ``None``: the best healthy base when a key is delivered.
    """

    def __init__(
        self,
        reference: str = "closeai/sub-account-{id}",
        vault_conn_id: str = "vault_default",
        *,
        as_connection: bool = False,
        base_url: str | None = None,
    ) -> None:
        super().__init__(reference, as_connection, base_url)
        self.vault_conn_id = vault_conn_id

    def __repr__(self) -> str:
        return f"VaultSink({self.reference!r}, {self.vault_conn_id!r}{self._form})"

    def _connect(self) -> Any:
        from airflow.providers.hashicorp.hooks.vault import VaultHook

        return VaultHook(self.vault_conn_id)

    def _read(self, store: Any, names: Sequence[str]) -> dict[str, Stored]:
        found: dict[str, Stored] = {}
        for name in names:
            since: datetime | None = None
            if store.vault_client.kv_engine_version == 2:
                answer = (store.get_secret_including_metadata(name) or {}).get("data") or {}
                kept, written = answer.get("data"), (answer.get("metadata") or {}).get("created_time")
                since = None if written is None else datetime.fromisoformat(written)
            else:
                kept = store.get_secret(name)  # version 1 has no creation time
            if kept is not None:
                found[name] = (kept, since)
        return found

    def _write(self, store: Any, name: str, value: Any, account: SubAccount, is_new: bool) -> None:
        store.create_or_update_secret(name, value)

    def _value(self, accounts: Sequence[SubAccount], is_list: bool) -> Any:
        keys, ids = [account.token.reveal() for account in accounts], [account.id for account in accounts]
        return {
            "token": keys if is_list else keys[0],
            "alias": accounts[0].alias,
            "id": ids if is_list else ids[0],
        }

    def _keys(self, value: Any) -> list[str]:
        token = value.get("token") if isinstance(value, dict) else None
        return [str(key) for key in (token if isinstance(token, list) else [token])]

    def _connection(self, account: SubAccount, old: Any) -> Any:
        fields = self._connection_fields(account, old)
        return {**fields, "extra": json.dumps(fields["extra"])}
