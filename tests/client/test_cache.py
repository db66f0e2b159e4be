"""The cache says where the main key goes: what is wrong with it must send nothing anywhere new."""

# Lambdas here do two things, and their results are not used.
# mypy: disable-error-code="func-returns-value"

from __future__ import annotations

import json
import os
import stat
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from support import Clock, client_of, clock_with, config_of, in_processes, in_threads, platform

from airflow_provider_closeai.client.cache import (
    MAX_PUT_OFF,
    STALE_FOR,
    Cache,
    HealthCheckResult,
    PoolState,
)
from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.config import config_from
from airflow_provider_closeai.client.models import ApiBase
from airflow_provider_closeai.local_state import lock
from airflow_provider_closeai.simulator import Simulator

EMPTY = {"items": [], "total": 0}


def directory() -> Path:
    return Path(tempfile.gettempdir()) / f"airflow-provider-closeai-{os.geteuid()}"


def file_of(sim: Simulator) -> Path:
    return directory() / f"{Cache(config_of(sim)).name}.json"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture
def warm(sim: Simulator) -> Simulator:
    client_of(sim).check_health()
    list(client_of(sim).iter_sub_accounts())
    assert sim.count("links") == 1
    return sim


def test_it_is_private_and_holds_no_secret(warm: Simulator) -> None:
    assert mode(directory()) == 0o700
    names = sorted(path.name for path in directory().iterdir())
    assert file_of(warm).name in names
    for path in directory().iterdir():
        assert mode(path) == 0o600, path
        text = path.read_text()
        assert warm.key not in text
        assert warm.key not in path.name
        assert "sk-" not in text
        assert "Bearer" not in text
    assert not [name for name in names if name.startswith(".new-")]


def test_file_modes_do_not_depend_on_the_umask(sim: Simulator) -> None:
    old = os.umask(0)
    try:
        client_of(sim).check_health()
    finally:
        os.umask(old)
    assert mode(directory()) == 0o700
    assert {mode(path) for path in directory().iterdir()} == {0o600}


def test_another_key_or_origin_has_another_cache(sim: Simulator) -> None:
    names = {
        Cache(config_from(password=password, host=host, extra=extra)).name
        for password in ("sk-one", "sk-two")
        for host in ("https://a.example", "https://b.example")
        for extra in ({}, {"allowed_hosts": "*.x"}, {"api_bases": "https://c.example"})
    }
    assert len(names) == 12


def forge(sim: Simulator, evil: str, key: str | None = None) -> str:
    """Write what a cache that sends everything to ``evil`` would hold, signed with some key."""
    config = config_of(sim)
    if key is not None:
        config = msgspec.structs.replace(config, key=config_from(password=key).key)
    known = PoolState(bases=(ApiBase(evil, priority=99),), discovered_at=time.time())
    forger = Cache(config)
    payload = msgspec.json.encode(known).decode()
    return f"{forger._mac(payload)} {payload}"


DAMAGES: dict[str, Callable[[Path, str], object]] = {
    "forged with another key": lambda path, forged: path.write_text(forged),
    "unsigned": lambda path, forged: path.write_text(forged.partition(" ")[2]),
    "old signature, new content": lambda path, forged: path.write_text(
        f"{path.read_text().partition(' ')[0]} {forged.partition(' ')[2]}"
    ),
    "truncated": lambda path, forged: path.write_text(path.read_text()[:-20]),
    "empty": lambda path, forged: path.write_text(""),
    "only a signature": lambda path, forged: path.write_text(path.read_text().partition(" ")[0]),
    "no text": lambda path, forged: path.write_bytes(b"\xff\xfe\x00" * 50),
    "huge": lambda path, forged: path.write_text(path.read_text() + " " * 300_000),
    "not ASCII": lambda path, forged: path.write_text("ü" * 64 + " {}"),
    "a directory": lambda path, forged: (path.unlink(), path.mkdir()),
    "a fifo": lambda path, forged: (path.unlink(), os.mkfifo(path, 0o600)),
    "a link": lambda path, forged: (
        path.rename(path.with_suffix(".old")),
        path.symlink_to(path.with_suffix(".old")),
    ),
    "a link to nowhere": lambda path, forged: (path.unlink(), path.symlink_to("/no/such/file")),
    "writable by all": lambda path, forged: path.chmod(0o666),
    "readable by all": lambda path, forged: path.chmod(0o644),
    "unreadable": lambda path, forged: (path.chmod(0), path.unlink()) if os.geteuid() == 0 else path.chmod(0),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_cannot_be_verified_is_as_if_absent(warm: Simulator, damage: str) -> None:
    with platform(lambda asked: (200, EMPTY)) as (evil, stolen):
        DAMAGES[damage](file_of(warm), forge(warm, evil, key="sk-of-somebody-else"))
        for _ in range(3):
            assert list(client_of(warm).iter_sub_accounts()) == []
        assert [base.api for base in client_of(warm).list_bases()] == warm.base_urls
        assert stolen == []
    assert warm.count("links") == 2, "asked anew, once"


def test_the_forgery_would_work_with_the_key_itself(warm: Simulator) -> None:
    """Else the tests above would prove nothing."""
    with platform(lambda asked: (200, EMPTY)) as (evil, stolen):
        file_of(warm).write_text(forge(warm, evil))
        list(client_of(warm).iter_sub_accounts())
        assert len(stolen) == 1


@pytest.mark.parametrize("change", ["world", "group", "link", "file"])
def test_a_directory_that_is_not_this_users_alone_is_not_used(
    warm: Simulator, change: str, tmp_path: Path
) -> None:
    with platform(lambda asked: (200, EMPTY)) as (evil, stolen):
        file_of(warm).write_text(forge(warm, evil))  # with the right key: only the directory can save us
        if change == "world":
            directory().chmod(0o777)
        elif change == "group":
            directory().chmod(0o770)
        elif change == "link":
            directory().rename(tmp_path / "elsewhere")
            directory().symlink_to(tmp_path / "elsewhere")
        else:
            directory().rename(tmp_path / "elsewhere")
            directory().write_text("")
        assert list(client_of(warm).iter_sub_accounts()) == []
        assert [health.healthy for health in client_of(warm).check_health()] == [True, True]
        assert stolen == []


def test_where_nothing_can_be_written_a_process_remembers_for_itself(
    sim: Simulator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/proc/no-such-directory")
    for _ in range(5):
        assert list(client_of(sim).iter_sub_accounts()) == []
        client_of(sim).check_health()
    assert sim.count("links") == 1
    assert sim.count("healthy") == 1
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == len(set(warnings)), "each is told once"


def test_a_broken_store_costs_nothing_but_sharing(sim: Simulator) -> None:
    class Broken:
        def __init__(self, name: str) -> None:
            pass

        def read(self) -> str | None:
            raise RuntimeError("no database")

        def write(self, text: str) -> None:
            raise RuntimeError("no database")

    cache = Cache(config_of(sim), Broken)
    cache.change(lambda old: msgspec.structs.replace(old, failures=3))
    assert cache.read().failures == 3


def changed(sim: Simulator, **fields: object) -> PoolState:
    cache = Cache(config_of(sim))
    cache.change(lambda old: msgspec.structs.replace(old, **fields))
    return Cache(config_of(sim)).read()


def test_what_is_dated_in_the_future_is_not_believed(warm: Simulator) -> None:
    now = time.time()
    assert changed(warm).bases
    assert changed(warm, discovered_at=now + 3600) == PoolState()
    client_of(warm).list_bases()
    assert warm.count("links") == 2
    put_off = changed(warm, asked_at=now, ask_again_at=now + 2 * MAX_PUT_OFF)
    assert (put_off.bases != (), put_off.ask_again_at) == (True, now + MAX_PUT_OFF)
    frozen = changed(warm, asked_at=now + 3600, refused=True, ask_again_at=now + 3700)
    assert (frozen.ask_again_at < now, frozen.refused) == (True, False)
    assert changed(warm, discovered_at=now - STALE_FOR, bases=(ApiBase("https://x"),)).bases
    good, bad = HealthCheckResult(True, now - 5, ""), HealthCheckResult(True, now + 3600, "")
    assert changed(warm, verdicts={"https://a": good, "https://b": bad}).verdicts == {"https://a": good}


def test_no_descriptor_is_lost(warm: Simulator) -> None:
    path = file_of(warm)
    path.unlink()
    path.mkdir()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        Cache(config_of(warm)).read()
        Cache(config_of(warm)).change(lambda old: old)
        with lock("x", wait=0):
            pass
    assert len(os.listdir("/proc/self/fd")) <= before + 2


def test_a_failed_write_leaves_nothing_behind(warm: Simulator) -> None:
    path = file_of(warm)
    path.unlink()
    path.mkdir()
    Cache(config_of(warm)).change(lambda old: old)
    assert not [entry for entry in directory().iterdir() if entry.name.startswith(".new-")]


def _count(name: str, times: int) -> None:
    config = config_from(password=name)
    for _ in range(times):
        Cache(config).change(lambda old: msgspec.structs.replace(old, failures=old.failures + 1))


def test_no_change_is_lost_between_processes() -> None:
    in_processes(4, _count, "sk-count", 10)
    assert Cache(config_from(password="sk-count")).read().failures == 40


def test_no_change_is_lost_between_threads() -> None:
    in_threads(8, lambda _: _count("sk-count", 10))
    assert Cache(config_from(password="sk-count")).read().failures == 80


def test_the_file_is_json_behind_its_signature(warm: Simulator) -> None:
    mac, _, payload = file_of(warm).read_text().partition(" ")
    assert len(mac) == 64
    assert [base["api"] for base in json.loads(payload)["bases"]] == warm.base_urls


# --- Shared by the deployment ---------------------------------------------------------------------------


class Variable:
    """The store of a whole deployment, in a list; it may refuse."""

    def __init__(self) -> None:
        self.text: str | None = None
        self.refuses = False
        self.asked = 0

    def store(self, name: str) -> Variable:
        return self

    def read(self) -> str | None:
        self.asked += 1
        return self.text

    def write(self, text: str) -> None:
        self.asked += 1
        if self.refuses:
            raise RuntimeError("the API server is down")
        self.text = text


def use_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir(exist_ok=True)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / name))


def shared_client(sim: Simulator, variable: Variable, now: Callable[[], float] = time.time) -> CloseAIClient:
    config = config_of(sim, connect_timeout=0.3)
    return CloseAIClient(config, store=variable.store, clock=clock_with(now=now))


def test_what_one_host_learned_the_others_need_not_ask(
    sim: Simulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    variable = Variable()
    for name in ("a", "b", "c"):
        use_host(monkeypatch, tmp_path, name)
        shared_client(sim, variable).check_health()
        list(shared_client(sim, variable).iter_sub_accounts())
    assert (sim.count("links"), sim.count("healthy")) == (1, 2)


def test_a_variable_that_refuses_costs_one_write_of_the_whole_host(sim: Simulator) -> None:
    variable = Variable()
    variable.refuses = True
    shared_client(sim, variable).check_health()
    asked = variable.asked
    for _ in range(10):
        shared_client(sim, variable).check_health()  # as other processes: nothing is kept but the file
        list(shared_client(sim, variable).iter_sub_accounts())
    assert variable.asked == asked, "it is left alone"
    assert (sim.count("links"), sim.count("healthy")) == (1, 2)
    shared_client(sim, variable).refresh_bases()
    assert variable.asked == asked, "though discovery has been asked again"
    later = time.time() + 301
    variable.refuses = False
    shared_client(sim, variable, now=lambda: later).check_health()
    assert variable.text is not None


def test_a_base_that_one_host_cannot_reach_serves_the_others(
    sim: Simulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clock: Clock
) -> None:
    """For host A the first base is a black hole. B is not moved off it for good, and A not back onto it."""
    variable, first = Variable(), sim.base_urls[0]

    def turn(name: str) -> str:
        use_host(monkeypatch, tmp_path, name)
        sim.swallow_base(0) if name == "a" else sim.start_base(0)
        client = shared_client(sim, variable, clock)
        before = len(sim.requests)
        list(client.iter_sub_accounts())
        return next(request.host for request in sim.requests[before:] if request.call == "list")

    turn("b")
    assert turn("a") == "base-0" or variable.text is not None
    served = []
    for _ in range(40):
        clock.now += 100
        served.append((turn("a"), turn("b")))
    on_a, on_b = [one for one, _ in served], [other for _, other in served]
    assert set(on_a[5:]) == {"base-1"}
    assert on_b[20:].count("base-0") > 15
    assert first in {base.api for base in shared_client(sim, variable, clock).list_bases()}


def test_a_clock_that_is_ahead_makes_nobody_ask_anew(
    sim: Simulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clock: Clock
) -> None:
    variable = Variable()
    clocks: dict[str, Callable[[], float]] = {"a": lambda: clock.now + 600, "b": clock}
    for _ in range(5):
        for name, now in clocks.items():
            use_host(monkeypatch, tmp_path, name)
            shared_client(sim, variable, now).check_health()
        clock.now += 50
    assert sim.count("links") == 1
    assert sim.count("healthy") <= 4, "a probe of each base by each host, no more"
