"""What was posted by whom: names in a store that all hosts share, so that each knows what may still come.

A name is written before the post, and holds all that is known of it::

    <alias>.<poster>.<number>.<u or s>.<counter>.<ms of it>.<epoch seconds>

``u``: it may have been executed. ``s``: the listing of one base has shown it since. Its time is by a counter
of the poster's machine. On another machine it says nothing, and the post counts as sent at the last moment at
which that was possible. The epoch only says when a name is old enough to be removed.
"""

from __future__ import annotations

import hashlib
import re

import msgspec

from airflow_provider_closeai.provisioning.journal import Entry

#: Seconds after which a name is removed by whoever sees it. Longer than clocks of one deployment are apart: a
#: wrong time zone makes up to 14 hours.
KEEP = 16 * 3600.0
_NAME = re.compile(r"([0-9a-f]+)\.([0-9a-f]+)\.(\d+)\.([us])\.([0-9a-f]+)\.(\d+)\.(\d+)")


class PostRecord(msgspec.Struct, frozen=True):
    """
    One post.

    :param alias: its hash.
    :param poster: who sent it.
    :param number: which of the poster's posts.
    :param settled: the listing of one base has shown it.
    :param counter: a hash of the name of the counter.
    :param at: when it was noted, in seconds of the counter.
    :param epoch: the same, in seconds since the epoch.
    """

    alias: str
    poster: str
    number: int
    settled: bool
    counter: str
    at: float
    epoch: float

    @property
    def name(self) -> str:
        """The record as a name, without its prefix."""
        state = "s" if self.settled else "u"
        times = f"{max(self.at, 0) * 1000:.0f}.{max(self.epoch, 0):.0f}"
        return f"{self.alias}.{self.poster}.{self.number}.{state}.{self.counter}.{times}"

    def is_old(self, now: float) -> bool:
        """
        Say whether it may be removed, whatever the clocks are.

        :param now: seconds since the epoch.
        """
        return abs(now - self.epoch) > KEEP

    def entry(self) -> Entry:
        """Return what it says as a journal's entry."""
        return Entry(self.at, "", posted=True, settled=self.settled, counter=self.counter)


def parse_record(name: str) -> PostRecord | None:
    """
    Return what a name says; ``None`` where it is no record.

    :param name: without its prefix.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    alias, poster, number, state, counter, at, epoch = match.groups()
    return PostRecord(alias, poster, int(number), state == "s", counter, int(at) / 1000, float(epoch))


def short_hash(text: str) -> str:
    """
    Return a hash that may stand in a name.

    :param text: of anything.
    """
    return hashlib.sha256(text.encode()).hexdigest()[:16]
