"""The roster's part of ``make demo``: what happens around its DAG, and what must be true afterwards."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests

from airflow_provider_closeai.simulator import Request, Simulator

DAG = "closeai_demo_roster"
BACKEND = "airflow.providers.amazon.aws.secrets.secrets_manager.SecretsManagerBackend"
ROSTER = {
    "version": 1,
    "owns": ["team-*"],
    "defaults": {
        "balance": 100,
        "model_pricing": {"gpt-4o": 1, "gpt-4o-mini": "0.1"},
        "rotate": {"every": "90d", "grace": "7d"},
    },
    "accounts": [
        {"alias": "team-ads", "team": "Ads", "budget": "0.01", "over_budget": {"gpt-4o-mini": "0.1"}},
        {"alias": "team-search", "team": "Search"},
    ],
}
STORY = {
    "plan": "a roster of two teams is planned: nothing is changed",
    "apply": "a person said yes over REST: it is applied, the keys delivered",
    "cut": "team-ads has spent 0.02 of 0.01: cut to gpt-4o-mini",
    "restored": "its budget was raised in the file: restored",
    "replace": "91 days later: new keys beside the old ones, delivered",
    "remove": "a week later the old ones go",
}


class RosterDemo:
    """Everything that the second DAG needs.

    :param home: the demo's Airflow home.
    :param env: the environment of its processes.
    """

    def __init__(self, home: Path, env: Mapping[str, str]) -> None:
        self.home = home
        self.simulator = Simulator(bases=2, start=datetime.now(UTC), speed=1)
        self.tokens: set[str] = set()
        self.simulator.on_request = self._note
        self.accounts_before_yes = -1
        self.approval = ""
        self.client: dict[str, int] = {}
        self._is_over = threading.Event()
        (home / "roster.json").write_text(json.dumps(ROSTER))
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._env = dict(env)

    @contextlib.contextmanager
    def running(self) -> Iterator[dict[str, str]]:
        """Start the platform, a store for secrets, Airflow's API server, and a team's service."""
        from moto.server import ThreadedMotoServer

        logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each request
        store = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        store.start()
        host, port = store.get_host_and_port()
        place = {"endpoint_url": f"http://{host}:{port}", "region_name": "eu-central-1"}
        aws = {"conn_type": "aws", "login": "demo", "password": "demo", "extra": place}
        options = {**place, "connections_lookup_pattern": "^openai-", "variables_prefix": None}
        env = {
            **self._env,
            "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(aws),
            "AWS_ACCESS_KEY_ID": "demo",
            "AWS_SECRET_ACCESS_KEY": "demo",
            "AIRFLOW__SECRETS__BACKEND": BACKEND,
            "AIRFLOW__SECRETS__BACKEND_KWARGS": json.dumps(options),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__API__WORKERS": "1",
            "CLOSEAI_DEMO_ROSTER": str(self.home / "roster.json"),
            "CLOSEAI_DEMO_LEDGER": str(self.home / "ledger"),
        }
        client = Path(__file__).with_name("demo_client.py")
        server = [
            "-m",
            "airflow",
            "api-server",
            "--apps",
            "core",
            "--host",
            "127.0.0.1",
            "--port",
            str(self.port),
        ]
        with self.simulator, open(self.home / "demo.log", "ab") as log:
            env["AIRFLOW_CONN_CLOSEAI_ROSTER"] = json.dumps(self.simulator.connection())
            env["CLOSEAI_DEMO_ROSTER_CONTROL"] = self.simulator.discovery_url
            pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": log}
            service = subprocess.Popen([sys.executable, client], env=env, **pipes)
            airflow = subprocess.Popen([sys.executable, *server], env=env, stdout=log, stderr=log)
            try:
                threading.Thread(target=self._approve, daemon=True).start()
                yield env
                said = service.communicate(b"\n", timeout=60)[0].decode().splitlines()
                self.client = json.loads(said[-1])
            finally:
                self._is_over.set()
                for process in (service, airflow):
                    process.terminate()
                    process.wait(30)
                store.stop()

    def _approve(self) -> None:
        """Say yes as a person does: look at the question, and answer it over Airflow's REST API."""
        url = f"http://127.0.0.1:{self.port}"
        session = requests.Session()
        session.trust_env = False
        while not self._is_over.wait(0.5):
            with contextlib.suppress(requests.RequestException, KeyError, ValueError):
                if "Authorization" not in session.headers:
                    token = session.get(f"{url}/auth/token", timeout=10).json()["access_token"]
                    session.headers["Authorization"] = f"Bearer {token}"
                asked = f"{url}/api/v2/dags/~/dagRuns/~/hitlDetails?response_received=false"
                for question in session.get(asked, timeout=10).json()["hitl_details"]:
                    task = question["task_instance"]
                    if task["state"] not in ("awaiting_input", "deferred"):
                        continue  # answered before it waits, it would wait for ever
                    run = f"{url}/api/v2/dags/{DAG}/dagRuns/{quote(task['dag_run_id'])}"
                    self.accounts_before_yes = len(self.simulator.accounts())
                    answer = session.patch(
                        f"{run}/taskInstances/approve/-1/hitlDetails",
                        json={"chosen_options": ["Approve"], "params_input": {}},
                        timeout=10,
                    )
                    if answer.ok:
                        self.approval = str(question["body"])
                        return

    def checks(self, results: Mapping[str, Any]) -> Iterator[tuple[str, bool, str]]:
        """Say what must be true now.

        :param results: what the tasks returned.
        """
        made = [request for request in self.simulator.requests if request.call == "create"]
        is_shown = "2 to create" in self.approval
        yield (
            "approval",
            is_shown and self.accounts_before_yes == 0,
            f"the form showed the plan; {self.accounts_before_yes} keys before the yes, 2 after it",
        )
        codes = [results.get("spend"), *results.get("refused", []), results.get("served")]
        yield (
            "budget",
            codes == ["200", "403", "200", "200"],
            f"gpt-4o {codes[0]}, over budget {codes[1]} (gpt-4o-mini {codes[2]}), raised {codes[3]}",
        )
        served, failed, keys = (self.client.get(name, 0) for name in ("served", "failed", "keys"))
        left = [account["id"] for account in self.simulator.accounts()]
        yield (
            "rotation",
            (failed, keys, left) == (0, 2, [3, 4]) and len(made) == 4 and served > 0,
            f"team-search's service made {served} calls with {keys} keys, {failed} failed",
        )

    def _note(self, request: Request) -> None:
        self.tokens.update(account["token"] for account in self.simulator.accounts())
