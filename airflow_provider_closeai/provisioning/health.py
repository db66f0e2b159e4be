"""The health sensor's decision, the same in a worker and in the triggerer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, cast

import msgspec

from airflow_provider_closeai.client.bases import Require, base_to_use
from airflow_provider_closeai.client.cache import PoolState
from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.errors import AuthenticationFailed, CloseAIError, PermissionDenied
from airflow_provider_closeai.client.models import BaseHealth
from airflow_provider_closeai.provisioning import inputs

log = logging.getLogger(__name__)

_REFUSED_FOR = 60.0  # seconds for which a refusal is believed: somebody may be fixing it


class HealthCheck(msgspec.Struct, frozen=True):
    """
    The result of a check of the bases.

    :param base: the base to use; ``None``: not yet.
    :param seen: all bases as plain JSON, if there is one to use.
    :param unknown: why it is unknown which base to use, for instance that discovery does not answer; empty:
        ``base`` is certain.
    """

    base: str | None = None
    seen: dict[str, Any] = {}
    unknown: str = ""


def check_bases(make_client: Callable[[], CloseAIClient], require: str) -> HealthCheck:
    """Check the bases. Raise errors that waiting cannot cure, such as a refused key."""
    wanted = cast("Require", inputs.choice("require", require, ("any", "primary", "all")))
    try:
        client = make_client()
        healths = client.check_health()
        if client.config.api_bases and any(health.healthy for health in healths):
            _check_key(client)
            healths = client.check_health()  # as known after that call, without new probes
    except CloseAIError as error:
        if error.permanent:
            raise
        log.warning("Not healthy yet: %s", error)
        return HealthCheck(unknown=str(error))
    base = base_to_use(healths, wanted)
    seen = "; ".join(
        f"{health.base.api} {'healthy' if health.healthy else 'not healthy'} ({health.detail})"
        for health in healths
    )
    log.info("%s: %s.", f"Use {base}" if base else "Not healthy yet", seen)
    if base:
        return HealthCheck(base, _seen(client, healths))
    # A base that was not probed yet, or whose probe was throttled, may be healthy.
    return HealthCheck(unknown="" if all(health.is_proof for health in healths) else seen)


def is_news(client: CloseAIClient, seen: dict[str, Any]) -> bool:
    """
    Return whether this process should publish what was seen: one does, when a base's health has changed, and
    when discovery's answer is due again.

    :param seen: from :func:`check_bases`.
    """
    state = "; ".join(f"{each['api']} {each['healthy']}" for each in seen["bases"])

    def is_new() -> bool:
        known, now = client.cache.read(), client.clock.now()
        is_fresh = 0 <= now - known.published_at < client.config.discovery_ttl
        return known.published != state or not is_fresh

    if not is_new():
        return False
    with client.cache.try_lock("published") as mine:
        if not mine or not is_new():
            return False
        now = client.clock.now()
        client.cache.change(lambda old: msgspec.structs.replace(old, published=state, published_at=now))
        return True


def _seen(client: CloseAIClient, healths: Sequence[BaseHealth]) -> dict[str, Any]:
    asked_at = 0.0 if client.config.api_bases else client.cache.read().discovered_at
    return {
        "discovered_at": _time_text(asked_at) if asked_at else None,
        "bases": [
            {
                "api": health.base.api,
                "healthy": health.healthy,
                "checked_at": _time_text(health.checked_at),
                "detail": health.detail,
            }
            for health in healths
        ],
    }


def _time_text(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).isoformat()


def _check_key(client: CloseAIClient) -> None:
    """
    Raise if the platform refuses the key: for fixed bases only, by listing one account; discovery says so
    itself.

    All processes share the answer, and only a refusal is believed: any other failure says nothing of the key.
    """
    known = client.cache.read()
    if client.clock.now() >= known.ask_key_again_at:
        with client.cache.try_lock("key", wait=client.config.deadline):
            known = client.cache.read()
            if client.clock.now() >= known.ask_key_again_at:
                known = _ask_about_key(client)
    if known.key_refused:
        raise AuthenticationFailed(known.key_refused, call="list")


def _ask_about_key(client: CloseAIClient) -> PoolState:
    refused, wait = "", client.config.discovery_ttl
    try:
        client.page(1, 1)
    except (AuthenticationFailed, PermissionDenied) as error:
        refused, wait = str(error), min(client.config.health_ttl, _REFUSED_FOR)
    except CloseAIError as error:
        log.warning("Whether the key is accepted is not known: %s", error)
        wait = client.config.health_ttl

    def learn(old: PoolState) -> PoolState:
        now = client.clock.now()
        return msgspec.structs.replace(
            old, key_asked_at=now, ask_key_again_at=now + wait, key_refused=refused
        )

    return client.cache.change(learn)
