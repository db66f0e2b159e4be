"""The public API of the simulator, for tests."""

from __future__ import annotations

import itertools
import math
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from decimal import Decimal
from typing import Any

from airflow_provider_closeai.simulator.accounts import Account, Truth
from airflow_provider_closeai.simulator.api import Api
from airflow_provider_closeai.simulator.clock import Clock
from airflow_provider_closeai.simulator.control import Control
from airflow_provider_closeai.simulator.faults import Fault, Faults
from airflow_provider_closeai.simulator.hosts import Host
from airflow_provider_closeai.simulator.log import Request
from airflow_provider_closeai.simulator.server import Backend
from airflow_provider_closeai.simulator.settings import Settings
from airflow_provider_closeai.simulator.state import State, units_of
from airflow_provider_closeai.simulator.statefile import Keeper

_PRICING = [{"model": "gpt-3.5-turbo", "pricing_factor": 1}]


class Simulator:
    """The CloseAI platform on this machine: a discovery host, some bases, one state.

    :param bases: Number of bases: 1 to 100.
    :param seed: Makes keys, tokens and costs repeatable; None makes them random.
    :param start: The first moment of the simulated clock.
    :param speed: Simulated seconds per real second; 0 stands still.
    :param port: The discovery host's port; the bases take the next ones. 0: any, or the state file's.
    :param state: A file that keeps accounts, money, ids, keys and the clock over restarts. Its contents
        override ``seed`` and an earlier ``start``.
    :param settings: Fields of ``Settings``.
    """

    def __init__(
        self,
        bases: int = 2,
        seed: int | None = None,
        *,
        start: datetime | None = None,
        speed: float = 0,
        port: int = 0,
        state: str | os.PathLike[str] | None = None,
        **settings: Any,
    ) -> None:
        if not 1 <= bases <= 100:
            raise ValueError("bases must be from 1 to 100: each listens on a port of its own")
        self.settings = Settings(**settings)
        if port and not 1 <= port <= 65535 - bases:
            raise ValueError(f"port must be from 1 to {65535 - bases}: each base takes the next one")
        ports = [port + number if port else 0 for number in range(1 + bases)]
        self.clock = Clock(start, speed)
        self._state = State(self.settings, self.clock, seed)
        self._keeper = None
        if state is not None:
            self._keeper = Keeper(state, self._state, lambda: [host.port for host in self._hosts])
        kept = self._keeper.restore() if self._keeper else None
        self.restored = kept is not None
        if kept and not port:
            ports = [*kept, *ports][: len(ports)]
        #: A hook, called before each request is executed, in the request's thread, without any lock.
        self.on_request: Callable[[Request], None] | None = None
        self._faults = Faults()
        self._links: list[dict[str, Any]] | None = None
        self._statuses = ["ok"] * bases
        api = Api(self._state, self._links_now)
        keep = self._keeper.keep if self._keeper else lambda: None
        self._backend = Backend(api, self._faults, Control(self), self.clock.now, keep, self._call_hook)
        names = ["discovery", *(f"base-{index}" for index in range(bases))]
        self._discovery, *self._bases = (
            Host(name, self._backend, number, lasting=state is not None)
            for name, number in zip(names, ports, strict=True)
        )

    def start(self) -> Simulator:
        """Listen on all hosts."""
        try:
            for host in self._hosts:
                host.start()
            if self._keeper:
                self._keeper.start()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Close all hosts and cut all connections; delayed work is never done."""
        with ThreadPoolExecutor(len(self._hosts)) as pool:
            list(pool.map(lambda host: host.stop(reserve=False), self._hosts))
        timers = list(self._backend.timers)
        for timer in timers:
            timer.cancel()
        for timer in timers:
            timer.join()
        if self._keeper:
            self._keeper.stop()

    def __enter__(self) -> Simulator:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.stop()

    @property
    def key(self) -> str:
        """The main account's sk."""
        return self._state.key

    @property
    def discovery_url(self) -> str:
        """The discovery host's origin."""
        return self._discovery.url

    @property
    def base_urls(self) -> list[str]:
        """The bases' origins, best first."""
        return [host.url for host in self._bases]

    @property
    def requests(self) -> list[Request]:
        """All requests so far, in order of arrival, without control requests."""
        return list(self._backend.requests)

    @property
    def truth(self) -> Truth:
        """The true costs up to now, including deleted accounts'."""
        with self._state.lock:
            return self._state.truth()

    def connection(self) -> dict[str, Any]:
        """Return an Airflow connection, ready for ``json.dumps``."""
        return {"conn_type": "closeai", "host": self.discovery_url, "password": self.key, "extra": {}}

    def accounts(self, alias: str | None = None) -> list[dict[str, Any]]:
        """Return the true current accounts, tokens included, however much the listing lags.

        :param alias: Only accounts with exactly this alias.
        """
        with self._state.lock:
            return [
                self._state.item(account)
                for account in self._state.live.values()
                if alias is None or account.alias == alias
            ]

    def add_account(
        self,
        alias: str,
        model_pricing: Sequence[dict[str, Any]] | None = None,
        balance: Decimal | int | str = "100",
        monthly_cost: Decimal | int | str = "0",
        token_type: str = "slave",
        created_at: datetime | str | None = None,
        enabled: bool = True,
    ) -> dict[str, Any]:
        """Add an account without HTTP; the listing shows it at once.

        :param model_pricing: Its price list, stored as given, even in old forms; None is one model.
        :param monthly_cost: What it has cost this month; counted in ``truth.by_month``, not by date.
        :param token_type: ``slave`` for a sub-account.
        :param created_at: None is now.
        :param enabled: Whether it costs anything.
        """
        created = datetime.fromisoformat(created_at) if isinstance(created_at, str) else created_at
        with self._state.lock:
            account = self._state.add(
                alias,
                list(_PRICING if model_pricing is None else model_pricing),
                units_of(balance, "balance"),
                cost=units_of(monthly_cost, "monthly_cost"),
                token_type=token_type,
                created_at=created,
                enabled=enabled,
                born=-math.inf,
            )
            return self._state.item(account)

    def delete_account(self, account_id: int) -> None:
        """Delete an account without HTTP; the listing may lag behind."""
        with self._state.lock:
            self._state.delete(self._account(account_id))

    def set_rate(self, account_id: int, rate: Decimal | int | str) -> None:
        """Set what an account costs from now on.

        :param rate: Cost per simulated hour, up to 8 decimals.
        """
        with self._state.lock:
            self._state.set_rate(self._account(account_id), units_of(rate, "rate"))

    def correct_cost(self, account_id: int, delta: Decimal | int | str) -> None:
        """Book a correction today: add it to ``monthly_cost`` and the truth, subtract it from the balance.

        :param account_id: The account; for a deleted one only the truth changes.
        :param delta: The amount; negative is a refund.
        """
        with self._state.lock:
            self._state.correct(account_id, units_of(delta, "delta"))

    def spoil(self, account_id: int, field: str, raw: str | None) -> None:
        """Make the listing show another value in an account's field; only the listing changes.

        :param field: One of the fields that a listing shows.
        :param raw: The value as JSON text, such as ``null`` or ``"\\ud83d"``; None restores the true one.
        """
        with self._state.lock:
            self._state.spoil(self._account(account_id), field, raw)

    def count(self, call: str, base: int | None = None) -> int:
        """Count the requests of a call.

        :param base: Only on this base.
        """
        name = None if base is None else self._base(base).name
        return sum(request.call == call and name in (None, request.host) for request in self.requests)

    def counts(self) -> dict[str, int]:
        """Count the requests by call."""
        return dict(Counter(request.call for request in self.requests))

    def fault(
        self,
        call: str,
        kind: str,
        base: int | None = None,
        times: int | None = 1,
        skip: int = 0,
        **options: Any,
    ) -> Fault:
        """Plan a fault; planned faults are tried in order.

        :param call: A call's name, or ``*`` for every call.
        :param kind: One of ``fault_kinds.KINDS``.
        :param base: Only on this base; None is any host.
        :param times: How many requests it affects; None is all.
        :param skip: How many matching requests pass first.
        :param options: The kind's options.
        """
        host = None if base is None else self._base(base).name
        if host and call == "links":
            raise ValueError("links is served by the discovery host: leave base out")
        return self._faults.plan(call, kind, host, times, skip, options)

    def clear_faults(self) -> None:
        """Remove all planned faults."""
        self._faults.clear()

    def stop_base(self, index: int) -> None:
        """Close a base: new connections are refused, open ones are cut."""
        self._base(index).stop()

    def start_base(self, index: int) -> None:
        """Open a stopped or swallowing base again, on the same port."""
        self._base(index).start()

    def swallow_base(self, index: int) -> None:
        """Make a base's port swallow connections: they are neither accepted nor refused."""
        self._base(index).swallow()

    def move_bases(self) -> None:
        """Open every base on a new port, as ``links`` then lists; the old ports refuse connections."""
        for host in self._bases:
            host.move()

    def stop_discovery(self) -> None:
        """Close the discovery host, including its control interface."""
        self._discovery.stop()

    def start_discovery(self) -> None:
        """Open the discovery host again, on the same port."""
        self._discovery.start()

    def set_status(self, index: int, status: str) -> None:
        """Set a base's status in ``links``.

        :param status: ``ok``, ``down`` ...
        """
        self._base(index)
        self._statuses[index] = status

    def set_links(self, links: list[dict[str, Any]] | None) -> None:
        """Override the entire answer of ``links``.

        :param links: The list; None restores the true one.
        """
        self._links = links

    @property
    def _hosts(self) -> list[Host]:
        return [self._discovery, *self._bases]

    def _call_hook(self, request: Request) -> None:
        hook = self.on_request
        if hook:
            try:
                hook(request)
            except OSError as error:  # must not look like an error of the request's connection
                raise RuntimeError("on_request failed") from error

    def _base(self, index: int) -> Host:
        if type(index) is not int or index not in range(len(self._bases)):
            raise ValueError(f"there is no base {index!r}: they are 0 to {len(self._bases) - 1}")
        return self._bases[index]

    def _account(self, account_id: int) -> Account:
        account = self._state.live.get(account_id)
        if account is None:
            raise KeyError(f"there is no account {account_id}")
        return account

    def _links_now(self) -> list[dict[str, Any]]:
        if self._links is not None:
            return self._links
        descriptions = itertools.chain(("主API",), itertools.repeat("紧急备用API,随时替换,请勿过渡依赖"))
        priorities = itertools.chain((10, 5), itertools.count(1, -1))
        rows = zip(self._bases, descriptions, priorities, self._statuses, strict=False)
        return [
            {"api": host.url, "desc": description, "priority": priority, "status": status}
            for host, description, priority, status in rows
        ]
