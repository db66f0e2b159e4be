"""A real Airflow of two hosts: CeleryExecutor, PostgreSQL, Redis, and workers that share only a network."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import host
import psutil
import psycopg2
import pytest
import redis
import requests
from deployment import Deployment, Run, end_kept, free_ports, wait_until

ROOT = Path(__file__).resolve().parents[2]
HOSTS = ("host_a", "host_b")
CONCURRENCY = 4


def program(name: str) -> str:
    """Find a program, PostgreSQL's where Debian has them; without it nothing here can run."""
    places = [str(path) for path in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    found = shutil.which(name, path=os.pathsep.join([*places, os.environ["PATH"]]))
    assert found, f"{name} is missing: run `make test-celery`, which installs it"
    return found


class CeleryDeployment(Deployment):
    """
    One Airflow on two hosts.

    :param home: as for one host; the hosts' own folders are in it.
    :param environment: connections and Variables.
    :param ports: of the loopback that the hosts reach, too.
    :param swallowed: those among them that host_a does not reach.
    """

    restarts = True

    def __init__(
        self, home: Path, environment: Mapping[str, str], ports: Collection[int], swallowed: Collection[int]
    ) -> None:
        self._database_port, self._redis_port = free_ports(2)
        self.data = home.with_name(f"{home.name}-data")  # of another user
        address = f"127.0.0.1:{self._database_port}/airflow"
        super().__init__(
            home,
            {
                "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
                "AIRFLOW__CORE__PARALLELISM": "16",
                "AIRFLOW__CORE__HOSTNAME_CALLABLE": "socket.gethostname",
                "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2://airflow:airflow@{address}",
                "AIRFLOW__CELERY__BROKER_URL": f"redis://127.0.0.1:{self._redis_port}/0",
                "AIRFLOW__CELERY__RESULT_BACKEND": f"redis://127.0.0.1:{self._redis_port}/1",
                "AIRFLOW__CELERY__SYNC_PARALLELISM": "1",
                "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "600",
                # A host that is gone is noticed after seconds, and a refused write is given up after few.
                "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "2",
                "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
                "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
                "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
                "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "6",
                "AIRFLOW__WORKERS__EXECUTION_API_RETRIES": "2",
                "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "30",
                "AIRFLOW__WORKERS__EXECUTION_API_RETRY_WAIT_MAX": "1",
                "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "2",
                **environment,
            },
        )
        self.has_state_store = True
        self._services: subprocess.Popen[bytes] | None = None
        self._execution_port = self._port  # one API server is both
        self.environment["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] = f"{self.url}/execution/"
        self.isolated = host.may_isolate()
        self._reached = {*ports, self._port, self._database_port, self._redis_port}
        self._swallowed = set(swallowed)

    def start(self) -> None:
        """Start PostgreSQL and Redis, then Airflow."""
        self._services = self.keep("services", self._service_parts())
        wait_until(self._serves, "PostgreSQL and Redis answer")
        super().start()

    def stop(self) -> None:
        """End every process."""
        super().stop()
        if self._services is not None:
            end_kept(self._services)

    def _service_parts(self) -> dict[str, list[str]]:
        user = pwd.getpwnam("postgres")
        self.data.mkdir(mode=0o700)
        os.chown(self.data, user.pw_uid, user.pw_gid)
        as_user = [program("setpriv"), f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        initdb = [*as_user, program("initdb"), "-D", str(self.data), "-U", "airflow", "-A", "trust", "-N"]
        subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, cwd="/")
        settings = {
            "port": self._database_port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "off",
            "max_connections": 200,
            "log_statement": "all",
            "wal_level": "logical",  # whole rows in the log
        }
        options = [each for name, value in settings.items() for each in ("-c", f"{name}={value}")]
        folder = self.home / "redis"
        folder.mkdir()
        return {
            "postgres": [*as_user, program("postgres"), "-D", str(self.data), *options],
            "redis": [program("redis-server"), "--port", str(self._redis_port), "--bind", "127.0.0.1",
                      "--dir", str(folder), "--appendonly", "yes"],
        }  # fmt: skip

    def _serves(self) -> bool:
        with contextlib.suppress(psycopg2.Error, redis.ConnectionError):
            self.redis.ping()
            with contextlib.suppress(psycopg2.errors.DuplicateDatabase):
                self.sql("CREATE DATABASE airflow", database="postgres")
            return True
        return False

    @property
    def redis(self) -> redis.Redis:
        """Redis, as the executor has it."""
        return redis.Redis(port=self._redis_port)

    def sql(
        self, statement: str, values: Sequence[Any] = (), database: str = "airflow"
    ) -> list[tuple[Any, ...]]:
        """Run a statement in Airflow's database; gives the rows."""
        address = {"host": "127.0.0.1", "port": self._database_port, "user": "airflow", "dbname": database}
        with contextlib.closing(psycopg2.connect(**address)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement, values)
                return list(cursor.fetchall()) if cursor.description else []

    def dump(self) -> bytes:
        """Give pg_dump's text of all databases."""
        command = [program("pg_dumpall"), "-h", "127.0.0.1", "-p", str(self._database_port), "-U", "airflow"]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout

    def _tune_database(self) -> None:
        pass

    def _parts(self) -> dict[str, list[str]]:
        python = [sys.executable, "-m", "airflow"]
        return {
            "api-server": [*python, "api-server", "--port", str(self._port)],
            "scheduler": [*python, "scheduler"],
            "dag-processor": [*python, "dag-processor"],
            "triggerer": [*python, "triggerer", "--capacity", "1000"],
            **{name: self._worker(name) for name in HOSTS},
        }

    def _worker(self, name: str) -> list[str]:
        folder = self.home / name
        for part in ("tmp", "home"):
            (folder / part).mkdir(parents=True)
        own = {
            "HOME": folder / "home",
            "TMPDIR": folder / "tmp",
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": folder / "logs",
        }
        worker = ["env", *(f"{key}={value}" for key, value in own.items())]
        worker += [sys.executable, "-m", "airflow", "celery", "worker"]
        worker += ["--queues", f"{name},default", "--celery-hostname", f"worker@{name}"]
        worker += [
            "--concurrency",
            str(CONCURRENCY),
            "--skip-serve-logs",
            "--without-gossip",
            "--without-mingle",
        ]
        if not self.isolated:
            return worker
        swallowed = self._swallowed if name == HOSTS[0] else ()
        enter = [
            sys.executable,
            host.__file__,
            name.replace("_", "-"),
            str(folder / "tmp"),
            f"{ROOT}:{self.home}",
        ]
        return [*enter, *(",".join(map(str, ports)) for ports in (self._reached, swallowed)), *worker]

    def _is_ready(self, processes: int) -> bool:
        assert self._keeper is not None
        assert self._keeper.poll() is None, "the keeper of Airflow's processes has ended"
        try:
            answer = self._session.get(f"{self.url}/auth/token", timeout=10)
            self._session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
            health = self.get("monitor/health")
        except (requests.RequestException, KeyError, AssertionError):
            return False
        parts = ("scheduler", "triggerer", "dag_processor")
        return all(health[part]["status"] == "healthy" for part in parts) and all(map(self.is_up, HOSTS))

    def is_up(self, name: str) -> bool:
        """Tell whether the worker of a host has all its processes."""
        return len(self.processes(name)) > CONCURRENCY

    def processes(self, name: str = "") -> list[psutil.Process]:
        """Give the processes of a host, or of all of Airflow, orphans too."""
        assert self._keeper is not None
        keeper = psutil.Process(self._keeper.pid)
        if not name:
            return list(keeper.children(recursive=True))
        found: set[psutil.Process] = set()
        for child in keeper.children():
            with contextlib.suppress(psutil.NoSuchProcess):  # as a zombie counts
                if f"worker@{name}" in child.cmdline():
                    found |= {child, *child.children(recursive=True)}
        networks = {network_of(each) for each in found} - {network_of(keeper), ""}
        return [*found, *(each for each in keeper.children() if network_of(each) in networks)]

    def client_of(self, ports: set[int]) -> psutil.Process:
        """Give the one process of the hosts that is connected to one of the ports."""
        machine = network_of(psutil.Process())
        found = [
            process
            for process in self.processes()
            if ports & set(peers(process)) and not (self.isolated and network_of(process) == machine)
        ]
        assert len(found) == 1, f"one task was expected to be connected, these were: {found}"
        return found[0]

    def kill_host(self, name: str) -> None:
        """Kill all processes of a host, as when its power fails; it starts again by itself."""
        for process in self.processes(name):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def kill_part(self, name: str) -> None:
        """Kill a part of Airflow with all that it started; it starts again by itself."""
        assert self._keeper is not None
        for process in psutil.Process(self._keeper.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if name in process.cmdline():
                    for each in [*process.children(recursive=True), process]:
                        each.kill()

    def move(self, run: Run, name: str, task_id: str = "create") -> None:
        """Let the next try of a task be on this host."""
        self.sql(
            "UPDATE task_instance SET queue = %s WHERE dag_id = %s AND run_id = %s AND task_id = %s",
            (name, run.dag_id, run.run_id, task_id),
        )

    @contextlib.contextmanager
    def refusing_variables(self) -> Iterator[None]:
        """Let every write of a Variable fail, as the API server sees it."""
        self.sql(
            "CREATE FUNCTION refuse() RETURNS trigger AS "
            "$$ BEGIN RAISE EXCEPTION 'refused by the test'; END $$ LANGUAGE plpgsql"
        )
        self.sql("CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON variable EXECUTE FUNCTION refuse()")
        try:
            yield
        finally:
            self.sql("DROP FUNCTION refuse CASCADE")


def network_of(process: psutil.Process) -> str:
    """Tell in which network a process is; empty where it has ended."""
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/{process.pid}/ns/net")
    return ""


def peers(process: psutil.Process) -> Iterator[int]:
    """Give the ports that a process is connected to, in its own network."""
    established = "01"
    with contextlib.suppress(OSError):
        links = [os.readlink(each) for each in Path(f"/proc/{process.pid}/fd").iterdir()]
        for line in Path(f"/proc/{process.pid}/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == established and f"socket:[{fields[9]}]" in links:
                yield int(fields[2].rpartition(":")[2], 16)


def skip_where_hosts_share(airflow: CeleryDeployment) -> None:
    """Skip what needs a network for each host, or fail where nothing may be skipped."""
    if not airflow.isolated:
        give_up = pytest.fail if os.environ.get("CLOSEAI_SKIP_NOTHING") else pytest.skip
        give_up("this machine lets no process have a network of its own (unshare)")
