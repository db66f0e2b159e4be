"""The platform's calls: who may make them, their checks, their work and their answers."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_closeai.simulator import models
from airflow_provider_closeai.simulator.accounts import Account
from airflow_provider_closeai.simulator.answers import TEXT, Answer, Refusal, done, encode
from airflow_provider_closeai.simulator.checks import (
    check_query,
    invalid,
    number_in_query,
    read_amount,
    read_body,
    read_count,
    read_pricing,
    read_sks,
    read_text,
)
from airflow_provider_closeai.simulator.log import Request
from airflow_provider_closeai.simulator.settings import Settings
from airflow_provider_closeai.simulator.state import State
from airflow_provider_closeai.simulator.values import to_decimal, to_units


@dataclass(frozen=True)
class Incoming:
    """A request as received; ``key`` is its API key, ``at_most`` limits a create's count."""

    request: Request
    pairs: list[tuple[str, str]]
    body: bytes
    content_type: str
    key: str | None = field(repr=False)
    at_most: int | None = None


class Api:
    """The calls on one state.

    :param links: Returns the answer of ``links``.
    """

    def __init__(self, state: State, links: Callable[[], list[dict[str, Any]]]) -> None:
        self._state = state
        self._settings = state.settings
        self._links_now = links
        self._seen: dict[tuple[str, str], deque[float]] = {}
        self._seen_lock = threading.Lock()

    def who(self, authorization: str | None) -> str:
        """Return whose key a request carries: main, sub, none or other."""
        if authorization is None:
            return "none"
        key = key_of(authorization)
        if key == self._state.key:
            return "main"
        with self._state.lock:
            return "sub" if key in self._state.tokens else "other"

    def answer(self, incoming: Incoming) -> Answer:
        """Execute a request, or refuse it."""
        try:
            route = self._admit(incoming)
            check_query(incoming.pairs, route.query)
            return route.do(self, incoming)
        except Refusal as refusal:
            return refusal.answer()

    def _admit(self, incoming: Incoming) -> Route:
        """Return a request's route, or refuse the request."""
        request = incoming.request
        routes = {route.method: route for route in _routes(request.host, request.path)}
        if not routes:
            raise Refusal(404, "not_found", "there is nothing at this path")
        route = routes.get(request.method)
        if route is None:
            use = ", ".join(routes)
            raise Refusal(405, "method_not_allowed", f"use {use} here", {"Allow": use})
        self._limit(request.host, request.call)
        if not route.allowed or request.authorization in route.allowed:
            return route
        if request.authorization == "sub":
            raise Refusal(403, "permission_denied", "a sub-account's API key may not use this interface")
        raise Refusal(401, "invalid_api_key", "the API key is missing or not valid")

    def _limit(self, host: str, call: str) -> None:
        limit = self._settings.rate_limits.get(call)
        if limit is None:
            return
        number, seconds = limit
        now = time.monotonic()
        with self._seen_lock:
            seen = self._seen.setdefault((host, call), deque())
            while seen and seen[0] <= now - seconds:
                seen.popleft()
            if len(seen) >= number:
                wait = str(max(1, math.ceil(seen[0] + seconds - now)))
                raise Refusal(429, "rate_limit_exceeded", "too many requests", {"Retry-After": wait})
            seen.append(now)

    def _links(self, incoming: Incoming) -> Answer:
        return done(self._links_now())

    def _healthy(self, incoming: Incoming) -> Answer:
        return Answer(200, b"healthy", TEXT, executed=True)

    def _billing(self, incoming: Incoming) -> Answer:
        with self._state.lock:
            used = self._state.used() + to_units(self._settings.main_usage)
        granted = to_units(self._settings.main_granted)
        return done(
            {
                "object": "credit_summary",
                "total_granted": to_decimal(granted),
                "total_used": to_decimal(used),
                "total_available": to_decimal(granted - used),
            }
        )

    def _list(self, incoming: Incoming) -> Answer:
        query = incoming.request.query
        page = number_in_query(query, "page", 1)
        size = number_in_query(query, "page_size", 10)
        if page < 1:
            raise invalid("page must be at least 1")
        if size < 1 and size != -1:
            raise invalid("page_size must be at least 1, or -1 for all")
        largest = self._settings.max_page_size
        if largest is not None and (size == -1 or size > largest):
            size = largest
        with self._state.lock:
            return Answer(200, encode(self._page(query, page, size)), executed=True)

    def _page(self, query: dict[str, str], page: int, size: int) -> str:
        settings, state = self._settings, self._state
        accounts, until = state.listed()
        everything = len(accounts)
        if sk := query.get("sk"):
            accounts = [account for account in accounts if account.token == sk]
        if alias := query.get("alias"):
            matches = _alias_matcher(settings, alias)
            views = ((account, account.view(until)) for account in accounts)
            accounts = [account for account, version in views if version and matches(version.alias)]
        if settings.order == "newest":
            accounts.reverse()
        length = size if size != -1 else max(len(accounts), 1)
        shown = accounts[(page - 1) * length : page * length]
        total = {"filtered": len(accounts), "all": everything, "page": len(shown)}[settings.total_counts]
        pairs = ((account, account.view(until)) for account in shown)
        items = ",".join(state.list_item(account, version) for account, version in pairs if version)
        count = "" if settings.omit_total else f'"total":{total},'
        return f'{{"items":[{items}],{count}"page":{page},"pageSize":{size}}}'

    def _create(self, incoming: Incoming) -> Answer:
        known = ("alias", "balance", "model_pricing", "count")
        needed = ("alias", "balance", "model_pricing")
        fields = self._fields(incoming, known, needed)
        alias = read_text(fields["alias"], "alias")
        balance = read_amount(fields["balance"], "balance")
        pricing = read_pricing(fields["model_pricing"])
        count = read_count(fields.get("count", 1), self._settings.max_count)
        state = self._state
        with state.lock:
            if self._settings.unique_alias:
                if count > 1:
                    raise invalid("count must be 1: an alias must be unique")
                self._free(alias, [])
            if incoming.at_most is not None:
                count = min(count, incoming.at_most)
            made = [state.add(alias, pricing, balance) for _ in range(count)]
            numbers = self._settings.amounts_as_numbers
            items = ",".join(state.render(account, account.versions[-1], numbers) for account in made)
        return Answer(200, encode(f'{{"items":[{items}],"success":true}}'), executed=True)

    def _update(self, incoming: Incoming) -> Answer:
        fields = self._fields(incoming, ("sks", "alias", "model_pricing"), ("sks", "model_pricing"))
        sks = read_sks(fields["sks"], self._settings.max_sks)
        pricing = read_pricing(fields["model_pricing"])
        alias = read_text(fields["alias"], "alias") if "alias" in fields else None
        with self._state.lock:
            accounts = self._find(sks, missing_ok=False)
            if alias is not None and self._settings.unique_alias:
                if len(accounts) > 1:
                    raise invalid("sks must be one: an alias must be unique")
                self._free(alias, accounts)
            for account in accounts:
                self._state.update(account, account.alias if alias is None else alias, pricing)
        return done({"success": True})

    def _delete(self, incoming: Incoming) -> Answer:
        fields = self._fields(incoming, ("sks",), ("sks",))
        sks = read_sks(fields["sks"], self._settings.max_sks)
        with self._state.lock:
            for account in self._find(sks, missing_ok=self._settings.delete_missing == "ok"):
                self._state.delete(account)
        return done({"success": True})

    def _models(self, incoming: Incoming) -> Answer:
        with self._state.lock:
            return done(models.listed(self._state, self._user(incoming)))

    def _chat(self, incoming: Incoming) -> Answer:
        fields = self._fields(incoming, models.CHAT_FIELDS, ("model", "messages"))
        with self._state.lock:
            return done(models.complete(self._state, self._user(incoming), fields))

    def _user(self, incoming: Incoming) -> Account | None:
        """Return the sub-account whose key was used; None is the main account."""
        return self._state.tokens.get(incoming.key or "")

    def _fields(self, incoming: Incoming, known: tuple[str, ...], needed: tuple[str, ...]) -> dict[str, Any]:
        return read_body(incoming.body, incoming.content_type, known, needed)

    def _find(self, sks: list[str], *, missing_ok: bool) -> list[Account]:
        found = []
        for index, sk in enumerate(sks):
            account = self._state.tokens.get(sk)
            if sk == self._state.key or (account and account.token_type != "slave"):
                raise invalid(f"sks[{index}] is not a sub-account")
            if account:
                found.append(account)
            elif not missing_ok:
                raise Refusal(404, "not_found", f"sks[{index}] is unknown")
        return found

    def _free(self, alias: str, owners: list[Account]) -> None:
        if any(account.alias == alias and account not in owners for account in self._state.live.values()):
            raise invalid("alias is taken")


@dataclass(frozen=True)
class Route:
    """A call's host, handler, accepted keys and query; ``place`` is discovery or base."""

    call: str
    place: str
    method: str
    path: str
    do: Callable[[Api, Incoming], Answer]
    allowed: tuple[str, ...] = ("main",)
    query: tuple[str, ...] = ()


_SUB_ACCOUNT = "/api/v1/account/sub-account"
_LIST_QUERY = ("alias", "sk", "page", "page_size")
ROUTES = (
    Route("links", "discovery", "GET", "/api/v1/links", Api._links),
    Route("healthy", "base", "GET", "/api/v1/healthy", Api._healthy, allowed=()),
    Route("list", "base", "GET", f"{_SUB_ACCOUNT}/list", Api._list, query=_LIST_QUERY),
    Route("create", "base", "POST", f"{_SUB_ACCOUNT}/token", Api._create),
    Route("update", "base", "POST", f"{_SUB_ACCOUNT}/token/info", Api._update),
    Route("delete", "base", "DELETE", f"{_SUB_ACCOUNT}/token", Api._delete),
    Route("billing", "base", "GET", "/dashboard/billing/credit_grants", Api._billing),
    Route("models", "base", "GET", "/v1/models", Api._models, allowed=("main", "sub")),
    Route("chat", "base", "POST", "/v1/chat/completions", Api._chat, allowed=("main", "sub")),
)
"""All calls of the platform."""
CALLS = (*(route.call for route in ROUTES), "unknown")
"""Their names, and the name of a request that is none of them."""


def key_of(authorization: str | None) -> str | None:
    """Return the API key in a header, or None."""
    scheme, _, key = (authorization or "").partition(" ")
    return key if scheme.lower() == "bearer" else None


def call_of(host: str, method: str, path: str) -> str:
    """Return the name of a request's call."""
    return next((route.call for route in _routes(host, path) if route.method == method), "unknown")


def _routes(host: str, path: str) -> list[Route]:
    place = "discovery" if host == "discovery" else "base"
    return [route for route in ROUTES if (route.place, route.path) == (place, path)]


def _alias_matcher(settings: Settings, wanted: str) -> Callable[[str], bool]:
    """Return the test that the listing's alias filter applies."""
    if settings.alias_filter == "exact":
        return lambda alias: alias == wanted
    if settings.alias_filter == "substring":
        return lambda alias: wanted in alias
    return lambda alias: True
