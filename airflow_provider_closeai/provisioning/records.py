"""What was sent by whom: names in a store that all hosts share, so that each knows what may still come.

A name is written before its call is sent, and holds all that is known of the call::

    <alias>.<sender>.<number>.<u, r or s>.<counter>.<ms of it>.<epoch seconds>[.<prices>.<ids>]

``u``: it may have been executed. ``r``: it was repeated, and an attempt may still be executed once the
listing shows another one. ``s``: the listing of one base has shown it since. Its time is by a counter
of the sender's machine. On another machine it says nothing, and counts as sent at the last moment at which
that was possible. The epoch only says when a name is old enough to be removed. Of a create there is no more
than that. Of prices there are a digest and the accounts that got them.
"""

from __future__ import annotations

import hashlib
import re
import textwrap
from collections.abc import Iterable

import msgspec

from airflow_provider_closeai.provisioning.journal import Entry

_LONGEST_IDS = 100  # characters: Airflow keeps 250 of a Variable's key
_NAME = re.compile(
    r"([0-9a-f]+)\.([0-9a-f]+)\.(\d+)\.([urs])\.([0-9a-f]+)\.(\d+)\.(\d+)(?:\.([0-9a-f]+)\.([0-9_]+))?"
)


class Record(msgspec.Struct, frozen=True):
    """
    One call that changes something.

    :param alias: its hash.
    :param sender: who sent it.
    :param number: of creates: which of the sender's. Of prices: one more than what was there of the alias.
    :param settled: the listing of one base has shown it.
    :param counter: a hash of the name of the counter.
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
        """The record as a name, without its prefix."""
        state = "s" if self.settled else "r" if self.may_come else "u"
        times = f"{max(self.at, 0) * 1000:.0f}.{max(self.epoch, 0):.0f}"
        name = f"{self.alias}.{self.sender}.{self.number}.{state}.{self.counter}.{times}"
        return f"{name}.{self.prices}.{'_'.join(map(str, self.ids))}" if self.ids else name

    def is_old(self, now: float, keep: float) -> bool:
        """
        Say whether it may be removed, whatever the clocks are.

        :param now: seconds since the epoch.
        :param keep: how many seconds records are kept.
        """
        return abs(now - self.epoch) > keep

    def entry(self) -> Entry:
        """Return what it says as a journal's entry."""
        return Entry(self.at, "", posted=True, settled=self.settled, counter=self.counter)


def parse_record(name: str) -> Record | None:
    """
    Return what a name says; ``None`` where it is no record.

    :param name: without its prefix.
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
    """Divide ids, so that those of each piece fit into a name."""
    lines = textwrap.wrap(" ".join(map(str, ids)), _LONGEST_IDS)
    return [tuple(map(int, line.split())) for line in lines]


def short_hash(text: str) -> str:
    """Return a hash that may stand in a name."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
