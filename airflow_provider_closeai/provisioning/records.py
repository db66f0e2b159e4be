"""Records of calls, as names in a store that all hosts share: each host knows what may still come.

A name is written before its call is sent, and says all that is known of the call::

    <alias>.<sender>.<number>.<u, r or s>.<counter>.<ms of it>.<epoch seconds>[.<prices>.<ids>]

``u``: it may have been executed. ``r``: it was repeated, and an earlier attempt may still be executed after
the listing shows a later one. ``s``: the listing of one base has shown it since. The time is by a counter of
the sender's machine; on another machine it means nothing, and the call counts as sent as late as possible.
The epoch only says when a name is old enough to be removed. Records of prices also have a digest and the
accounts that got them.
"""

from __future__ import annotations

import hashlib
import re
import textwrap
from collections.abc import Iterable

import msgspec

from airflow_provider_closeai.provisioning.journal import Entry

_LONGEST_IDS = 100  # characters: a Variable's key has at most 250
_NAME = re.compile(
    r"([0-9a-f]+)\.([0-9a-f]+)\.(\d+)\.([urs])\.([0-9a-f]+)\.(\d+)\.(\d+)(?:\.([0-9a-f]+)\.([0-9_]+))?"
)


class Record(msgspec.Struct, frozen=True):
    """
    One call that writes.

    :param alias: the alias's hash.
    :param sender: the sender's random name.
    :param number: a create's: counts the sender's calls. Prices': larger than all that the sender has read.
    :param settled: the listing of one base has shown it.
    :param counter: a hash of the counter's name.
    :param at: when it was noted, in seconds of the counter.
    :param epoch: the same, in seconds since the epoch.
    :param prices: a digest of the prices sent.
    :param ids: the accounts that got them.
    :param may_come: an earlier attempt may be executed after the listing has shown a later one.
    """

    alias: str
    sender: str
    number: int
    settled: bool
    counter: str
    at: float
    epoch: float
    prices: str = ""
    ids: tuple[int, ...] = ()
    may_come: bool = False

    @property
    def name(self) -> str:
        """The record's name, without the prefix."""
        state = "s" if self.settled else "r" if self.may_come else "u"
        times = f"{max(self.at, 0) * 1000:.0f}.{max(self.epoch, 0):.0f}"
        name = f"{self.alias}.{self.sender}.{self.number}.{state}.{self.counter}.{times}"
        return f"{name}.{self.prices}.{'_'.join(map(str, self.ids))}" if self.ids else name

    def is_old(self, now: float, keep: float) -> bool:
        """
        Return whether it may be removed, however wrong clocks are.

        :param now: seconds since the epoch.
        :param keep: how many seconds records are kept.
        """
        return abs(now - self.epoch) > keep

    def entry(self) -> Entry:
        """Return the record as a journal entry."""
        return Entry(self.at, "", posted=True, settled=self.settled, counter=self.counter)


def parse_record(name: str) -> Record | None:
    """
    Parse a record's name; return ``None`` if it is not one.

    :param name: the name without its prefix.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    alias, sender, number, state, counter, at, epoch, prices, ids = match.groups()
    return Record(
        alias,
        sender,
        int(number),
        state == "s",
        counter,
        int(at) / 1000,
        float(epoch),
        prices or "",
        tuple(int(each) for each in (ids or "").split("_") if each),
        state == "r",
    )


def pieces(ids: Iterable[int]) -> list[tuple[int, ...]]:
    """Divide ids into pieces that fit into a name."""
    lines = textwrap.wrap(" ".join(map(str, ids)), _LONGEST_IDS)
    return [tuple(map(int, line.split())) for line in lines]


def short_hash(text: str) -> str:
    """Return a hash that is short enough for a name."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
