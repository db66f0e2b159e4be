"""What a roster says: which aliases it owns, and which accounts each must have."""

from __future__ import annotations

import fnmatch
import functools
import hashlib
import re
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated

import msgspec

from airflow_provider_closeai.provisioning.requests import CreateRequest, RotateRequest

Pricing = dict[str, Decimal]
#: A moment with a time zone; a plan's record with any other is refused.
Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class Rotation(msgspec.Struct, frozen=True, kw_only=True):
    """
    How the keys of an alias are replaced.

    :param every: the age at which a key is replaced.
    :param grace: time in which all users of a key read its successor.
    :param max_rotate: how many adopted keys may be replaced at a time.
    :param begins: nothing is replaced before this time.
    """

    every: timedelta
    grace: timedelta
    max_rotate: int
    begins: Moment | None = None


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    The accounts of one alias.

    :param pricing: wanted prices until the budget is spent.
    :param balance: virtual balance of each new account.
    :param budget: limit of the alias's cost in a billing month.
    :param over_budget: wanted prices once it is spent; empty: no model at all. ``None``: nothing changes.
    :param expires: from then on no account is wanted.
    :param line: its line in the file, for messages; 0: none.
    """

    alias: str
    pricing: Pricing
    balance: Decimal
    count: int = 1
    team: str = ""
    cost_center: str = ""
    budget: Decimal | None = None
    over_budget: Pricing | None = None
    rotate: Rotation | None = None
    expires: Moment | None = None
    line: int = 0

    def is_expired(self, now: datetime) -> bool:
        """Return whether its accounts are no longer wanted."""
        return self.expires is not None and now >= self.expires

    def is_over(self, spent: Decimal) -> bool:
        """Return whether its ``over_budget`` prices are wanted now."""
        return self.over_budget is not None and self.budget is not None and spent >= self.budget

    def creation(
        self, pricing: Pricing, count: int, *, batch_size: int = 100, settle: float = 30
    ) -> CreateRequest:
        """Return the request to create its accounts."""
        return CreateRequest(
            alias=self.alias,
            pricing=pricing,
            balance=self.balance,
            count=count,
            if_exists="ensure",
            batch_size=batch_size,
            settle=settle,
        )

    def rotation(self, pricing: Pricing) -> RotateRequest | None:
        """Return the request to rotate its keys; ``None`` if they are not rotated."""
        if self.rotate is None:
            return None
        return RotateRequest(
            wanted=self.creation(pricing, self.count),
            every=self.rotate.every,
            grace=self.rotate.grace,
            max_rotate=self.rotate.max_rotate,
            begins=self.rotate.begins,
            expires=self.expires,
        )


class Roster(msgspec.Struct, frozen=True, kw_only=True):
    """
    A roster that was checked.

    :param name: its file's name, for messages.
    :param owns: globs of the aliases that it owns.
    :param entries: by alias, in the file's order.
    :param main_account: the ``user_id`` that a listing must have.
    """

    name: str
    owns: tuple[str, ...]
    entries: dict[str, Entry]
    main_account: int | None = None

    @property
    def digest(self) -> str:
        """Digest of what is wanted: two rosters with the same digest want the same, wherever they are."""
        wanted = [msgspec.structs.replace(self.entries[alias], line=0) for alias in sorted(self.entries)]
        text = msgspec.json.encode((self.owns, wanted), order="deterministic")
        return hashlib.sha256(text).hexdigest()[:16]


@functools.lru_cache(maxsize=256)
def owner_pattern(owns: tuple[str, ...]) -> re.Pattern[str]:
    """Return a pattern of all aliases that the globs match, case-sensitively."""
    return re.compile("|".join(fnmatch.translate(glob) for glob in owns) or "(?!)")
