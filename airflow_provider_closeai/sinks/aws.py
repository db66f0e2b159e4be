"""Keys in AWS Secrets Manager, through the Amazon provider (extra ``amazon``)."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_closeai.sinks._stored import Stored, StoredSink
from airflow_provider_closeai.sinks.base import SecretRefused

if TYPE_CHECKING:
    from airflow_provider_closeai.client.models import SubAccount

_AT_ONCE = 20  # secrets: AWS's limit


class SecretsManagerSink(StoredSink):
    """
    One secret per account or alias; its value is the key, a JSON list of keys, or a connection.

    Needs ``secretsmanager:CreateSecret``, ``GetSecretValue`` and ``PutSecretValue`` on the names, and
    ``BatchGetSecretValue``, which AWS grants for ``*`` only. Earlier values remain as the secret's versions.

    :param reference: the secrets' names, with ``{alias}`` or ``{id}``.
    :param aws_conn_id: the AWS connection.
    :param region_name: the region; ``None``: the connection's.
    :param as_connection: store an Airflow connection of type ``openai``, not the bare key.
    :param base_url: that connection's host; ``None``: the best healthy base when a key is delivered.
    """

    def __init__(
        self,
        reference: str = "closeai/sub-account-{id}",
        aws_conn_id: str = "aws_default",
        region_name: str | None = None,
        *,
        as_connection: bool = False,
        base_url: str | None = None,
    ) -> None:
        super().__init__(reference, as_connection, base_url)
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name

    def __repr__(self) -> str:
        place = f"{self.reference!r}, {self.aws_conn_id!r}, {self.region_name!r}"
        return f"SecretsManagerSink({place}{self._form})"

    def _connect(self) -> Any:
        from airflow.providers.amazon.aws.hooks.secrets_manager import SecretsManagerHook

        return SecretsManagerHook(aws_conn_id=self.aws_conn_id, region_name=self.region_name).get_conn()

    def _read(self, store: Any, names: Sequence[str]) -> dict[str, Stored]:
        found: dict[str, Stored] = {}
        for first in range(0, len(names), _AT_ONCE):
            request: dict[str, Any] = {"SecretIdList": list(names[first : first + _AT_ONCE])}
            while True:
                answer = store.batch_get_secret_value(**request)
                for error in answer.get("Errors", ()):
                    if error.get("ErrorCode") == "InvalidRequestException":
                        found[error["SecretId"]] = (_scheduled_for_deletion(error["SecretId"]), None)
                    elif error.get("ErrorCode") != "ResourceNotFoundException":
                        raise store.exceptions.ClientError(
                            {"Error": {"Code": error.get("ErrorCode")}}, "BatchGetSecretValue"
                        )
                for secret in answer["SecretValues"]:
                    found[secret["Name"]] = (secret.get("SecretString"), secret["CreatedDate"])
                if not answer.get("NextToken"):
                    break
                request["NextToken"] = answer["NextToken"]
        return found

    def _write(self, store: Any, name: str, value: Any, account: SubAccount, is_new: bool) -> None:
        if is_new:
            about = f"CloseAI sub-account {account.alias}"
            with contextlib.suppress(store.exceptions.ResourceExistsException):  # created meanwhile
                store.create_secret(Name=name, SecretString=value, Description=about)
                return
        store.put_secret_value(SecretId=name, SecretString=value)


def _scheduled_for_deletion(name: str) -> SecretRefused:
    return SecretRefused(
        f"the secret {name!r} is scheduled for deletion. Restore it (aws secretsmanager restore-secret), or "
        "delete it for good (delete-secret --force-delete-without-recovery)."
    )
