"""Which try of which task a write is made by."""

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
    :param own_journal: makes the store, for an alias, that is kept for all tries of the task. A retry that
        finds there that nothing was posted need not wait. With ``if_exists="fail"`` a retry recognises by it
        what its earlier try made; without it only on the same host.
    :param is_supervised: says whether Airflow still watches over this process, where a journal cannot.
    :param names: that all hosts of the deployment share, where there is such a store.
    """

    task: str = ""
    is_retry: bool = False
    own_journal: Callable[[str], Store] | None = None
    is_supervised: Callable[[], bool] | None = None
    names: NameStore | None = None


FIRST_TRY = Try()
