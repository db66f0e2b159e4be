"""Share out a limited number of rotations: the oldest keys first, whatever their alias."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import msgspec

from airflow_provider_closeai.client.models import SubAccount

_LONG_AGO = datetime.min.replace(tzinfo=UTC)


class Turns(msgspec.Struct, frozen=True):
    """
    How much each alias may do now.

    :param taken: by alias.
    :param waiting: how many of all of them wait.
    """

    taken: Counter[str]
    waiting: int


def share(wanted: Mapping[str, Sequence[SubAccount]], room: float) -> Turns:
    """
    Give turns to the oldest.

    :param wanted: by alias the accounts that something is to be done for.
    :param room: for how many it may be done.
    """
    in_order = sorted(
        (account.created or _LONG_AGO, account.id, alias)
        for alias, accounts in wanted.items()
        for account in accounts
    )
    taken = in_order[: max(int(min(room, len(in_order))), 0)]
    return Turns(Counter(alias for *_, alias in taken), len(in_order) - len(taken))
