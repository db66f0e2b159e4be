"""Keys in AWS Secrets Manager, through the Amazon provider (extra ``amazon``)."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_closeai.client.models import SubAccount


class SecretsManagerSink:
    """
    One secret per account, named ``<prefix><id>``; its value is the key itself.

    Needs ``secretsmanager:CreateSecret``, ``GetSecretValue`` and ``PutSecretValue`` on ``<prefix>*``.

    :param prefix: of the secrets' names.
    :param aws_conn_id: the connection.
    :param region_name: ``None``: the connection's.
    """

    def __init__(
        self,
        prefix: str = "closeai/sub-account-",
        aws_conn_id: str = "aws_default",
        region_name: str | None = None,
    ) -> None:
        self.prefix = prefix
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name

    def __repr__(self) -> str:
        return f"SecretsManagerSink({self.prefix!r}, {self.aws_conn_id!r}, {self.region_name!r})"

    def deliver(self, account: SubAccount) -> str:
        """Create the secret, or set its value where it differs."""
        from airflow.providers.amazon.aws.hooks.secrets_manager import SecretsManagerHook

        client = SecretsManagerHook(aws_conn_id=self.aws_conn_id, region_name=self.region_name).get_conn()
        name, key = f"{self.prefix}{account.id}", account.token.reveal()
        try:
            client.create_secret(
                Name=name, SecretString=key, Description=f"CloseAI sub-account {account.alias}"
            )
        except client.exceptions.ResourceExistsException:
            if client.get_secret_value(SecretId=name)["SecretString"] != key:
                client.put_secret_value(SecretId=name, SecretString=key)
        return name

    def held(self, accounts: Sequence[SubAccount]) -> dict[int, datetime | None]:
        """Return when each key became its secret's current value."""
        from airflow.providers.amazon.aws.hooks.secrets_manager import SecretsManagerHook

        client = SecretsManagerHook(aws_conn_id=self.aws_conn_id, region_name=self.region_name).get_conn()
        found: dict[int, datetime | None] = {}
        for account in accounts:
            with contextlib.suppress(client.exceptions.ResourceNotFoundException):
                secret = client.get_secret_value(SecretId=f"{self.prefix}{account.id}")
                if secret.get("SecretString") == account.token.reveal():
                    found[account.id] = secret["CreatedDate"]  # of this version of the secret
        return found
