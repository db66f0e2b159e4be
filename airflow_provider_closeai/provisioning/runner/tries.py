"""Which try of which task makes a write."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from airflow_provider_closeai.local_state.claims import NameStore
from airflow_provider_closeai.local_state.stores import Store


class Try(msgspec.Struct, frozen=True):
    """
    Which try of which task this is.

    :param task: names the task over all its tries.
    :param is_retry: an earlier try of the same task may have created something.
    :param own_journal: makes, from an alias, the store that is kept for all tries of the task. A retry that
        finds there that nothing was posted need not wait. With ``if_exists="fail"`` it lets a retry recognise
        what its earlier try made; without it, that works on the same host only.
    :param is_supervised: returns whether Airflow still supervises this process, if no journal can tell.
    :param names: the names that all hosts of the deployment share, if there is such a store.
    """

    task: str = ""
    is_retry: bool = False
    own_journal: Callable[[str], Store] | None = None
    is_supervised: Callable[[], bool] | None = None
    names: NameStore | None = None


FIRST_TRY = Try()
