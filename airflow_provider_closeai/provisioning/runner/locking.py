"""Lets one task per host write at a time, and says how long writes wait for the listing."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator

from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.local_state.locks import lock
from airflow_provider_closeai.provisioning.errors import AliasBusy

#: Seconds by which the listing may lag behind a change before that counts as not confirmed.
CONFIRM_WITHIN = 30.0
LOCK_WAIT = 15 * 60.0


@contextlib.contextmanager
def alias_lock(client: CloseAIClient, what: str, wait: float | None = None) -> Iterator[str]:
    """
    Let one task of this host at a time change something of this main account.

    :param what: ``pricing``, or ``alias:`` and an alias.
    :param wait: seconds to wait for the lock; ``None``: 15 minutes.
    :returns: the name of a store that may be written while the lock is held.
    :raises AliasBusy: the lock was not free in that time.
    """
    name = hashlib.sha256(f"{client.config.account} {what}".encode()).hexdigest()[:24] + ".note"
    with lock(name, LOCK_WAIT if wait is None else wait, client.clock) as is_held:
        if not is_held:
            raise AliasBusy(
                f"Another task on this host has been changing {what} for {LOCK_WAIT / 60:.0f} minutes. "
                "This task changed nothing of it. Look for a task that hangs; an Airflow pool of one slot "
                "keeps tasks from waiting here."
            )
        yield name
