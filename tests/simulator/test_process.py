"""The simulator as a program, and as fixtures of pytest."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import shlex
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from airflow_provider_closeai.simulator import Simulator

LIST = "/api/v1/account/sub-account/list"
PROGRAM = [sys.executable, "-m", "airflow_provider_closeai.simulator"]


def get(origin: str, path: str, key: str) -> Any:
    connection = http.client.HTTPConnection(urlsplit(origin).netloc, timeout=10)
    connection.request("GET", path, headers={"Authorization": f"Bearer {key}"})
    answer = connection.getresponse()
    assert answer.status == 200
    found = json.loads(answer.read())
    connection.close()
    return found


@contextlib.contextmanager
def program(*options: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """Run the program until it serves; gives the process and the connection that it prints."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    process = subprocess.Popen(
        [*PROGRAM, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    watchdog = threading.Timer(60, process.kill)  # a line that does not come must not hang the tests
    watchdog.start()
    try:
        assert process.stdout
        assert process.stderr
        line = process.stdout.readline()
        assert line, process.stderr.read()
        word, assignment = shlex.split(line)
        name, _, text = assignment.partition("=")
        assert (word, name) == ("export", "AIRFLOW_CONN_CLOSEAI_DEFAULT")
        yield process, json.loads(text)
    finally:
        watchdog.cancel()
        process.kill()
        process.communicate()


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_the_program(end: signal.Signals) -> None:
    with program("--bases", "3", "--accounts", "12", "--seed", "7") as (process, connection):
        assert (connection["conn_type"], connection["password"]) == ("closeai", Simulator(seed=7).key)
        links = get(connection["host"], "/api/v1/links", connection["password"])
        assert len(links) == 3
        listing = get(links[2]["api"], LIST, connection["password"])
        assert (listing["total"], listing["items"][0]["alias"]) == (12, "account-00001")
        process.send_signal(end)
        output, help_text = process.communicate(timeout=10)
    assert process.returncode == 0, help_text
    assert output == ""
    assert help_text.count("  curl ") == 4
    assert "_simulator/faults" in help_text
    assert all(link["api"] in help_text for link in links)
    assert "Traceback" not in help_text


def refused(*options: str) -> str:
    done = subprocess.run([*PROGRAM, *options], capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert (done.stdout, "Traceback" in done.stderr) == ("", False)
    return done.stderr


def test_a_taken_port(sim: Simulator) -> None:
    port = str(urlsplit(sim.discovery_url).port)
    told = refused("--port", port)
    assert told.startswith("cannot start:")
    assert f"127.0.0.1:{port} (discovery): Address already in use; end the program" in told


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--port", "65535"], "port must be from 1 to 65533: each base takes the next one"),
        (["--speed", "nan"], "speed must be from 0 to 1000000"),
        (["--state", "/no/such/folder/state.json"], "state.json does not exist"),
        *(
            pytest.param(*each, marks=pytest.mark.slow)
            for each in [
                (["--port", "-1"], "port must be from 1 to 65533"),
                (["--speed", "-1"], "speed must be from 0 to 1000000"),
                (["--bases", "0"], "bases must be from 1 to 100"),
                (["--bases", "100000"], "bases must be from 1 to 100"),
                (["--state", "/"], "the state file / is a directory"),
                (["--state", ""], "is a directory"),
                (["--state=~/no/such/state.json"], "/no/such/state.json does not exist"),
                (["--time-scale", "60"], "unrecognized arguments"),
            ]
        ),
    ],
    ids=str,
)
def test_options_that_cannot_be(options: list[str], words: str) -> None:
    assert words in refused(*options)


def post(origin: str, path: str, key: str, body: Any) -> Any:
    connection = http.client.HTTPConnection(urlsplit(origin).netloc, timeout=10)
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    connection.request("POST", path, json.dumps(body), headers)
    answer = connection.getresponse()
    found = json.loads(answer.read())
    assert answer.status == 200, found
    connection.close()
    return found


def create(origin: str, key: str, alias: str) -> dict[str, Any]:
    pricing = [{"model": "gpt-4o", "pricing_factor": 0.5}]
    body = {"alias": alias, "balance": 10, "model_pricing": pricing}
    [made] = post(origin, "/api/v1/account/sub-account/token", key, body)["items"]
    found: dict[str, Any] = made
    return found


def test_the_clock_runs_and_costs_grow_by_themselves() -> None:
    with program("--speed", "3600") as (_, connection):
        key = connection["password"]
        base = get(connection["host"], "/api/v1/links", key)[0]["api"]
        made = create(base, key, "a")
        born = datetime.fromisoformat(made["created_at"])
        assert born.utcoffset() == timedelta(hours=8)
        assert abs(born - datetime.now(UTC)) < timedelta(hours=3600 * 60)
        until_true(lambda: Decimal(get(base, LIST, key)["items"][0]["monthly_cost"]) > 0)


def test_the_clock_is_this_machines_by_default() -> None:
    with program() as (_, connection):
        shown = [get(connection["host"], "/_simulator/state", "")["clock"] for _ in range(2)]
        assert abs(datetime.fromisoformat(shown[0]) - datetime.now(UTC)) < timedelta(seconds=30)
        assert shown[1] > shown[0]


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_an_afternoon(tmp_path: Path, end: signal.Signals) -> None:
    file = str(tmp_path / "afternoon.json")
    with program("--state", file, "--accounts", "2", "--speed", "3600") as (process, first):
        key = first["password"]
        links = get(first["host"], "/api/v1/links", key)
        made = [create(links[number % 2]["api"], key, f"a{number}") for number in range(3)]
        until_true(lambda: Decimal(get(links[0]["api"], LIST, key)["items"][-1]["monthly_cost"]) > 0)
        before = get(links[0]["api"], LIST, key)["items"]
        process.send_signal(end)
        process.wait(10)
    assert stat.S_IMODE(Path(file).stat().st_mode) == 0o600
    with program("--state", file, "--accounts", "2", "--speed", "3600") as (_, again):
        assert again == first
        assert get(first["host"], "/api/v1/links", key) == links
        after = get(links[1]["api"], LIST, key)["items"]
        assert [account["token"] for account in after[2:]] == [account["token"] for account in made]
        kept = ("id", "token", "alias", "model_pricing", "created_at", "updated_at")
        assert [[one[name] for name in kept] for one in after] == [
            [one[name] for name in kept] for one in before
        ]
        for one, other in zip(before, after, strict=True):
            assert Decimal(other["balance"]) <= Decimal(one["balance"])
        fresh = create(links[0]["api"], key, "new")
        assert fresh["id"] == 6
        assert fresh["token"] not in {account["token"] for account in after}


def test_fixed_ports() -> None:
    port = free_ports(3)
    for _ in range(2):
        with program("--port", str(port), "--bases", "2", "--seed", "1") as (process, connection):
            assert connection["host"] == f"http://127.0.0.1:{port}"
            links = get(connection["host"], "/api/v1/links", connection["password"])
            assert [link["api"] for link in links] == [f"http://127.0.0.1:{port + n}" for n in (1, 2)]
            process.kill()
            process.wait(10)


def free_ports(number: int) -> int:
    """Find so many free ports in a row, below those that systems and simulators choose."""
    while True:
        first = random.randrange(10_000, 20_000 - number)
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for port in range(first, first + number):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first


def until_true(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end


def test_two_simulators_do_not_share_a_state(tmp_path: Path) -> None:
    file = str(tmp_path / "state.json")
    with program("--state", file):
        told = refused("--state", file)
        assert "is used by another simulator: end that one, or name another file" in told


def test_a_port_of_the_state_that_is_taken(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    with program("--state", str(file)) as (process, _):
        process.terminate()
        process.wait(10)
    before = file.read_bytes()
    port = json.loads(before)["ports"][1]
    with socket.create_server(("127.0.0.1", port)):
        assert f"127.0.0.1:{port} (base-0): Address already in use" in refused("--state", str(file))
    assert file.read_bytes() == before


def test_the_ports_of_a_state_are_free_after_a_restart(tmp_path: Path) -> None:
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    with Simulator(20, state=tmp_path / "state.json") as sim:
        urls = [sim.discovery_url, *sim.base_urls]
        for _ in range(20):
            sim.move_bases()
            urls += sim.base_urls
        ports = {urlsplit(url).port for url in urls}
    assert len(ports) == len(urls) == 421  # the addresses that were left go to no other base
    assert all(port and port < lowest for port in ports)  # the system gives them to no connection that leaves


def test_the_connection_fixture(closeai_connection: Simulator) -> None:
    connection = json.loads(os.environ["AIRFLOW_CONN_CLOSEAI_DEFAULT"])
    assert connection == closeai_connection.connection()
    assert connection == {
        "conn_type": "closeai",
        "host": closeai_connection.discovery_url,
        "password": closeai_connection.key,
        "extra": {},
    }


def test_the_package_stands_alone() -> None:
    code = """
import sys
import airflow_provider_closeai.simulator.__main__
names = {name for name in sys.modules if name.startswith("airflow_provider_closeai.")}
print(sorted(name for name in names if not name.startswith("airflow_provider_closeai.simulator")))
print(sorted({"airflow", "requests", "urllib3", "msgspec", "tenacity", "pytest"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == "[]\n[]\n"


def test_the_plugin_imports_little() -> None:
    code = """
import sys
import airflow_provider_closeai.simulator.pytest_plugin
print("http.server" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == "False\n"
