"""Shares out a limited number of rotations: oldest keys first, whatever their alias."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import msgspec

from airflow_provider_closeai.client.models import SubAccount

_LONG_AGO = datetime.min.replace(tzinfo=UTC)


class Turns(msgspec.Struct, frozen=True):
    """
    How many rotations each alias gets now.

    :param taken: number by alias.
    :param waiting: number that must wait, over all aliases.
    """

    taken: Counter[str]
    waiting: int


def share(wanted: Mapping[str, Sequence[SubAccount]], room: float) -> Turns:
    """
    Give turns to the oldest accounts.

    :param wanted: the accounts that need a turn, by alias.
    :param room: how many turns there are.
    """
    in_order = sorted(
        (account.created or _LONG_AGO, account.id, alias)
        for alias, accounts in wanted.items()
        for account in accounts
    )
    taken = in_order[: max(int(min(room, len(in_order))), 0)]
    return Turns(Counter(alias for *_, alias in taken), len(in_order) - len(taken))
