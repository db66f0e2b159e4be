"""A stand-in for HashiCorp Vault: HTTP on loopback."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Vault:
    """The KV engine of a Vault, version 1 or 2, as far as the hook uses it."""

    def __init__(self) -> None:
        self.secrets: dict[str, dict[str, Any]] = {}
        self.written: dict[str, str] = {}
        self.writes = 0
        self.down = False
        vault = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: object) -> None:
                pass

            def _answer(self, status: int, body: object) -> None:
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def _serve(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length) or b"{}")
                path = self.path.partition("?")[0].removeprefix("/v1/secret/")
                has_versions = path.startswith("data/")
                path = path.removeprefix("data/")
                if vault.down:
                    self._answer(503, {"errors": ["Vault is sealed"]})
                elif self.path.startswith("/v1/auth/token/lookup-self"):
                    self._answer(200, {"data": {"id": "root"}})
                elif self.command == "GET" and path in vault.secrets:
                    metadata = {"version": 1, "created_time": vault.written[path]}
                    data = {"data": vault.secrets[path], "metadata": metadata}
                    self._answer(200, {"data": data if has_versions else vault.secrets[path]})
                elif self.command in ("POST", "PUT"):
                    vault.writes += 1
                    vault.secrets[path] = body["data"] if has_versions else body
                    vault.written[path] = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}789Z"
                    self._answer(200, {"data": {"version": 1}})
                else:
                    self._answer(404, {"errors": []})

            do_GET = do_POST = do_PUT = _serve

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def start(self) -> None:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def connection(self) -> str:
        """Give the Airflow connection that leads to it."""
        fields = {
            "conn_type": "vault",
            "host": "127.0.0.1",
            "port": self._server.server_address[1],
            "schema": "secret",
            "password": "root",
            "extra": {"auth_type": "token", "kv_engine_version": 2, "use_tls": False},
        }
        return json.dumps(fields)
