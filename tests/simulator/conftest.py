"""A plain HTTP client for the simulator: http.client only, so that nothing is retried or hidden."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from airflow_provider_closeai.simulator import Simulator

LIST = "/api/v1/account/sub-account/list"
TOKEN = "/api/v1/account/sub-account/token"
INFO = "/api/v1/account/sub-account/token/info"
HEALTHY = "/api/v1/healthy"
LINKS = "/api/v1/links"
BILLING = "/dashboard/billing/credit_grants"
PATHS = {
    "links": ("GET", LINKS),
    "healthy": ("GET", HEALTHY),
    "list": ("GET", LIST),
    "create": ("POST", TOKEN),
    "update": ("POST", INFO),
    "delete": ("DELETE", TOKEN),
    "billing": ("GET", BILLING),
    "models": ("GET", "/v1/models"),
    "chat": ("POST", "/v1/chat/completions"),
}
PRICING = [{"model": "gpt-4", "pricing_factor": 1}]


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    text: str

    def json(self, **options: Any) -> Any:
        return json.loads(self.text, **options)


@dataclass(frozen=True)
class Client:
    """Sends one request per connection; the main key is sent unless another is given."""

    sim: Simulator

    def __call__(
        self,
        call: str,
        body: Any = None,
        *,
        base: int = 0,
        key: str | None = "main",
        query: dict[str, Any] | None = None,
        method: str | None = None,
        path: str | None = None,
        headers: dict[str, str] | None = None,
        timeout: float = 10,
    ) -> Reply:
        assert path or call in PATHS, f"{call} is not in PATHS"
        usual = PATHS.get(call, ("GET", "/"))
        method, path = method or usual[0], path or usual[1]
        discovery = call == "links" or path.startswith("/_simulator/")
        origin = self.sim.discovery_url if discovery else self.sim.base_urls[base]
        sent = {"Content-Type": "application/json"}
        if key is not None:
            sent["Authorization"] = f"Bearer {self.sim.key if key == 'main' else key}"
        sent.update(headers or {})
        connection = http.client.HTTPConnection(urlsplit(origin).netloc, timeout=timeout)
        data = body if isinstance(body, str | bytes | None) else json.dumps(body)
        try:
            connection.request(method, path + (f"?{urlencode(query)}" if query else ""), data, sent)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(answer.status, found, answer.read().decode())
        finally:
            connection.close()

    def create(self, alias: str = "a", **fields: Any) -> Reply:
        return self("create", {"alias": alias, "balance": 1, "model_pricing": PRICING, **fields})

    def listed(self, **query: Any) -> list[str]:
        reply = self("list", query={"page_size": -1, **query})
        assert reply.status == 200, reply.text
        return [item["alias"] for item in reply.json()["items"]]


@pytest.fixture
def sim(closeai_simulator: Simulator) -> Simulator:
    return closeai_simulator


@pytest.fixture
def ask(sim: Simulator) -> Client:
    return Client(sim)


@pytest.fixture
def client_of() -> Callable[[Simulator], Client]:
    return Client
