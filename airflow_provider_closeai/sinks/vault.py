"""Keys in HashiCorp Vault, through its provider (extra ``hashicorp``)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_closeai.client.models import SubAccount


class VaultSink:
    """
    One KV secret per account at ``<path><id>``, with the fields ``token``, ``alias`` and ``id``.

    :param path: of the secrets, below the connection's mount point.
    :param vault_conn_id: the connection; its KV engine version counts.
    """

    def __init__(self, path: str = "closeai/sub-account-", vault_conn_id: str = "vault_default") -> None:
        self.path = path
        self.vault_conn_id = vault_conn_id

    def __repr__(self) -> str:
        return f"VaultSink({self.path!r}, {self.vault_conn_id!r})"

    def deliver(self, account: SubAccount) -> str:
        """Write the secret, unless it is there already."""
        from airflow.providers.hashicorp.hooks.vault import VaultHook

        hook = VaultHook(self.vault_conn_id)
        path = f"{self.path}{account.id}"
        secret = _secret(account)
        if hook.get_secret(path) != secret:
            hook.create_or_update_secret(path, secret)
        return path

    def held(self, accounts: Sequence[SubAccount]) -> dict[int, datetime | None]:
        """Return when each secret was written; of a KV engine of version 1 nobody knows that."""
        from airflow.providers.hashicorp.hooks.vault import VaultHook

        hook = VaultHook(self.vault_conn_id)
        has_versions = hook.vault_client.kv_engine_version == 2
        found: dict[int, datetime | None] = {}
        for account in accounts:
            path = f"{self.path}{account.id}"
            since: datetime | None = None
            if has_versions:
                answer = (hook.get_secret_including_metadata(path) or {}).get("data") or {}
                kept, written = answer.get("data"), (answer.get("metadata") or {}).get("created_time")
                since = None if written is None else datetime.fromisoformat(written)
            else:
                kept = hook.get_secret(path)
            if kept == _secret(account):
                found[account.id] = since
        return found


def _secret(account: SubAccount) -> dict[str, Any]:
    return {"token": account.token.reveal(), "alias": account.alias, "id": account.id}
