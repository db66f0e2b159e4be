"""The simulator as a program, and as fixtures of pytest."""

from __future__ import annotations

import http.client
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from typing import Any
from urllib.parse import urlsplit

import pytest

from airflow_provider_closeai.simulator import Simulator

PROGRAM = [sys.executable, "-m", "airflow_provider_closeai.simulator"]


def get(origin: str, path: str, key: str) -> Any:
    connection = http.client.HTTPConnection(urlsplit(origin).netloc, timeout=10)
    connection.request("GET", path, headers={"Authorization": f"Bearer {key}"})
    answer = connection.getresponse()
    assert answer.status == 200
    found = json.loads(answer.read())
    connection.close()
    return found


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_the_program(end: signal.Signals) -> None:
    options = ["--bases", "3", "--accounts", "12", "--seed", "7", "--speed", "60"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    process = subprocess.Popen(
        [*PROGRAM, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    watchdog = threading.Timer(30, process.kill)  # a line that does not come must not hang the tests
    watchdog.start()
    try:
        assert process.stdout
        word, assignment = shlex.split(process.stdout.readline())
        name, _, text = assignment.partition("=")
        assert (word, name) == ("export", "AIRFLOW_CONN_CLOSEAI_DEFAULT")
        connection = json.loads(text)
        assert (connection["conn_type"], connection["password"]) == ("closeai", Simulator(seed=7).key)
        links = get(connection["host"], "/api/v1/links", connection["password"])
        assert len(links) == 3
        listing = get(links[2]["api"], "/api/v1/account/sub-account/list", connection["password"])
        assert (listing["total"], listing["items"][0]["alias"]) == (12, "account-00001")
        process.send_signal(end)
        output, help_text = process.communicate(timeout=10)
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
    assert process.returncode == 0, help_text
    assert output == ""
    assert help_text.count("  curl ") == 4
    assert "_simulator/faults" in help_text
    assert all(link["api"] in help_text for link in links)
    assert "Traceback" not in help_text


def test_a_taken_port(sim: Simulator) -> None:
    port = str(urlsplit(sim.discovery_url).port)
    done = subprocess.run([*PROGRAM, "--port", port], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("cannot start:")
    assert "Traceback" not in done.stderr


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
