"""Each sink against its backend or a stand-in on loopback: at least once, same reference, no key shown."""

from __future__ import annotations

import json
import logging
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet, InvalidToken
from support import Asked, item, platform
from vault_standin import Vault

from airflow_provider_closeai.client.errors import InvalidParameter
from airflow_provider_closeai.client.models import SecretToken, SubAccount
from airflow_provider_closeai.simulator import Simulator
from airflow_provider_closeai.sinks.aws import SecretsManagerSink
from airflow_provider_closeai.sinks.base import DeliveryFailed, SinkKeys
from airflow_provider_closeai.sinks.file import EncryptedFileSink
from airflow_provider_closeai.sinks.vault import VaultSink

Create = Callable[..., list[dict[str, Any]]]


def tokens(simulator: Simulator) -> dict[int, str]:
    return {account["id"]: account["token"] for account in simulator.accounts("team")}


def stored(client: Any) -> dict[str, str]:
    names = [secret["Name"] for secret in client.list_secrets()["SecretList"]]
    return {name: client.get_secret_value(SecretId=name)["SecretString"] for name in names}


@pytest.mark.slow
def test_secrets_manager_keeps_each_key_under_one_name(
    closeai_connection: Simulator, create: Create, secrets_manager: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    records = create(SecretsManagerSink())
    logged = caplog.text

    expected = {f"closeai/sub-account-{id_}": token for id_, token in tokens(closeai_connection).items()}
    assert stored(secrets_manager) == expected
    assert [record["delivered_to"] for record in records] == list(expected)
    for secret in [*expected.values(), closeai_connection.key]:
        assert secret not in logged, "a key in the log at DEBUG"
        assert secret not in json.dumps(records)
    assert "urllib3" in logged, "nothing was logged at DEBUG, so nothing was proven"

    create(SecretsManagerSink(), try_number=2)
    assert stored(secrets_manager) == expected
    for name in expected:
        versions = secrets_manager.list_secret_version_ids(SecretId=name)["Versions"]
        assert len(versions) == 1, "it was there already, and was written again"
    assert closeai_connection.count("create") == 1


def test_secrets_manager_replaces_a_key_that_differs(
    closeai_connection: Simulator, create: Create, secrets_manager: Any
) -> None:
    create(SecretsManagerSink())
    name, key = next(iter(stored(secrets_manager).items()))
    secrets_manager.put_secret_value(SecretId=name, SecretString="something else")
    create(SecretsManagerSink())
    assert stored(secrets_manager)[name] == key


def test_vault_keeps_each_key_at_one_path(
    closeai_connection: Simulator, create: Create, vault: Vault
) -> None:
    create(VaultSink())
    records = create(VaultSink(), try_number=2)
    assert {path: secret["token"] for path, secret in vault.secrets.items()} == {
        f"closeai/sub-account-{id_}": token for id_, token in tokens(closeai_connection).items()
    }
    assert vault.writes == 2
    assert [record["delivered_to"] for record in records] == list(vault.secrets)


def test_a_sink_that_is_down_fails_the_task_after_the_accounts_exist_and_the_retry_delivers(
    closeai_connection: Simulator, create: Create, vault: Vault
) -> None:
    vault.down = True
    with pytest.raises(DeliveryFailed, match="VaultSink did not take the key of sub-account 1") as failure:
        create(VaultSink())
    assert not failure.value.permanent, "Airflow must try again"
    assert len(tokens(closeai_connection)) == 2
    assert not vault.secrets

    vault.down = False
    create(VaultSink(), try_number=2)
    assert {secret["token"] for secret in vault.secrets.values()} == set(tokens(closeai_connection).values())
    assert closeai_connection.count("create") == 1


def test_encrypted_files_hold_keys_that_only_their_own_key_opens(
    closeai_connection: Simulator, create: Create, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def use_key(key: bytes) -> None:
        connection = {"conn_type": "generic", "password": key.decode()}
        monkeypatch.setenv("AIRFLOW_CONN_FERNET", json.dumps(connection))

    use_key(Fernet.generate_key())
    sink = EncryptedFileSink(str(tmp_path / "keys"), "fernet")
    records = create(sink)
    first = {record["id"]: Path(record["delivered_to"]).read_bytes() for record in records}
    for id_, token in tokens(closeai_connection).items():
        assert sink.read(id_).reveal() == token
        assert token.encode() not in first[id_]
        assert stat.S_IMODE(Path(records[0]["delivered_to"]).stat().st_mode) == 0o600

    create(sink, try_number=2)
    assert first == {record["id"]: Path(record["delivered_to"]).read_bytes() for record in records}

    use_key(Fernet.generate_key())
    with pytest.raises(InvalidToken):
        sink.read(records[0]["id"])
    with pytest.raises(DeliveryFailed, match="InvalidToken"):
        create(sink)


def test_what_a_sink_says_in_an_error_is_not_shown(closeai_connection: Simulator, create: Create) -> None:
    class Talkative:
        def deliver(self, account: Any) -> str:
            raise ValueError(f"cannot store {account.token.reveal()}")

    with pytest.raises(DeliveryFailed, match=r"Talkative .*ValueError") as failure:
        create(Talkative())
    error: BaseException | None = failure.value
    while error is not None:
        for token in tokens(closeai_connection).values():
            assert token not in repr(error)
        error = error.__cause__ or error.__context__


def test_a_file_sink_takes_a_path_and_a_home(
    closeai_connection: Simulator, create: Create, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = {"conn_type": "generic", "password": Fernet.generate_key().decode()}
    monkeypatch.setenv("AIRFLOW_CONN_FERNET", json.dumps(connection))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    create(EncryptedFileSink(tmp_path / "keys", "fernet"))
    [first, second] = create(EncryptedFileSink(Path("~/keys"), "fernet"))
    assert Path(first["delivered_to"]).parent == tmp_path / "home" / "keys"
    for directory in (str(tmp_path / "keys"), "~/keys"):
        sink = EncryptedFileSink(directory, "fernet")
        assert {id_: sink.read(id_).reveal() for id_ in (first["id"], second["id"])} == tokens(
            closeai_connection
        )


def test_sinks_show_what_they_are_and_nothing_else() -> None:
    assert repr(EncryptedFileSink(Path("~/keys"), "fernet")) == (
        "EncryptedFileSink('~/keys', 'fernet', 'sub-account-{id}')"
    )
    assert repr(VaultSink("p-{id}", "v")) == "VaultSink('p-{id}', 'v')"
    assert repr(SecretsManagerSink("p-{alias}", "a")) == "SecretsManagerSink('p-{alias}', 'a', None)"
    connections = SecretsManagerSink("p-{alias}", as_connection=True, base_url="https://gateway/v1")
    assert repr(connections) == (
        "SecretsManagerSink('p-{alias}', 'aws_default', None, as_connection=True, "
        "base_url='https://gateway/v1')"
    )


class Kept:
    """A sink that keeps keys in memory."""

    def __init__(self) -> None:
        self.keys: dict[int, str] = {}
        self.writes = 0

    def deliver(self, account: Any) -> str:
        self.writes += 1
        self.keys[account.id] = account.token.reveal()
        return f"kept-{account.id}"


@pytest.mark.parametrize("reference", [None, 5, " ", "the key is {key}", "team/{bare}"], ids=repr)
def test_a_reference_that_is_no_text_or_shows_the_key_is_refused(
    closeai_connection: Simulator, create: Create, reference: Any
) -> None:
    class Careless:
        def deliver(self, account: Any) -> Any:
            key = account.token.reveal()
            is_text = isinstance(reference, str)
            return reference.format(key=key, bare=key.removeprefix("sk-")) if is_text else reference

    with pytest.raises(DeliveryFailed, match="no text that may be shown") as failure:
        create(Careless())
    for token in tokens(closeai_connection).values():
        assert token.removeprefix("sk-") not in str(failure.value)


class Masking:
    """A platform whose listing replaces the middle of each key for show."""

    def __init__(self, lost: frozenset[int] = frozenset()) -> None:
        self.items: list[dict[str, Any]] = []
        self.posts = 0
        self.lost = lost

    def __call__(self, asked: Asked) -> tuple[int, Any]:
        if asked.method == "GET":
            shown = [
                {**each, "token": each["token"][:6] + "****" + each["token"][-4:]} for each in self.items
            ]
            return 200, {"items": shown, "total": len(shown), "page": 1, "pageSize": 500}
        self.posts += 1
        first = len(self.items) + 1
        made = [item(first + number, "team") for number in range(asked.body["count"])]
        self.items += made
        return (502, {}) if self.posts in self.lost else (200, {"items": made, "success": True})


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def to(origin: str) -> None:
        connection = {"conn_type": "closeai", "password": "sk-nobodys", "extra": {"api_bases": [origin]}}
        monkeypatch.setenv("AIRFLOW_CONN_CLOSEAI_DEFAULT", json.dumps(connection))

    return to


def test_a_second_run_that_sees_hidden_keys_overwrites_nothing(
    create: Create, connect: Callable[[str], None]
) -> None:
    sink, there = Kept(), Masking()
    with platform(there) as (origin, asked):
        connect(origin)
        create(sink)
        first = dict(sink.keys)
        assert first == {each["id"]: each["token"] for each in there.items}
        for try_number in (1, 2):
            with pytest.raises(Exception, match="hides the keys") as failure:
                create(sink, try_number=try_number)
            assert type(failure.value).__name__ == "AirflowFailException", "a retry could not help"
        assert (sink.keys, sink.writes, there.posts) == (first, 2, 1)
        assert [request.method for request in asked].count("POST") == 1


def test_keys_that_an_answer_gave_are_delivered_although_another_answer_was_lost(
    create: Create, connect: Callable[[str], None]
) -> None:
    sink, there = Kept(), Masking(lost=frozenset({2}))
    with platform(there) as (origin, _):
        connect(origin)
        with pytest.raises(Exception, match=r"\[2\] exist, and the listing hides their keys.*1 others were"):
            create(sink, batch_size=1)
        assert sink.keys == {1: there.items[0]["token"]}
        assert len(there.items) == 2


def test_what_is_no_sink_is_refused_before_anything_is_sent(
    closeai_connection: Simulator, create: Create
) -> None:
    for sink in (Kept, "vault", object(), [Kept()]):
        with pytest.raises(Exception, match=r"deliver_to is .*Nothing was sent"):
            create(sink)
    assert closeai_connection.requests == []


# --- What a sink holds -------------------------------------------------------------------------------------


def account(number: int, key: str = "sk-the-key-itself") -> SubAccount:
    return SubAccount(id=number, token=SecretToken(key), alias="team")


def keys_of(sink: Any, base: str = "", **counts: int) -> SinkKeys:
    return SinkKeys(sink, counts, lambda: base)


def check_held(sink: Any, before: datetime) -> None:
    """Nothing, then what was delivered, since then; a key that differs is not held."""
    keys = keys_of(sink)
    assert keys.held([account(1), account(2)]) == {}
    sink.deliver(account(1))
    first = keys.held([account(1), account(2)])
    assert first is not None
    assert list(first) == [1]
    since = first[1]
    assert since is not None
    assert before - timedelta(seconds=2) <= since <= datetime.now(UTC) + timedelta(seconds=2)
    sink.deliver(account(1))
    assert keys.held([account(1)]) == first, "it was written again"
    assert keys.held([account(1, "sk-another-key")]) == {}


def test_secrets_manager_says_what_it_holds(secrets_manager: Any) -> None:
    check_held(SecretsManagerSink(), datetime.now(UTC))


def test_vault_says_what_it_holds(vault: Vault) -> None:
    check_held(VaultSink(), datetime.now(UTC))


def test_a_vault_of_version_1_cannot_say_since_when(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = json.loads(vault.connection())
    connection["extra"]["kv_engine_version"] = 1
    monkeypatch.setenv("AIRFLOW_CONN_VAULT_DEFAULT", json.dumps(connection))
    VaultSink().deliver(account(1))
    assert keys_of(VaultSink()).held([account(1), account(2)]) == {1: None}


def test_files_say_what_they_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = {"conn_type": "generic", "password": Fernet.generate_key().decode()}
    monkeypatch.setenv("AIRFLOW_CONN_FILE_KEY", json.dumps(connection))
    check_held(EncryptedFileSink(tmp_path / "keys", "file_key"), datetime.now(UTC))


def test_a_sink_that_cannot_say_now_is_no_empty_sink(vault: Vault) -> None:
    vault.down = True
    with pytest.raises(DeliveryFailed, match="VaultSink could not say which keys it holds"):
        keys_of(VaultSink()).held([account(1)])


class Remembers:
    """A sink of the user's own that says what it is told to."""

    def __init__(self, said: Any) -> None:
        self.said = said

    def deliver(self, account: SubAccount) -> str:
        return "there"

    def held(self, accounts: Any) -> Any:
        return self.said


class Moment(datetime):
    """A time of another library: its own arithmetic is not that of plain ones."""

    def __sub__(self, other: Any) -> Any:
        raise AttributeError("_to_microseconds")


SINCE = datetime(2026, 11, 1, 8, tzinfo=UTC)


@pytest.mark.parametrize(
    "said", [{1: SINCE}, {"1": SINCE}, {1: Moment(2026, 11, 1, 8, tzinfo=UTC), 99: None}]
)
def test_what_a_sink_of_ones_own_holds_is_brought_to_one_form(said: Any) -> None:
    account = SubAccount(id=1, token=SecretToken("sk-a"))
    held = SinkKeys(Remembers(said), {}, str).held([account])
    assert held == {1: SINCE}
    assert type(held[1]) is datetime


@pytest.mark.parametrize(
    "said", [None, {1, 2}, {1: 1.5}, {1: "2026"}, {"a": None}, {1: datetime(2026, 11, 1)}]
)
def test_what_no_sink_can_hold_is_told(said: Any) -> None:
    account = SubAccount(id=1, token=SecretToken("sk-a"))
    with pytest.raises(DeliveryFailed, match="no mapping of account ids to times with a zone"):
        SinkKeys(Remembers(said), {}, str).held([account])


KEY = "sk-" + "".join(f"{number:x}{chr(65 + number)}" for number in range(24))  # ends unlike its beginning


@pytest.mark.parametrize(
    "listed",
    [
        f"{KEY[:6]}XXXX{KEY[-4:]}",
        f"{KEY[:6]}---{KEY[-4:]}",
        KEY[:8],
        KEY[-6:],
        f"{KEY[:6]}.{KEY[-4:]}",
        "-",
        "N/A",
        KEY[:6] + "0" * (len(KEY) - 10) + KEY[-4:],
        f"{KEY[:6]}-REDACTED-{KEY[-4:]}",
        f"{KEY[:8]}hiddenbyadmin{KEY[-4:]}",
    ],
)
@pytest.mark.parametrize("reference", ["{alias}", "{id}"])
def test_a_part_of_a_key_takes_no_keys_place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, listed: str, reference: str
) -> None:
    """Whatever the platform's listing shows instead of keys, a key that was kept stays."""
    connection = {"conn_type": "generic", "password": Fernet.generate_key().decode()}
    monkeypatch.setenv("AIRFLOW_CONN_FILE_KEY", json.dumps(connection))
    sink = EncryptedFileSink(tmp_path, "file_key", reference)
    account = SubAccount(id=1, token=SecretToken(KEY), alias="team")
    SinkKeys(sink, {}, str).deliver([account])
    other = SubAccount(id=2, token=SecretToken(KEY[::-1]), alias="other")
    shown = SubAccount(id=1, token=SecretToken(listed), alias="team")
    with pytest.raises(Exception, match=r"[Nn]othing was overwritten"):
        SinkKeys(sink, {}, str).deliver([shown, other])
    assert sink.read(1, "team").reveal() == KEY
    assert sink.read(2, "other").reveal() == KEY[::-1], "the others are kept all the same"


def test_a_new_key_takes_an_old_ones_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    connection = {"conn_type": "generic", "password": Fernet.generate_key().decode()}
    monkeypatch.setenv("AIRFLOW_CONN_FILE_KEY", json.dumps(connection))
    sink = EncryptedFileSink(tmp_path, "file_key", "{alias}")
    other = KEY[::-1][:-3]
    keys = (KEY, f"sk-{other}", f"sk-proj-{other}{KEY[3:]}{other}", KEY, f"sk-proj-{KEY}", f"sk-proj-{other}")
    for key in keys:  # another vendor's long key, too, and ones that begin alike
        SinkKeys(sink, {}, str).deliver([SubAccount(id=1, token=SecretToken(key), alias="team")])
        assert sink.read(alias="team").reveal() == key


@pytest.mark.parametrize(
    "directory",
    [
        *("s3://bucket/keys", "s3:/bucket/keys", "file:/keys", "C:\\keys", "file://server/keys"),
        *("", " ", "{{ var.value.keys }}", "{% if 1 %}keys", "$HOME/keys", None, 5),
    ],
)
def test_a_folder_that_is_not_this_hosts_is_refused(directory: Any) -> None:
    with pytest.raises(InvalidParameter, match="is not a folder of this host"):
        EncryptedFileSink(directory, "file_key")


@pytest.mark.parametrize("directory", ["file:///keys", "file://localhost/keys", " /keys ", Path("/keys")])
def test_a_folder_of_this_host_however_it_is_written(directory: Any) -> None:
    assert EncryptedFileSink(directory, "file_key").directory == "/keys"
