"""The backends of the sinks, as real HTTP servers on loopback; and a create task that delivers."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aws_standin import Aws
from vault_standin import Vault

from airflow_provider_closeai.simulator import Simulator


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.fixture
def create(closeai_connection: Simulator) -> Callable[..., list[dict[str, Any]]]:
    """Run CreateSubAccountsOperator for two accounts of one alias, as one try of one task."""
    from airflow_provider_closeai.operators.sub_accounts import CreateSubAccountsOperator

    def run(sink: Any, try_number: int = 1, **options: Any) -> list[dict[str, Any]]:
        operator = CreateSubAccountsOperator(
            task_id="create",
            alias="team",
            count=2,
            balance=1,
            model_pricing={"gpt-4": 1},
            settle=0.1,
            deliver_to=sink,
            **options,
        )
        ti: Any = SimpleNamespace(
            try_number=try_number, dag_id="d", run_id="r", task_id="create", map_index=-1
        )
        return operator.execute({"ti": ti})

    return run


@pytest.fixture
def vault(monkeypatch: pytest.MonkeyPatch) -> Iterator[Vault]:
    vault = Vault()
    vault.start()
    monkeypatch.setenv("AIRFLOW_CONN_VAULT_DEFAULT", vault.connection())
    yield vault
    vault.stop()


@pytest.fixture(scope="session")
def aws() -> Iterator[Aws]:
    """Give a stand-in for AWS, one for all tests of a process."""
    aws = Aws()
    aws.start()
    yield aws
    aws.stop()


@pytest.fixture
def secrets_manager(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> Any:
    aws.reset()
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", aws.connection())
    from airflow.providers.amazon.aws.hooks.secrets_manager import SecretsManagerHook

    return SecretsManagerHook().get_conn()
