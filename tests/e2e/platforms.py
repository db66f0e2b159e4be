"""Simulated platforms that note every key they ever issue, and that can kill their client."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

from airflow_provider_closeai.simulator import Request, Simulator


class Platform:
    """
    A simulator, and the Airflow connection that leads to it.

    :param connection: the connection's id.
    :param extra: of the connection.
    :param key: the connection's key, where it is not the platform's.
    :param options: of the simulator.
    """

    def __init__(
        self,
        connection: str,
        extra: dict[str, Any] | None = None,
        key: str | None = None,
        **options: Any,
    ) -> None:
        self.connection = connection
        self.simulator = Simulator(bases=2, **options)
        self.simulator.on_request = self._on_request
        self.script: Callable[[Request], None] | None = None
        self.problems: list[BaseException] = []
        self._extra, self._key = {"max_late": 1, **(extra or {})}, key or self.simulator.key
        self._secrets = {self.simulator.key, self._key}
        self._lock = threading.Lock()

    @property
    def environment(self) -> dict[str, str]:
        """The connection, as Airflow reads it from its environment."""
        fields = {**self.simulator.connection(), "password": self._key, "extra": self._extra}
        return {f"AIRFLOW_CONN_{self.connection.upper()}": json.dumps(fields)}

    @property
    def secrets(self) -> set[str]:
        """Every key there ever was."""
        self._collect()
        return set(self._secrets)

    @property
    def base_ports(self) -> set[int]:
        return {int(url.rpartition(":")[2]) for url in self.simulator.base_urls}

    def requests(self, call: str) -> list[Request]:
        return [request for request in self.simulator.requests if request.call == call]

    def calls(self) -> list[str]:
        """Give the calls in the order in which they came, without discovery."""
        return [request.call for request in self.simulator.requests if request.call != "links"]

    def made(self, alias: str) -> int:
        """Give how many accounts of an alias were ever created by posts."""
        posts = [request for request in self.requests("create") if request.body["alias"] == alias]
        return sum(request.body["count"] for request in posts if request.executed)

    def _collect(self) -> None:
        with self._lock:
            self._secrets |= {account["token"] for account in self.simulator.accounts()}

    def _on_request(self, request: Request) -> None:
        self._collect()
        if self.script is None:
            return
        try:
            self.script(request)
        except BaseException as problem:  # the simulator would only answer 500: the test must fail
            self.problems.append(problem)
            raise
