"""The decision of the health sensor, the same in a worker and in the triggerer."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import cast

from airflow_provider_closeai.client.bases import Require, base_to_use
from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.errors import CloseAIError
from airflow_provider_closeai.provisioning import inputs

log = logging.getLogger(__name__)


def look(make_client: Callable[[], CloseAIClient], require: str) -> str | None:
    """
    Look once whether enough bases are healthy.

    :param make_client: makes the client.
    :param require: ``any``, ``primary`` or ``all``.
    :returns: the base to use; ``None``: not yet.
    :raises CloseAIError: for what waiting cannot mend, such as a refused key.
    """
    wanted = cast("Require", inputs.choice("require", require, ("any", "primary", "all")))
    try:
        healths = make_client().check_health()
    except CloseAIError as error:
        if error.permanent:
            raise
        log.warning("Not healthy yet: %s", error)
        return None
    base = base_to_use(healths, wanted)
    seen = "; ".join(
        f"{health.base.api} {'healthy' if health.healthy else 'not healthy'} ({health.detail})"
        for health in healths
    )
    log.info("%s: %s.", f"Use {base}" if base else "Not healthy yet", seen)
    return base
