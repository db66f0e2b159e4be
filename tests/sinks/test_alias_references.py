"""One secret for an alias: it holds the newest keys, one or a list, and says honestly whose they are."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from support import client_of
from vault_standin import Vault

from airflow_provider_closeai.client.errors import MaskedKeys
from airflow_provider_closeai.client.models import SecretToken, SubAccount
from airflow_provider_closeai.roster import Options, apply, read_roster
from airflow_provider_closeai.simulator import Simulator
from airflow_provider_closeai.sinks import EncryptedFileSink, SecretsManagerSink, VaultSink
from airflow_provider_closeai.sinks._reference import escaped
from airflow_provider_closeai.sinks.base import DeliveryFailed, SinkKeys

START = datetime(2027, 1, 1, tzinfo=UTC)


def account(number: int, alias: str = "team", **fields: Any) -> SubAccount:
    """Make an account; those with higher numbers are younger."""
    made: dict[str, Any] = {
        "token": SecretToken(f"sk-key-{number}"),
        "created_at": (START + timedelta(days=number)).isoformat(),
        "token_type": "slave",
    }
    return SubAccount(id=number, alias=alias, **(made | fields))


def keys_of(sink: Any, base: str = "https://one/v1", **counts: int) -> SinkKeys:
    return SinkKeys(sink, counts, lambda: base)


@pytest.fixture(params=["aws", "vault", "file"])
def sink_and_value(request: pytest.FixtureRequest) -> tuple[Any, Callable[[str], Any]]:
    """Give a sink with one secret per alias, and what reads that secret's keys as its users would."""
    if request.param == "aws":
        client = request.getfixturevalue("secrets_manager")

        def read(alias: str) -> Any:
            text = client.get_secret_value(SecretId=f"keys/{escaped(alias)}")["SecretString"]
            return json.loads(text) if text.startswith("[") else text

        return SecretsManagerSink("keys/{alias}"), read
    if request.param == "vault":
        vault = request.getfixturevalue("vault")
        return VaultSink("keys/{alias}"), lambda alias: vault.secrets[f"keys/{escaped(alias)}"]["token"]
    connection = {"conn_type": "generic", "password": Fernet.generate_key().decode()}
    request.getfixturevalue("monkeypatch").setenv("AIRFLOW_CONN_FILE_KEY", json.dumps(connection))
    sink = EncryptedFileSink(request.getfixturevalue("tmp_path") / "keys", "file_key", "{alias}")

    def opened(alias: str) -> Any:
        keys = [key.reveal() for key in sink.read_all(alias=alias)]
        return keys if len(keys) > 1 else keys[0]

    return sink, opened


def test_a_new_key_takes_the_older_ones_place(sink_and_value: Any) -> None:
    sink, value = sink_and_value
    keys = keys_of(sink, team=1)
    assert keys.held([account(1)]) == {}
    first = keys.deliver([account(1)])
    assert value("team") == "sk-key-1"
    assert keys.deliver([account(1), account(2)]) == {2: first[1]}
    assert value("team") == "sk-key-2"
    assert keys.replaced([account(1), account(2)]) == {1}
    held = keys.held([account(1), account(2)])
    assert held is not None
    assert list(held) == [2], "the older key is in the secret no more"


def test_several_accounts_are_one_list_newest_first(sink_and_value: Any) -> None:
    sink, value = sink_and_value
    keys = keys_of(sink, team=2)
    accounts = [account(number) for number in (1, 2, 3)]
    keys.deliver(accounts[:2])
    assert value("team") == ["sk-key-2", "sk-key-1"]
    keys.deliver(accounts)
    assert value("team") == ["sk-key-3", "sk-key-2"]
    held = keys.held(accounts)
    assert held is not None
    assert set(held) == {2, 3}


def test_aliases_do_not_meet(sink_and_value: Any) -> None:
    sink, value = sink_and_value
    keys = keys_of(sink, one=1, two=1)
    accounts = [account(1, "one"), account(2, "two"), account(3, "搜索")]
    references = keys.deliver(accounts)
    assert [value("one"), value("two"), value("搜索")] == ["sk-key-1", "sk-key-2", "sk-key-3"]
    assert len(set(references.values())) == 3
    held = keys.held([*accounts, account(4, "three")])
    assert held is not None
    assert set(held) == {1, 2, 3}


def test_a_disabled_account_replaces_none_and_one_without_an_age_stays(sink_and_value: Any) -> None:
    sink, value = sink_and_value
    keys_of(sink, team=1).deliver([account(1), account(2, enabled=False)])
    assert value("team") == "sk-key-1"
    keys_of(sink, team=1).deliver([account(1, created_at="long ago"), account(2)])
    assert value("team") == "sk-key-1"


def test_a_hidden_key_keeps_the_whole_secret_as_it_was(sink_and_value: Any) -> None:
    sink, value = sink_and_value
    keys = keys_of(sink, team=2)
    keys.deliver([account(1), account(2)])
    with pytest.raises(MaskedKeys):
        keys.deliver([account(2), account(3, token=SecretToken("sk-abc****wxyz"))])
    assert value("team") == ["sk-key-2", "sk-key-1"]


def test_versions_are_kept_and_nothing_is_written_twice(secrets_manager: Any) -> None:
    keys = keys_of(SecretsManagerSink("keys/{alias}"), team=1)
    for accounts in ([account(1)], [account(1)], [account(1), account(2)], [account(1), account(2)]):
        keys.deliver(accounts)
    answer = secrets_manager.list_secret_version_ids(SecretId="keys/team", IncludeDeprecated=True)
    assert len(answer["Versions"]) == 2
    previous = secrets_manager.get_secret_value(SecretId="keys/team", VersionStage="AWSPREVIOUS")
    assert previous["SecretString"] == "sk-key-1"


def test_a_fleet_is_asked_about_in_few_calls(secrets_manager: Any, vault: Vault) -> None:
    import botocore.session

    calls: list[str] = []
    original = botocore.client.BaseClient._make_api_call

    def count(client: Any, name: str, arguments: Any) -> Any:
        calls.append(name)
        return original(client, name, arguments)

    accounts = [account(number, f"team-{number}") for number in range(1, 101)]
    keys = keys_of(SecretsManagerSink("keys/{alias}"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.client.BaseClient, "_make_api_call", count)
        keys.deliver(accounts)
        written, calls[:] = list(calls), []
        held = keys.held(accounts)
    assert held is not None
    assert len(held) == 100
    assert calls == ["BatchGetSecretValue"] * 5
    assert sorted(set(written)) == ["BatchGetSecretValue", "CreateSecret"]
    assert len(written) == 105


@pytest.mark.slow
def test_a_secret_that_was_deleted_by_hand_is_named_and_the_others_are_kept(secrets_manager: Any) -> None:
    keys = keys_of(SecretsManagerSink("keys/{alias}"), team=1, other=1)
    accounts = [account(1), account(2, "other")]
    keys.deliver(accounts)
    secrets_manager.delete_secret(SecretId="keys/team")
    held = keys.held(accounts)
    assert held is not None
    assert held.keys() == {2}, "it holds no key that anybody can read"
    accounts.append(account(3, "third"))
    with pytest.raises(
        DeliveryFailed, match="sub-account 1: the secret 'keys/team' is scheduled for deletion"
    ):
        keys.deliver(accounts)
    assert secrets_manager.get_secret_value(SecretId="keys/third")["SecretString"] == "sk-key-3"
    assert keys.refused == {1}
    secrets_manager.restore_secret(SecretId="keys/team")
    assert keys.deliver(accounts).keys() == {1, 2, 3}
    assert keys.refused == frozenset()


def test_a_secret_that_was_deleted_by_hand_holds_up_its_alias_alone(
    closeai_simulator: Simulator, secrets_manager: Any
) -> None:
    tree: dict[str, Any] = {
        "version": 1,
        "owns": ["team-*"],
        "defaults": {"balance": 1, "model_pricing": {"m": 1}},
    }
    client, options = client_of(closeai_simulator), Options(prune=True, max_create=2, max_delete=1, settle=0)

    def sync(*aliases: str) -> Any:
        roster = read_roster({**tree, "accounts": [{"alias": alias} for alias in aliases]})
        return apply(client, roster, options, keys=keys_of(SecretsManagerSink("{alias}")))

    sync("team-a", "team-old")
    secrets_manager.delete_secret(SecretId="team-a")
    with pytest.raises(DeliveryFailed, match="the secret 'team-a' is scheduled for deletion"):
        sync("team-a", "team-new")
    assert sorted(account["alias"] for account in closeai_simulator.accounts()) == ["team-a", "team-new"]
    [new] = closeai_simulator.accounts("team-new")
    assert secrets_manager.get_secret_value(SecretId="team-new")["SecretString"] == new["token"]


# --- Connections -------------------------------------------------------------------------------------------


def connection_in(secrets_manager: Any, alias: str = "team") -> dict[str, Any]:
    name = f"airflow/connections/openai-{alias}"
    found: dict[str, Any] = json.loads(secrets_manager.get_secret_value(SecretId=name)["SecretString"])
    return found


CONNECTIONS = "airflow/connections/openai-{alias}"


def test_a_connection_has_base_and_key_and_keeps_what_others_set(secrets_manager: Any) -> None:
    sink = SecretsManagerSink(CONNECTIONS, as_connection=True)
    keys_of(sink, team=1).deliver([account(1)])
    first = connection_in(secrets_manager)
    assert {name: first[name] for name in ("conn_type", "host", "password")} == {
        "conn_type": "openai",
        "host": "https://one/v1",
        "password": "sk-key-1",
    }
    first["extra"]["openai_client_kwargs"] = {"timeout": 5}
    secrets_manager.put_secret_value(
        SecretId="airflow/connections/openai-team", SecretString=json.dumps(first)
    )
    keys_of(sink, team=1).deliver([account(1), account(2)])
    second = connection_in(secrets_manager)
    assert second["password"] == "sk-key-2"
    assert second["extra"]["openai_client_kwargs"] == {"timeout": 5}
    assert second["extra"]["closeai"]["sub_account"] == 2


@pytest.mark.slow
def test_another_base_is_written_and_the_key_is_as_old_as_before(secrets_manager: Any) -> None:
    sink = SecretsManagerSink(CONNECTIONS, as_connection=True)
    keys_of(sink, "https://one/v1", team=1).deliver([account(1)])
    held = keys_of(sink, "https://one/v1", team=1).held([account(1)])
    moved = keys_of(sink, "https://two/v1", team=1)
    assert moved.held([account(1)]) == {}, "its users cannot reach the platform over a base that is ill"
    moved.deliver([account(1)])
    assert connection_in(secrets_manager)["host"] == "https://two/v1"
    assert moved.held([account(1)]) == held
    assert held


@pytest.mark.slow
def test_a_base_of_ones_own_stays(secrets_manager: Any) -> None:
    sink = SecretsManagerSink(CONNECTIONS, as_connection=True, base_url="https://gateway/openai")
    keys_of(sink, "https://one/v1", team=1).deliver([account(1)])
    assert connection_in(secrets_manager)["host"] == "https://gateway/openai"


def test_an_account_of_many_has_a_connection_of_its_own(secrets_manager: Any) -> None:
    sink = SecretsManagerSink("airflow/connections/openai-{alias}-{id}", as_connection=True)
    sink.check("team", 2)
    references = keys_of(sink, team=2).deliver([account(1), account(2)])
    assert references == {1: "airflow/connections/openai-team-1", 2: "airflow/connections/openai-team-2"}


@pytest.mark.parametrize("engine", [1, 2])
def test_vaults_own_backend_serves_the_connection(
    vault: Vault, monkeypatch: pytest.MonkeyPatch, engine: int
) -> None:
    from airflow.providers.hashicorp.secrets.vault import VaultBackend

    fields = json.loads(vault.connection())
    fields["extra"]["kv_engine_version"] = engine
    monkeypatch.setenv("AIRFLOW_CONN_VAULT_DEFAULT", json.dumps(fields))
    sink = VaultSink("connections/openai-{alias}", as_connection=True)
    keys_of(sink, 搜索=1).deliver([account(1, "搜索")])
    backend = VaultBackend(
        url=f"http://127.0.0.1:{fields['port']}", token="root", mount_point="secret", kv_engine_version=engine
    )
    found = backend.get_connection("openai-_x641C__x7D22_")
    assert found is not None
    assert (found.conn_type, found.host, found.password) == ("openai", "https://one/v1", "sk-key-1")
    held = keys_of(sink, 搜索=1).held([account(1, "搜索")])
    assert held is not None
    assert held[1] is not None, "the connection itself says since when"


def test_a_sink_is_a_value_after_it_was_used(secrets_manager: Any, tmp_path: Path) -> None:
    import copy
    import pickle

    sink = SecretsManagerSink(CONNECTIONS, as_connection=True)
    before = repr(sink)
    keys_of(sink, team=1).deliver([account(1)])
    assert repr(copy.deepcopy(sink)) == repr(sink) == before
    assert repr(pickle.loads(pickle.dumps(sink))) == before  # noqa: S301
    assert sink.base_url is None
