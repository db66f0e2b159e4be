"""Decisions about bases: which may be used, in which order, when to ask discovery again. No I/O here."""

from __future__ import annotations

import codecs
import fnmatch
import logging
import re
import string
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

import msgspec

from airflow_provider_closeai.client.cache import MAX_PUT_OFF, HealthCheckResult, PoolState
from airflow_provider_closeai.client.config import clean_origin, without_v1
from airflow_provider_closeai.client.decoding import loads
from airflow_provider_closeai.client.errors import safe_text
from airflow_provider_closeai.client.models import ApiBase, BaseHealth

log = logging.getLogger(__name__)

Require = Literal["any", "primary", "all"]
FIRST_WAIT = 60.0
MAX_WAIT = 15 * 60.0
_MOST_DOUBLINGS = 4
_MOST = 10**9  # largest priority
_MOST_BASES, _LONGEST_ADDRESS, _LONGEST_TEXT = 100, 250, 80  # more would not fit into the cache
_MOST_WARNINGS = 10
_MOST_QUOTINGS = 5


def ranked(bases: Iterable[ApiBase]) -> list[ApiBase]:
    """Order bases as the platform recommends them: status ``ok`` first, then the larger priority."""
    return sorted(bases, key=lambda base: (base.status != "ok", -base.priority))


def ordered(bases: Iterable[ApiBase], verdicts: dict[str, HealthCheckResult]) -> list[ApiBase]:
    """Order bases for a call: as recommended, those with a bad verdict last."""
    return sorted(ranked(bases), key=lambda base: is_bad(verdicts.get(base.api)))


def discovery_wait(failures: int, retry_after: float | None) -> float:
    """
    Return the seconds until discovery may be asked again after a failure.

    :param failures: failures in a row, this one included.
    :param retry_after: seconds that the platform asked for, obeyed up to a day; 0 is ignored.
    """
    if retry_after:
        return min(retry_after, MAX_PUT_OFF)
    return min(MAX_WAIT, FIRST_WAIT * 2.0 ** min(failures - 1, 10))


def is_lost(known: PoolState) -> bool:
    """Return whether no base can be reached: each failed in transport, or an intermediary answered."""
    seen = [known.verdicts.get(base.api) for base in known.bases]
    return bool(seen) and all(verdict and not verdict.healthy and not verdict.reached for verdict in seen)


def base_to_use(healths: Sequence[BaseHealth], require: Require) -> str | None:
    """
    Decide whether enough bases are healthy, and which to use.

    :param healths: best-ranked base first.
    :param require: ``any``: one of them; ``primary``: the best-ranked one; ``all``: each of them.
    :returns: the best healthy base, or ``None`` if the requirement is not met.
    """
    required = {"any": (), "primary": healths[:1], "all": healths}[require]
    is_met = all(health.healthy for health in required)
    return next((health.base.api for health in healths if health.healthy), None) if is_met else None


def usable(links: Iterable[ApiBase], allowed_hosts: Sequence[str]) -> tuple[ApiBase, ...]:
    """
    Keep the bases that the main key may be sent to, with normalised addresses; warn of the others.

    :param allowed_hosts: globs; empty: any host.
    """
    kept: dict[str, ApiBase] = {}
    dropped: list[str] = []
    for link in ranked(links):
        try:
            origin = without_v1(clean_origin(link.api))
        except ValueError as problem:
            dropped.append(f"a base whose address {problem}")
            continue
        host = urlsplit(origin).hostname or ""
        if allowed_hosts and not any(fnmatch.fnmatch(host, glob.lower()) for glob in allowed_hosts):
            dropped.append(f"{origin}, which 'allowed_hosts' does not admit")
            continue
        if len(origin) > _LONGEST_ADDRESS:
            dropped.append(f"a base whose address has {len(origin)} characters")
            continue
        kept.setdefault(origin, msgspec.structs.replace(link, api=origin))
    _warn_of(dropped)
    if len(kept) > _MOST_BASES:
        log.warning("Discovery lists %d bases: the best %d of them are used.", len(kept), _MOST_BASES)
    return tuple(kept.values())[:_MOST_BASES]


def is_bad(verdict: HealthCheckResult | None) -> bool:
    """Return whether a base is known to be unhealthy."""
    return verdict is not None and not verdict.healthy and verdict.is_proof


def missed(healthy: bool, last: HealthCheckResult | None) -> int:
    """Return how many times in a row a base has failed."""
    return 0 if healthy else 1 + (last.misses if last is not None and not last.healthy else 0)


def is_due_again(verdict: HealthCheckResult | None, now: float, health_ttl: float) -> bool:
    """
    Return whether to probe a failed base again; with each failure the wait doubles, up to a limit.

    :param health_ttl: the first wait, in seconds.
    """
    doublings = 0 if verdict is None else min(max(verdict.misses - 1, 0), _MOST_DOUBLINGS)
    return verdict is None or now - verdict.at >= health_ttl * 2**doublings


def decode_links(content: bytes, key: str = "") -> tuple[ApiBase, ...]:
    """
    Decode discovery's answer entry by entry: only an entry without an address, or with the key, is dropped;
    a field that cannot be read gets a default.

    :param key: the key that was sent: a base that contains it would be logged, cached and passed on.
    """
    links: list[ApiBase] = []
    dropped: list[str] = []
    entries = loads(content)
    if not isinstance(entries, list):
        raise msgspec.ValidationError("Expected a list of bases")
    for entry in entries:
        fields = entry if isinstance(entry, dict) else {}
        api, desc, status = fields.get("api"), fields.get("desc"), fields.get("status", "ok")
        if not isinstance(api, str):
            dropped.append("an entry that names no base")
            continue
        if key and any(_shows(key, str(text)) for text in (api, desc, status)):
            dropped.append("a base with the key in its address, desc or status")
            continue
        links.append(
            ApiBase(
                api,
                desc=safe_text(desc)[:_LONGEST_TEXT] if isinstance(desc, str) else "",
                priority=_priority(fields.get("priority", 0)),
                status=safe_text(status)[:_LONGEST_TEXT] if isinstance(status, str) else "unknown",
            )
        )
    _warn_of(dropped)
    return tuple(links)


def _warn_of(dropped: Sequence[str]) -> None:
    for what in dropped[:_MOST_WARNINGS]:
        log.warning("Discovery lists %s: dropped.", what)
    if len(dropped) > _MOST_WARNINGS:
        log.warning("Discovery lists %d more like these: dropped.", len(dropped) - _MOST_WARNINGS)


def _shows(key: str, text: str) -> bool:
    """Return whether a text contains the key, even URL-quoted or split by characters that URLs drop."""
    for _ in range(_MOST_QUOTINGS):
        text = unquote(text)
    if unquote(text) != text:
        return True  # quoted so often that it hides something
    return key.lower() in re.sub(r"[\t\r\n]", "", text).lower()


def _priority(value: object) -> int:
    """Read a priority of any JSON type; one that cannot be read ranks last."""
    try:
        return int(max(Decimal(-_MOST), min(Decimal(_MOST), Decimal(str(value)))))
    except ArithmeticError:
        return -_MOST


def decode_healthy(content: bytes) -> Any:
    """
    Decode the answer of a probe.

    :raises ValueError: it is not the text ``healthy``.
    """
    if content.strip(codecs.BOM_UTF8 + string.whitespace.encode()) != b"healthy":
        raise ValueError("it does not say 'healthy'")
    return True
