"""The state file: what it keeps, that it is whole or not there, and how a damaged one is told."""

from __future__ import annotations

import json
import stat
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_closeai.simulator import Simulator

Clients = Callable[[Simulator], Any]
WONDERS = ["团队 A", 'a"b\\c', "☃️👩‍🔧", "　wide", "\u2028", "half \ud83d", "null"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state.json"


def test_everything_comes_back(file: Path, client_of: Clients) -> None:
    with Simulator(state=file, seed=3) as sim:
        assert not sim.restored
        ask = client_of(sim)
        for alias in WONDERS:
            sim.add_account(alias, balance="0.10000001", monthly_cost="3")
        sim.add_account("off", enabled=False, token_type="master")
        old = {"model": "o", "prompt_price": 0, "completion_price": 0, "auto_following": False}
        sim.add_account("old", [old], created_at="2023-05-24T23:13:16.878831+08:00")
        pricing = '[{"model":"gpt-4","pricing_factor":0.29999999999999999}]'
        made = ask("create", f'{{"alias":"made","balance":1.5,"model_pricing":{pricing}}}').json()["items"][0]
        sim.clock.advance(days=10, microseconds=1)
        gone = sim.add_account("gone")
        sim.set_rate(gone["id"], "0.5")
        sim.set_rate(made["id"], "0.01234567")
        sim.clock.advance(hours=3)
        ask("delete", {"sks": [gone["token"]]})
        sim.correct_cost(made["id"], "-0.5")
        told = (sim.key, sim.accounts(), sim.truth, sim.clock.now(), ask("billing").text, sim.base_urls)
        listed = ask("list", query={"page_size": -1}).text.replace("?", "\ud83d")
    with Simulator(state=file) as sim:
        ask = client_of(sim)
        assert sim.restored
        assert (
            sim.key,
            sim.accounts(),
            sim.truth,
            sim.clock.now(),
            ask("billing").text,
            sim.base_urls,
        ) == told
        assert ask("list", query={"page_size": -1}).text.replace("?", "\ud83d") == listed
        assert '"pricing_factor":0.29999999999999999' in listed
        assert ask("list", key=gone["token"]).status == 401
        fresh = sim.add_account("fresh")
        assert fresh["id"] == gone["id"] + 1
        sim.clock.advance(hours=1)
        [account] = sim.accounts("made")
        before = next(one for one in told[1] if one["alias"] == "made")
        assert Decimal(account["monthly_cost"]) - Decimal(before["monthly_cost"]) == Decimal("0.01234567")
        sim.correct_cost(gone["id"], 1)
        assert sim.truth.by_month[gone["id"], "2026-12"] == Decimal("2.5")


def test_what_was_answered_is_in_the_file(file: Path, client_of: Clients) -> None:
    def aliases() -> list[str]:
        return [account["alias"] for account in json.loads(file.read_text())["accounts"]]

    with Simulator(state=file) as sim:
        ask = client_of(sim)
        assert aliases() == []
        token = ask.create("a").json()["items"][0]["token"]
        assert aliases() == ["a"]
        ask("update", {"sks": [token], "alias": "b", "model_pricing": []})
        assert aliases() == ["b"]
        ask("delete", {"sks": [token]})
        assert aliases() == []
        sim.fault("create", "cut_after")
        with pytest.raises(ConnectionResetError):
            ask.create("c")
        assert aliases() == ["c"]
        ask("", {"advance_seconds": 86400}, method="POST", path="/_simulator/clock")
        assert json.loads(file.read_text())["clock"] == "2026-11-25T09:00:00.000000+08:00"
        ask("", {"move": True}, method="POST", path="/_simulator/bases")
        ports = json.loads(file.read_text())["ports"]
        assert [f"http://127.0.0.1:{port}" for port in ports] == [sim.discovery_url, *sim.base_urls]


def test_what_python_changes_is_in_the_file_soon(file: Path) -> None:
    with Simulator(state=file) as sim:
        sim.add_account("a")
        end = time.monotonic() + 10
        while '"alias":"a"' not in file.read_text():
            assert time.monotonic() < end
            time.sleep(0.01)


def test_many_at_once(file: Path, client_of: Clients) -> None:
    with Simulator(state=file) as sim, ThreadPoolExecutor(8) as pool:
        ask = client_of(sim)
        list(pool.map(lambda number: ask.create(f"a{number}", count=2), range(24)))
        told = sim.accounts()
        assert len(json.loads(file.read_text())["accounts"]) == len(told) == 48
    with Simulator(state=file) as sim:
        assert sim.accounts() == told


def test_a_killed_simulators_money_never_comes_back(file: Path, tmp_path: Path, client_of: Clients) -> None:
    with Simulator(state=file, speed=36_000) as sim:
        sim.set_rate(sim.add_account("a")["id"], 1)
        for number in range(20):
            time.sleep(0.02)
            shown = client_of(sim)("list").json()["items"][0]["balance"]
            as_killed = tmp_path / f"killed-{number}.json"
            as_killed.write_bytes(file.read_bytes())
            sim.clock.advance(hours=20)  # a promise that has run out is renewed before the next answer
            again = Simulator(state=as_killed)
            assert Decimal(again.accounts()[0]["balance"]) <= Decimal(shown) < 100
            again.stop()


def test_time_goes_on_from_the_later_of_both(file: Path) -> None:
    with Simulator(state=file, start=datetime(2026, 12, 1)) as sim:
        sim.set_rate(sim.add_account("a")["id"], 1)
    with Simulator(state=file, start=datetime(2026, 11, 1)) as sim:
        assert sim.clock.now().isoformat() == "2026-12-01T00:00:00+08:00"
    with Simulator(state=file, start=datetime(2026, 12, 1, 5)) as sim:
        assert sim.accounts()[0]["monthly_cost"] == "5"
        assert sim.truth.by_date == {(1, date(2026, 12, 1)): Decimal(5)}


def test_ports_and_bases(file: Path, client_of: Clients) -> None:
    with Simulator(state=file, bases=2) as sim:
        before = (sim.discovery_url, sim.base_urls)
    with Simulator(state=file, bases=3) as sim:
        assert (sim.discovery_url, sim.base_urls[:2]) == before
        assert client_of(sim)("healthy", base=2).text == "healthy"
    with Simulator(state=file, bases=1) as sim:
        assert (sim.discovery_url, sim.base_urls) == (before[0], before[1][:1])


def test_the_file_is_its_owners_only(file: Path) -> None:
    with Simulator(state=file):
        pass
    file.chmod(0o644)
    with Simulator(state=file):
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in file.parent.iterdir()}
    assert modes == {"state.json": 0o600, ".state.json.lock": 0o600}


def test_a_link_stays_a_link(file: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    file.symlink_to(tmp_path / "elsewhere" / "real.json")
    with Simulator(state=file) as sim:
        sim.add_account("a")
    assert file.is_symlink()
    with Simulator(state=tmp_path / "elsewhere" / "real.json") as sim:
        assert len(sim.accounts()) == 1


def test_nothing_is_left_when_it_stops(file: Path) -> None:
    before = set(threading.enumerate())
    with Simulator(state=file) as sim:
        with pytest.raises(ValueError, match="is used by another simulator"):
            Simulator(state=file)
        sim.add_account("a")
    assert set(threading.enumerate()) <= before
    Simulator(state=file).stop()


def spoilt(change: Callable[[Any], Any]) -> Callable[[bytes], bytes]:
    def spoil(text: bytes) -> bytes:
        found = json.loads(text)
        change(found)
        return json.dumps(found).encode()

    return spoil


def first(**fields: Any) -> Callable[[bytes], bytes]:
    return spoilt(lambda found: found["accounts"][0].update(fields))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda text: b"", "Expecting value"),
        (lambda text: text[: len(text) // 2], "line 1"),
        (lambda text: text[:-1], "line 1"),
        (lambda text: text + b"}", "Extra data"),
        (lambda text: b"\0" * len(text), "Expecting value"),
        (lambda text: b"\xff" + text, "utf-8"),
        (lambda text: b"[" * 100_000, "recursion"),
        (lambda text: b"from airflow import DAG", "Expecting value"),
        (lambda text: b"[]", "it is not a state file of this version"),
        (lambda text: b"{}", "it is not a state file of this version"),
        (spoilt(lambda found: found.update(format=2)), "it is not a state file of this version"),
        (spoilt(lambda found: found.pop("key")), "'key' is missing"),
        (spoilt(lambda found: found.update(key=7)), "key is not of type str"),
        (spoilt(lambda found: found.update(clock="soon")), "soon"),
        (spoilt(lambda found: found.update(ports=[0])), "from 1 to 65535"),
        (spoilt(lambda found: found.update(ports=[99999, 1, 2])), "from 1 to 65535"),
        (spoilt(lambda found: found.update(last_id=0)), "account 1 cannot be"),
        (spoilt(lambda found: found.update(days=[[1, "2026-11-24"]])), "unpack"),
        (spoilt(lambda found: found.pop("months")), "'months' is missing"),
        (spoilt(lambda found: found["accounts"].append(found["accounts"][0])), "account 1 cannot be"),
        (spoilt(lambda found: found["accounts"].append(7)), ""),
        (first(balance="much"), "balance is not a number"),
        (first(monthly_cost=None), ""),
        (first(rate="0.000000001"), "rate has more than 8 decimals"),
        (first(alias=None), "alias is not of type str"),
        (first(enabled="true"), "enabled is not of type bool"),
        (first(id="1"), "id is not of type int"),
        (first(settled=5), ""),
    ],
)
def test_a_damaged_file_is_told_and_kept(file: Path, damage: Callable[[bytes], bytes], words: str) -> None:
    with Simulator(state=file) as sim:
        sim.add_account("a")
        secrets = (sim.key, sim.accounts()[0]["token"])
    damaged = damage(file.read_bytes())
    file.write_bytes(damaged)
    for _ in range(2):  # the first try leaves no lock behind
        with pytest.raises(ValueError, match="is damaged: ") as caught:
            Simulator(state=file)
        told = str(caught.value)
        assert words in told
        assert told.endswith("It was left as it is: mend it, or move it away to begin anew")
        assert not [secret for secret in secrets if secret in told]
    assert file.read_bytes() == damaged


def test_a_file_that_cannot_be_written_is_told_once(
    file: Path, client_of: Clients, capsys: pytest.CaptureFixture[str]
) -> None:
    with Simulator(state=file) as sim:
        ask = client_of(sim)
        ask.create("a")
        before = file.read_bytes()
        hindrance = file.with_name(".state.json.new")
        hindrance.mkdir()
        assert [ask.create("b").status for _ in range(2)] == [200, 200]
        assert capsys.readouterr().err.count("cannot write the state file") == 1
        assert file.read_bytes() == before
        hindrance.rmdir()
        ask.create("c")
        assert len(json.loads(file.read_text())["accounts"]) == 4
