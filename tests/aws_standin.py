"""A stand-in for AWS: moto, HTTP on loopback."""

from __future__ import annotations

import json
from typing import Any

import requests

CREDENTIALS = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}


def connection_to(place: dict[str, Any]) -> str:
    """Give an Airflow connection to AWS at a place."""
    return json.dumps({"conn_type": "aws", "login": "testing", "password": "testing", "extra": place})


class Aws:
    """All that moto has of it, empty at the start; all of a process share what they hold."""

    def __init__(self, region: str = "eu-central-1") -> None:
        from moto.server import ThreadedMotoServer

        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._region = region

    def start(self) -> None:
        self._server.start()
        host, port = self._server.get_host_and_port()
        self.place = {"endpoint_url": f"http://{host}:{port}", "region_name": self._region}
        self.reset()

    def stop(self) -> None:
        self._server.stop()

    def reset(self) -> None:
        """Forget everything."""
        requests.post(f"{self.place['endpoint_url']}/moto-api/reset", timeout=60).raise_for_status()

    def connection(self) -> str:
        """Give the Airflow connection to it."""
        return connection_to(self.place)

    def secrets_backend(self) -> dict[str, str]:
        """Give the environment in which Airflow reads its connections ``openai-...`` from it."""
        backend = "airflow.providers.amazon.aws.secrets.secrets_manager.SecretsManagerBackend"
        options = {**self.place, "connections_lookup_pattern": "^openai-", "variables_prefix": None}
        environment = {name.upper(): text for name, text in CREDENTIALS.items()}
        for section in ("SECRETS__BACKEND", "WORKERS__SECRETS_BACKEND"):
            environment[f"AIRFLOW__{section}"] = backend
            environment[f"AIRFLOW__{section}_KWARGS"] = json.dumps(options)
        return environment

    def client(self, service: str) -> Any:
        """Give boto3's client of a service."""
        import boto3

        return boto3.client(service, **CREDENTIALS, **self.place)
