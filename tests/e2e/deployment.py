"""A real Airflow for tests: scheduler with LocalExecutor, API server, triggerer, a database of its own."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import random
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import requests

HANG = 600  # seconds after which waiting for Airflow counts as hanging: on shared cores it may take minutes
_POLL = 0.1
#: What the machine says to Airflow stays outside.
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "VIRTUAL_ENV")

#: Those that have been started and not stopped yet.
STARTED: list[Deployment] = []


def wait_until(check: Callable[[], Any], what: str, seconds: float = HANG) -> Any:
    """Poll until something is true; gives it. Where it never is, each Airflow tells what it does instead."""
    end = time.monotonic() + seconds
    try:
        while not (found := check()):
            assert time.monotonic() < end, f"{what}: not within {seconds} s, load average {os.getloadavg()}"
            time.sleep(_POLL)
    except AssertionError as problem:
        for airflow in STARTED:
            problem.add_note(airflow.what_it_does())
        raise
    return found


def free_ports(number: int) -> list[int]:
    """Give free ports in a row, from below those that systems and simulators choose."""
    while True:
        first = random.randrange(10_000, 20_000 - number)
        found = list(range(first, first + number))
        with contextlib.suppress(OSError), contextlib.ExitStack() as held:
            for port in found:
                held.enter_context(socket.create_server(("127.0.0.1", port)))
            return found


def end_kept(keeper: subprocess.Popen[bytes]) -> None:
    """End all that a keeper keeps."""
    assert keeper.stdin is not None
    keeper.stdin.close()
    keeper.wait(HANG)


class Deployment:
    """
    One Airflow in one folder.

    :param home: the folder: configuration, database, logs, DAGs, temporary files.
    :param environment: connections and Variables.
    :param users: their roles by name, ``admin`` among them; a name is its own password. Default: everybody is
        an admin.
    """

    restarts = False  # whether a process that exits is started again

    def __init__(
        self, home: Path, environment: Mapping[str, str], users: Mapping[str, str] | None = None
    ) -> None:
        self.home = home
        self.users = users
        self.dags = home / "dags"
        self.temporary = home / "tmp"
        self.fernet_key = base64.urlsafe_b64encode(os.urandom(32)).decode()
        self._keeper: subprocess.Popen[bytes] | None = None
        self._session = requests.Session()
        self._session.trust_env = False
        self._port, self._execution_port, *log_ports = free_ports(4)
        self.url = f"http://127.0.0.1:{self._port}"
        self.has_state_store = False
        for directory in (self.dags, self.temporary):
            directory.mkdir(parents=True)
        self.environment = {
            **{name: os.environ[name] for name in _KEPT if name in os.environ},
            "NO_PROXY": "127.0.0.1,localhost",
            "PYTHONDONTWRITEBYTECODE": "1",  # a key that a user wrote into a DAG file would be in its .pyc
            "TMPDIR": str(self.temporary),
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.dags),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": "6",
            "AIRFLOW__CORE__FERNET_KEY": self.fernet_key,
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY": "1",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": str(users is None),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{self._execution_port}/execution/",
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API__SECRET_KEY": os.urandom(16).hex(),
            "AIRFLOW__API_AUTH__JWT_SECRET": os.urandom(32).hex(),
            "AIRFLOW__API__EXPOSE_CONFIG": "True",
            "AIRFLOW__API__MAXIMUM_PAGE_LIMIT": "100000",
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "DEBUG",
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(log_ports[0]),
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(log_ports[1]),
            # Readers do not block the writer (see start), and a writer waits for the one before it.
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db?timeout=30",
            "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
            **environment,
        }
        if users is not None:
            passwords = home / "passwords.json"
            passwords.write_text(json.dumps({name: name for name in users}))
            roles = ",".join(f"{name}:{role}" for name, role in users.items())
            self.environment["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"] = str(passwords)
            self.environment["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"] = roles

    def start(self) -> None:
        """Migrate, store the DAGs, start the processes."""
        for name, *arguments in (("migrate", "db", "migrate"), ("reserialize", "dags", "reserialize")):
            with open(self.home / f"{name}.log", "wb") as output:
                done = subprocess.run(
                    [sys.executable, "-m", "airflow", *arguments],
                    env=self.environment,
                    cwd=self.home,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    timeout=HANG,
                )
            assert done.returncode == 0, (self.home / f"{name}.log").read_text()[-4000:]
        self._tune_database()
        STARTED.append(self)
        self._keeper = self.keep("processes", self._parts())
        self.wait_until_ready()

    def _tune_database(self) -> None:
        with contextlib.closing(sqlite3.connect(self.home / "airflow.db")) as database:
            database.execute("PRAGMA journal_mode=WAL")  # readers do not block the writer

    def _parts(self) -> dict[str, list[str]]:
        """Give the command of each part."""
        # Two API servers: the core's writes in its event loop, where it may wait for a write of the execution
        # API whose end needs the same loop.
        parts = {
            "api-core": ("api-server", "--apps", "core", "--port", str(self._port)),
            "api-execution": ("api-server", "--apps", "execution", "--port", str(self._execution_port)),
            "scheduler": ("scheduler",),
            "triggerer": ("triggerer",),
        }
        return {name: [sys.executable, "-m", "airflow", *arguments] for name, arguments in parts.items()}

    def keep(self, plan: str, commands: Mapping[str, Sequence[str]]) -> subprocess.Popen[bytes]:
        """Start processes, which end with this one."""
        file = self.home / f"{plan}.json"
        file.write_text(json.dumps([{"name": name, "command": commands[name]} for name in commands]))
        options = ["--restart"] if self.restarts else []
        return subprocess.Popen(
            [sys.executable, Path(__file__).with_name("keeper.py"), file.name, *options],
            env=self.environment,
            cwd=self.home,
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def wait_until_ready(self) -> None:
        """Wait until all parts answer and are healthy; logs in anew."""
        plan = json.loads((self.home / "processes.json").read_text())
        wait_until(lambda: self._is_ready(len(plan)), "Airflow is ready")

    def stop(self) -> None:
        """End every process."""
        if self._keeper is not None:
            STARTED.remove(self)
            end_kept(self._keeper)
        self._session.close()

    def _is_ready(self, processes: int) -> bool:
        assert self._keeper is not None
        assert self._keeper.poll() is None, "the keeper of Airflow's processes has ended"
        children = psutil.Process(self._keeper.pid).children()
        assert not any(child.status() == psutil.STATUS_ZOMBIE for child in children), "a process has ended"
        if len(children) < processes:
            return False
        try:
            self._session.headers["Authorization"] = f"Bearer {self.token()}"
            health = self.get("monitor/health")
            execution = f"http://127.0.0.1:{self._execution_port}/execution/health"
            self._session.get(execution, timeout=10).raise_for_status()
        except (requests.RequestException, KeyError, AssertionError):
            return False
        return all(health[part]["status"] == "healthy" for part in ("scheduler", "triggerer"))

    def what_it_does(self) -> str:
        """Give the states of the newest tasks, and the end of what each process said."""
        told = [f"In {self.home}:"]
        with contextlib.suppress(requests.RequestException, AssertionError):
            newest = "dags/~/dagRuns/~/taskInstances?limit=40&order_by=-id"
            for task in self.get(newest)["task_instances"]:
                name = f"{task['dag_id']}.{task['task_id']} {task['dag_run_id']}"
                told.append(f"{name}: {task['state']} {task['try_number']}")
        for log in sorted(self.home.glob("*.log")):
            told += [f"--- {log.name}", log.read_text(errors="replace")[-800:]]
        return "\n".join(told)

    def token(self, name: str = "admin") -> str:
        """Log a user in."""
        method, body = ("GET", None) if self.users is None else ("POST", {"username": name, "password": name})
        answer = self._session.request(method, f"{self.url}/auth/token", json=body, timeout=10)
        return str(answer.json()["access_token"])

    def call(self, method: str, path: str, body: Any = None) -> requests.Response:
        """
        Call the REST API; again, where SQLite was locked, since two requests may wait for each other's write,
        and where the server cut the connection.

        What was done by the first time then answers 409.
        """
        for repeats_left in reversed(range(10)):
            try:
                answer = self._session.request(method, f"{self.url}/api/v2/{path}", json=body, timeout=60)
            except requests.ConnectionError:
                if not repeats_left:
                    raise
                continue
            if answer.status_code != 500 or not repeats_left:
                break
        return answer

    def get(self, path: str) -> Any:
        """Read from the REST API."""
        answer = self.call("GET", path)
        assert answer.ok, f"{path}: {answer.status_code} {answer.text[:500]}"
        return answer.json()

    def trigger(self, dag_id: str, **conf: Any) -> Run:
        """Start a DAG run."""
        run_id = f"e2e-{uuid.uuid4()}"
        body = {"dag_run_id": run_id, "logical_date": None, "conf": conf}
        answer = self.call("POST", f"dags/{dag_id}/dagRuns", body)
        assert answer.ok or answer.status_code == 409, f"{dag_id}: {answer.status_code} {answer.text[:500]}"
        return Run(self, dag_id, run_id)

    def runs(self) -> list[Run]:
        """Give all DAG runs, those of a schedule too."""
        found = self.get("dags/~/dagRuns?limit=100000")["dag_runs"]
        return [Run(self, run["dag_id"], run["dag_run_id"]) for run in found]

    def client_of(self, ports: set[int]) -> psutil.Process:
        """Give the one process of this Airflow that is connected to one of the ports."""
        assert self._keeper is not None
        found = []
        for process in psutil.Process(self._keeper.pid).children(recursive=True):
            try:
                connections = process.net_connections("tcp")
            except psutil.NoSuchProcess:
                continue
            for connection in connections:
                if connection.status == psutil.CONN_ESTABLISHED and connection.raddr.port in ports:
                    found.append(process)
                    break
        assert len(found) == 1, f"one task was expected to be connected, these were: {found}"
        return found[0]

    def kill(self, part: str) -> None:
        """Kill one of the processes, with all that belong to it."""
        assert self._keeper is not None
        children = psutil.Process(self._keeper.pid).children()
        (process,) = (child for child in children if part in " ".join(child.cmdline()))
        family = [process, *process.children(recursive=True)]
        for each in family:
            each.kill()
        psutil.wait_procs(family[1:], timeout=HANG)


class Run:
    """One DAG run, seen over the REST API."""

    def __init__(self, airflow: Deployment, dag_id: str, run_id: str) -> None:
        self.airflow, self.dag_id, self.run_id = airflow, dag_id, run_id
        self.path = f"dags/{dag_id}/dagRuns/{quote(run_id, safe='')}"

    @property
    def state(self) -> str:
        return str(self.airflow.get(self.path)["state"])

    def tasks(self) -> list[dict[str, Any]]:
        """Give its task instances as the API has them."""
        found: list[dict[str, Any]] = self.airflow.get(f"{self.path}/taskInstances?limit=100000")
        return found["task_instances"]  # type: ignore[call-overload,no-any-return]

    def task(self, task_id: str = "create") -> dict[str, Any]:
        return next(task for task in self.tasks() if task["task_id"] == task_id)

    def outcome(self, task_id: str = "create") -> str:
        """Give a task's state and the number of its tries: ``success 2``."""
        task = self.task(task_id)
        return f"{task['state']} {task['try_number']}"

    def ended(self, seconds: float = HANG) -> str:
        """Wait for its end; gives the state."""
        wait_until(lambda: self.state in ("success", "failed"), f"{self.dag_id} {self.run_id}", seconds)
        return self.state

    def log(self, task_id: str, number: int, map_index: int = -1) -> str:
        """Give the log of a try."""
        path = f"{self.path}/taskInstances/{task_id}/logs/{number}?map_index={map_index}&full_content=true"
        return self.airflow.call("GET", path).text

    def why(self) -> str:
        """Give the end of the last log of each task that did not succeed."""
        return "\n".join(
            f"--- {self.dag_id}.{task['task_id']} is {task['state']}\n"
            f"{self.log(task['task_id'], task['try_number'], task['map_index'])[-3000:]}"
            for task in self.tasks()
            if task["state"] not in ("success", "skipped")
        )

    def xcom(self, task_id: str = "create", key: str = "return_value") -> Any:
        return self.airflow.get(f"{self.path}/taskInstances/{task_id}/xcomEntries/{key}?deserialize=false")[
            "value"
        ]

    def journal(self, task_id: str = "create") -> dict[str, Any]:
        """Give the one entry of a task's state store (Airflow 3.3)."""
        found = self.airflow.get(f"{self.path}/taskInstances/{task_id}/state-store")
        (entry,) = found["task_state_store"]
        return dict(json.loads(entry["value"]))


@contextlib.contextmanager
def running(
    environment: Mapping[str, str], *dags: str, users: Mapping[str, str] | None = None
) -> Iterator[Deployment]:
    """
    Run an Airflow in a folder that goes with it.

    :param environment: as for :class:`Deployment`.
    :param dags: names of files in ``dags/`` that it has.
    :param users: as for :class:`Deployment`.
    """
    home = Path(tempfile.mkdtemp(prefix="closeai-e2e-"))
    airflow = Deployment(home / "airflow", environment, users)
    for name in dags:
        shutil.copy(Path(__file__).parent / "dags" / name, airflow.dags)
    try:
        airflow.start()
        yield airflow
    finally:
        airflow.stop()
        shutil.rmtree(home, ignore_errors=True)
