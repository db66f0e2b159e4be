"""Makes a client from an Airflow connection that was read already."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.config import config_from
from airflow_provider_closeai.client.errors import ConfigError
from airflow_provider_closeai.hooks.stores import VariableStore

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection

CONN_TYPE = "closeai"


def client_from(connection: Connection, longest: float | None = None) -> CloseAIClient:
    """
    Make a client from a connection that was already read. Does no I/O.

    :param connection: of type ``closeai``.
    :param longest: the most seconds for a call, whatever the connection's deadline.
    :raises ConfigError: a setting is wrong; names the form's field.
    """
    if connection.conn_type not in (None, "", CONN_TYPE):
        raise ConfigError(
            f"The connection {connection.conn_id!r} is of type {connection.conn_type!r}, so its password is "
            "another system's key, and was not sent. Make a connection of type 'closeai', or correct "
            "closeai_conn_id."
        )
    config = config_from(
        password=connection.password,
        host=connection.host,
        schema=connection.schema,
        port=connection.port,
        extra=connection.extra,  # not extra_dejson: Airflow turns what it cannot read into {}
    )
    if longest is not None:
        config = msgspec.structs.replace(config, deadline=min(config.deadline, longest))
    return CloseAIClient(config, store=VariableStore if config.cache == "variable" else None)
