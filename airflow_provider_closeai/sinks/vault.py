"""Keys in HashiCorp Vault, through its provider (extra ``hashicorp``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
        secret = {"token": account.token.reveal(), "alias": account.alias, "id": account.id}
        if hook.get_secret(path) != secret:
            hook.create_or_update_secret(path, secret)
        return path
