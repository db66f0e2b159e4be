"""The hook: from an Airflow connection to a client, in tasks and outside of them."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from airflow_cell import airflow_command, python, run, stored_connection
from cryptography.fernet import Fernet

from airflow_provider_closeai.client.errors import ConfigError, NoHealthyBase
from airflow_provider_closeai.hooks.closeai import CloseAIHook
from airflow_provider_closeai.provisioning import TooManyAccounts
from airflow_provider_closeai.simulator import Simulator
from airflow_provider_closeai.sinks.file import EncryptedFileSink

Patch = pytest.MonkeyPatch


def connect(monkeypatch: Patch, sim: Simulator, **fields: Any) -> str:
    connection = {**sim.connection(), **fields}
    monkeypatch.setenv("AIRFLOW_CONN_CLOSEAI_DEFAULT", json.dumps(connection))
    return str(connection["password"])


def try_it(sim: Simulator, key: str | None = None) -> tuple[bool, str]:
    ok, message = CloseAIHook().test_connection()
    for secret in (key or sim.key, sim.key, "Bearer"):
        assert secret not in message
    return ok, message


# --- Connections --------------------------------------------------------------------------------------------


def test_it_is_made_from_a_connection_in_the_environment(sim: Simulator) -> None:
    sim.add_account("a")
    hook = CloseAIHook()
    assert [base.api for base in hook.list_bases()] == sim.base_urls
    assert [account.alias for account in hook.iter_sub_accounts()] == ["a"]
    assert hook.get_conn() is hook.get_conn()
    (listed,) = [request for request in sim.requests if request.call == "list"]
    assert listed.authorization == "main"
    agent = listed.headers_seen["user-agent"]
    assert re.fullmatch(r"airflow-provider-closeai/\S+ apache-airflow/\S+ python/\S+", agent)


@pytest.mark.parametrize("kind", ["openai", "http"])
def test_another_systems_connection_is_not_used(sim: Simulator, monkeypatch: Patch, kind: str) -> None:
    connection = {"conn_type": kind, "password": "sk-of-another-system", "host": sim.discovery_url}
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", json.dumps(connection))
    with pytest.raises(ConfigError, match=f"is of type '{kind}'"):
        CloseAIHook("other").list_bases()
    assert sim.requests == []


def test_it_does_nothing_before_it_is_asked(sim: Simulator) -> None:
    CloseAIHook("nobody_made_this")
    CloseAIHook(closeai_conn_id="nobody_made_this", **{})
    assert sim.requests == []


def test_every_form_field_arrives(sim: Simulator, monkeypatch: Patch) -> None:
    extra = {
        "api_bases": ", ".join(sim.base_urls),
        "allowed_hosts": "127.0.0.*",
        "cache": "file",
        "lock": "host",
        "discovery_ttl": "7",
        "health_ttl": 8,
        "connect_timeout": "1.5",
        "read_timeout": 9,
        "max_attempts": "2",
        "deadline": "11",
        "page_size": -1,
        "verify": "false",
        "proxies": '{"https": "http://user:secret@proxy.example:1"}',
    }
    connect(monkeypatch, sim, extra=extra)
    config = CloseAIHook().get_conn().config
    assert config.api_bases == tuple(sim.base_urls)
    assert config.allowed_hosts == ("127.0.0.*",)
    assert (config.discovery_ttl, config.health_ttl, config.connect_timeout) == (7, 8, 1.5)
    assert (config.read_timeout, config.max_attempts, config.deadline, config.page_size) == (9, 2, 11, -1)
    assert config.verify is False
    assert config.proxies == {"https": "http://user:secret@proxy.example:1"}
    assert "secret" not in repr(config)
    # As the form of an untouched connection sends it: everything there, nothing filled in.
    connect(monkeypatch, sim, extra={name: ("" if number % 2 else None) for number, name in enumerate(extra)})
    assert CloseAIHook().get_conn().config.deadline == 120


def test_a_stored_connection_serves_a_task(sim: Simulator, dag: Any, monkeypatch: Patch) -> None:
    from airflow.providers.common.compat.sdk import task

    monkeypatch.delenv("AIRFLOW_CONN_CLOSEAI_DEFAULT")
    sim.add_account("a")
    with dag:

        @task
        def use() -> list[Any]:
            hook = CloseAIHook()
            return [hook.get_base_url(), [account.record() for account in hook.iter_sub_accounts()]]

        use()
    with stored_connection(sim.connection()):
        done = run(dag)
    assert done.task("use") == "success 1"
    base, records = done.result("use")
    assert base == sim.base_urls[0]
    assert [record["alias"] for record in records] == ["a"]


def test_the_hook_in_a_task_creates_exactly_over_retries(sim: Simulator, dag: Any) -> None:
    from airflow.providers.common.compat.sdk import task

    tokens: list[list[str]] = []
    with dag:

        @task(retries=1, retry_delay=0)
        def create() -> None:
            hook = CloseAIHook()
            made = hook.create_sub_accounts("a", {"gpt-4": 1}, 5, count=2, if_exists="fail", settle=0.1)
            tokens.append([account.token.reveal() for account in made])
            if len(tokens) == 1:
                raise RuntimeError("died after it was done")
            hook.update_pricing({"gpt-4": 2}, sub_accounts=made)
            hook.delete_sub_accounts(sub_accounts=made[:1])

        create()

    done = run(dag)

    # if_exists='fail' accepts only what its own earlier try made: the context of the task is found.
    assert done.task("create") == "success 2"
    assert len(tokens) == 2
    assert tokens[0] == tokens[1]
    (left,) = sim.accounts("a")
    assert left["token"] == tokens[0][1]
    assert (sim.count("create"), sim.count("update"), sim.count("delete")) == (1, 1, 1)


# --- Test Connection ----------------------------------------------------------------------------------------


def test_create_many_makes_all_others_before_it_says_what_went_wrong(sim: Simulator) -> None:
    wanted = [{"alias": alias, "model_pricing": {"gpt-4": 1}, "balance": 1} for alias in ("b", "c", "a")]
    sim.add_account("c")
    sim.add_account("c")
    with pytest.raises(TooManyAccounts, match="'c' has 2"):
        CloseAIHook().create_many(wanted)
    assert sorted(account["alias"] for account in sim.accounts()) == ["a", "b", "c", "c"]
    made = CloseAIHook().create_many([wanted[0], wanted[2]])
    assert [[account.alias for account in accounts] for accounts in made] == [["b"], ["a"]]
    assert sim.count("create") == 2


def test_test_connection(sim: Simulator) -> None:
    for _ in range(3):
        sim.add_account("a")
    ok, message = try_it(sim)
    assert ok
    assert message == f"2 bases known, best {sim.base_urls[0]}; 3 sub-accounts."
    assert sim.counts() == {"links": 1, "list": 1}


def test_test_connection_always_asks_discovery(sim: Simulator) -> None:
    """However fresh the cached answer is: who presses the button has changed something."""
    hook = CloseAIHook()
    hook.list_bases()
    for asked in (2, 3):
        assert try_it(sim)[0]
        assert sim.count("links") == asked
    hook.list_bases()
    assert sim.count("links") == 3


def test_test_connection_goes_on_with_known_bases(sim: Simulator) -> None:
    assert try_it(sim)[0]
    sim.stop_discovery()
    assert try_it(sim)[0]


def test_test_connection_of_a_platform_without_totals(sim: Simulator) -> None:
    sim.settings.omit_total = True
    ok, message = try_it(sim)
    assert ok
    assert "None" not in message


@pytest.mark.parametrize("discovery", [True, False], ids=["by-discovery", "by-a-base"])
def test_test_connection_with_a_wrong_key(sim: Simulator, monkeypatch: Patch, discovery: bool) -> None:
    extra = {} if discovery else {"api_bases": sim.base_urls}
    key = connect(monkeypatch, sim, password="sk-wrong-wrong-wrong", extra=extra)
    ok, message = try_it(sim, key)
    assert not ok
    assert "main account's sk" in message
    assert "401" in message


def test_test_connection_with_a_sub_accounts_key(sim: Simulator, monkeypatch: Patch) -> None:
    key = connect(
        monkeypatch, sim, password=sim.add_account("a")["token"], extra={"api_bases": sim.base_urls}
    )
    ok, message = try_it(sim, key)
    assert not ok
    assert "403" in message
    assert "a sub-account's sk has no access" in message


def test_test_connection_with_discovery_down(sim: Simulator) -> None:
    sim.stop_discovery()
    ok, message = try_it(sim)
    assert not ok
    assert "connection refused" in message
    assert "api_bases" in message


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"extra": {"helth_ttl": 1}}, "did you mean 'health_ttl'?"),
        ({"extra": {"deadline": "soon"}}, "Deadline (s)"),
        ({"password": ""}, "API key"),
        ({"host": "http://example.com"}, "plain http"),
        ({"extra": {"cache": "redis"}}, "Cache"),
    ],
    ids=["unknown", "number", "no-key", "http", "choice"],
)
def test_test_connection_with_a_wrong_setting(
    sim: Simulator, monkeypatch: Patch, fields: dict[str, Any], told: str
) -> None:
    connect(monkeypatch, sim, **fields)
    ok, message = try_it(sim)
    assert not ok
    assert told in message
    with pytest.raises(ConfigError):
        CloseAIHook().get_conn()
    assert sim.requests == []


def test_test_connection_never_takes_long(sim: Simulator) -> None:
    """The API server waits for it: the connection's own deadline of minutes does not count."""
    sim.fault("list", "rate_limit", times=None, retry_after=30)
    ok, message = try_it(sim)
    assert not ok
    assert "asks to wait longer" in message
    assert sim.count("list") == 1


@pytest.mark.slow
def test_airflow_connections_test(sim: Simulator) -> None:
    arguments = ("-m", "airflow", "connections", "test", "closeai_default")
    done = python(*arguments, AIRFLOW__CORE__TEST_CONNECTION="Enabled")
    said = done.stdout + done.stderr
    assert "Connection success!" in done.stdout, said
    assert sim.key not in said
    assert sim.counts() == {"links": 1, "list": 1}


def test_airflow_connections_test_with_a_wrong_key(
    sim: Simulator, monkeypatch: Patch, capfd: pytest.CaptureFixture[str]
) -> None:
    connect(monkeypatch, sim, password="sk-wrong-wrong-wrong")
    monkeypatch.setenv("AIRFLOW__CORE__TEST_CONNECTION", "Enabled")
    airflow_command("connections", "test", "closeai_default")
    printed = capfd.readouterr()
    assert "Connection failed!" in printed.out
    assert "refuses the key" in " ".join(printed.out.split())
    assert "sk-wrong" not in printed.out + printed.err


# --- The documents ------------------------------------------------------------------------------------------


def test_the_examples_of_the_documents_run(
    sim: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after the other, as they are on the page."""
    connection = {"conn_type": "generic", "password": Fernet.generate_key().decode()}
    monkeypatch.setenv("AIRFLOW_CONN_FILE_KEY", json.dumps(connection))
    sim.clock._base = datetime.now(UTC)  # rotation wants clocks that agree
    page = Path(__file__).parents[2] / "docs/hook.md"
    names: dict[str, Any] = {"sink": EncryptedFileSink(tmp_path / "keys", "file_key")}
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        exec(compile(block, str(page), "exec"), names)  # noqa: S102
    assert (names["best"], names["base_url"]) == (sim.base_urls[0], f"{sim.base_urls[0]}/v1")
    assert (names["spent"], names["sick"], f"{names['used']:f}") == (0, [], "0.00004")  # a model's answer
    assert names["key"].startswith("sk-")
    assert names["ok"]
    rotated = sim.accounts("team-chat")
    assert [account["id"] for account in rotated] == [each.id for each in names["done"].accounts]
    assert names["answer"].choices[0].message.content == "Hello"
    assert (sim.count("create"), sim.count("update"), sim.count("delete")) == (1 + 3 + 1 + 1, 1, 2)


# --- Bases --------------------------------------------------------------------------------------------------


def test_get_base_url(sim: Simulator) -> None:
    assert CloseAIHook().get_base_url() == sim.base_urls[0]
    assert [health.healthy for health in CloseAIHook().check_health()] == [True, True]
    assert sim.counts() == {"links": 1, "healthy": 2}


def test_get_base_url_leaves_out_what_is_dead(sim: Simulator) -> None:
    sim.stop_base(0)
    assert CloseAIHook().get_base_url() == sim.base_urls[1]


def test_get_base_url_with_nothing_up(sim: Simulator) -> None:
    sim.stop_base(0)
    sim.stop_base(1)
    with pytest.raises(NoHealthyBase, match="HealthSensor waits until one is"):
        CloseAIHook().get_base_url()


def test_a_mistyped_option_of_a_roster_changes_nothing(sim: Simulator) -> None:
    """It may be the one that guards."""
    sim.add_account("a")
    roster = {
        "version": 1,
        "owns": ["*"],
        "accounts": [{"alias": "b", "balance": 1, "model_pricing": {"m": 1}}],
    }
    for method, typo in (("apply", "dryrun"), ("plan", "max_creat"), ("plan", "dry_run")):
        with pytest.raises(TypeError, match=typo):
            getattr(CloseAIHook(), method)(roster, prune=True, max_delete=5, **{typo: True})
    assert [account["alias"] for account in sim.accounts()] == ["a"]


def test_an_account_is_found_by_its_token(sim: Simulator) -> None:
    sim.add_account("a")
    hook = CloseAIHook()
    [account] = hook.iter_sub_accounts()
    assert [found.id for found in hook.iter_sub_accounts(sk=account.token)] == [account.id]
