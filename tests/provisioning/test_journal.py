"""The task's own journal: kept for all its tries, on whatever host they run."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from support import GPT4, client_of, run_create

from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.errors import RateLimited, Rejected
from airflow_provider_closeai.client.models import SubAccount
from airflow_provider_closeai.provisioning.errors import AliasExists, NotNoted
from airflow_provider_closeai.provisioning.requests import CreateRequest
from airflow_provider_closeai.simulator import Simulator


class Store:
    """A store of one text that may fail."""

    def __init__(self) -> None:
        self.text: str | None = None
        self.broken = False

    def read(self) -> str | None:
        if self.broken:
            raise RuntimeError("the store is down")
        return self.text

    def write(self, text: str) -> None:
        if self.broken:
            raise RuntimeError("the store is down")
        self.text = text


def ensure(client: CloseAIClient, store: Store | None, first_try: bool, **options: Any) -> list[SubAccount]:
    want = CreateRequest.parse("a", GPT4, 1, 2, **{"settle": 0.6, **options})
    return run_create(client, want, first_try=first_try, task="t", own_journal=store)


def another_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def never(seconds: float) -> None:
    raise AssertionError("it waited")


def die_before_posting(sim: Simulator, store: Store, **options: Any) -> None:
    sim.fault("list", "status", status=400)
    with pytest.raises(Rejected):
        ensure(client_of(sim), store, first_try=True, **options)


def die_after_posting(sim: Simulator, store: Store, **options: Any) -> None:
    sim.fault("create", "error_after")
    sim.fault("list", "status", status=400, skip=1, times=None)
    with pytest.raises(Rejected):
        ensure(client_of(sim), store, first_try=True, **options)
    sim.clear_faults()
    assert len(sim.accounts("a")) == 2


def test_a_retry_that_finds_nothing_was_posted_does_not_wait(sim: Simulator) -> None:
    store = Store()
    die_before_posting(sim, store)
    assert len(ensure(client_of(sim, sleep=never), store, first_try=False)) == 2


def test_a_retry_after_a_post_that_never_left_does_not_wait(sim: Simulator) -> None:
    store = Store()
    sim.fault("create", "rate_limit", retry_after=3600)
    with pytest.raises(RateLimited):
        ensure(client_of(sim), store, first_try=True)
    assert len(ensure(client_of(sim, sleep=never), store, first_try=False)) == 2


def test_a_retry_after_a_refused_post_waits_where_an_earlier_one_was_lost(sim: Simulator) -> None:
    store = Store()
    sim.fault("create", "cut_before")
    sim.fault("create", "rate_limit", retry_after=3600)
    with pytest.raises(RateLimited):
        ensure(client_of(sim), store, first_try=True)
    with pytest.raises(AssertionError, match="it waited"):
        ensure(client_of(sim, sleep=never), store, first_try=False)


def test_without_a_journal_it_waits(sim: Simulator) -> None:
    with pytest.raises(AssertionError, match="it waited"):
        ensure(client_of(sim, sleep=never), None, first_try=False)
    assert sim.count("create") == 0


@pytest.mark.parametrize("text", [None, "", "{", '{"at": "x"}', "[]"])
def test_a_journal_that_says_nothing_proves_nothing(sim: Simulator, text: str | None) -> None:
    store = Store()
    store.text = text
    with pytest.raises(AssertionError, match="it waited"):
        ensure(client_of(sim, sleep=never), store, first_try=False)
    assert sim.count("create") == 0


def test_after_a_post_a_retry_on_another_host_waits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with Simulator(list_lag=0.3) as sim:
        store = Store()
        die_after_posting(sim, store)
        another_host(monkeypatch, tmp_path)
        made = ensure(client_of(sim), store, first_try=False)
        assert [account.id for account in made] == [account["id"] for account in sim.accounts("a")]
        assert sim.count("create") == 1


def test_if_exists_fail_knows_its_own_on_another_host(
    sim: Simulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store = Store()
    die_after_posting(sim, store, if_exists="fail")
    another_host(monkeypatch, tmp_path)
    with pytest.raises(AliasExists):
        ensure(client_of(sim), Store(), first_try=False, if_exists="fail")
    assert len(ensure(client_of(sim), store, first_try=False, if_exists="fail")) == 2
    assert sim.count("create") == 1


def test_a_post_that_cannot_be_noted_is_not_sent(sim: Simulator) -> None:
    store = Store()
    store.broken = True
    with pytest.raises(NotNoted, match="note could not be written"):
        ensure(client_of(sim), store, first_try=True)
    assert sim.count("create") == 0


def test_a_host_note_that_is_damaged_stops_nothing(sim: Simulator) -> None:
    ensure(client_of(sim), None, first_try=True)
    [note] = Path(tempfile.gettempdir()).glob("*/*.note.json")
    for text in (b"", b"{", b"\xff", b'{"at":"x"}', b"[" * 50_000):
        note.write_bytes(text)
        assert len(ensure(client_of(sim), None, first_try=True)) == 2
    assert "sk-" not in note.name
    assert sim.count("create") == 1
