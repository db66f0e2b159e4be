"""Tasks in pods: each alone with a read-only root, a /tmp of its own, and no home."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow_cell import AIRFLOW, everything_stored

from airflow_provider_closeai.simulator import Simulator

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
# Whatever a pod starts ends with it, also where it is killed because it hangs.
UNSHARE = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
LONGEST = 300  # seconds for a pod; all seven of them take a minute or two on two quiet cores

pytestmark = pytest.mark.e2e

TASKS = ("sense", "create", "create", "reprice", "list", "delete")


@pytest.fixture
def pods() -> Iterator[Path]:
    """Give the folder of the pods' /tmp, or skip where this machine has no mounts for a process alone."""
    probe = subprocess.run([*UNSHARE, "mount", "--make-rprivate", "/"], capture_output=True)
    if probe.returncode:
        give_up = pytest.fail if os.environ.get("CLOSEAI_SKIP_NOTHING") else pytest.skip
        give_up("this machine lets no process have mounts of its own (unshare)")
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder)


def in_pod(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = f"{ROOT}:{os.environ['AIRFLOW_HOME']}"
    return subprocess.run(
        [*UNSHARE, sys.executable, str(HERE / "pod.py"), str(folder), kept, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=LONGEST,
    )


def test_each_task_in_a_pod_of_its_own(sim: Simulator, pods: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What pods share is in Airflow's database: discovery is asked once for all of them."""
    fields = {**sim.connection(), "extra": {"max_late": 0.1, "cache": "variable"}}
    monkeypatch.setenv("AIRFLOW_CONN_CLOSEAI_DEFAULT", json.dumps(fields))
    results: list[Any] = []
    for task in TASKS:
        done = in_pod(pods, str(HERE / "pod_task.py"), task)
        output = done.stdout + done.stderr
        assert done.returncode == 0, output[-3000:]
        (line,) = [each for each in output.splitlines() if each.startswith("POD ")]
        state, result, kept, may_write = json.loads(line.removeprefix("POD "))
        assert (state, may_write) == ("success", False), output[-3000:]
        assert all(place.startswith("/tmp/airflow-provider-closeai-") for place in kept)  # noqa: S108
        assert sim.key not in output
        results.append(result)

    sensed, created, again, repriced, listed, deleted = results
    assert sensed == sim.base_urls[0]
    assert len(created) == 2
    assert [record["id"] for record in created] == [record["id"] for record in again]
    assert repriced == listed
    assert [record["id"] for record in deleted] == [record["id"] for record in created]
    assert sim.accounts("team") == []
    assert (sim.count("create"), sim.count("links")) == (1, 1)
    assert everything_stored().count("variable: closeai_bases_") == 1


@pytest.mark.skipif(AIRFLOW < (3, 3), reason="once is enough")
def test_provisioning_and_the_hook_in_a_pod(pods: Path) -> None:
    """The suite's own tests."""
    suites = ("provisioning/test_runner.py", "airflow/test_hook.py", "airflow/test_cache_variable.py")
    options = ("-p", "no:cacheprovider", "-n0", "-q")
    done = in_pod(pods, "-m", "pytest", *options, *(f"tests/{suite}" for suite in suites))
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout
