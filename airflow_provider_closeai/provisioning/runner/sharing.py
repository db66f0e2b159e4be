"""What one run of creates shares with other hosts: a claim on its aliases, and records of what it posted."""

from __future__ import annotations

import secrets
from collections.abc import Collection

from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.errors import CloseAIError, ConfigError
from airflow_provider_closeai.local_state.claims import (
    LEASE,
    Claim,
    ClaimLost,
    NameStore,
    StoreFailed,
    add_name,
    list_names,
    remove_names,
)
from airflow_provider_closeai.provisioning.errors import AliasBusy, not_noted
from airflow_provider_closeai.provisioning.journal import Limits, over
from airflow_provider_closeai.provisioning.posts import PostRecord, parse_record, short_hash
from airflow_provider_closeai.provisioning.runner.locking import LOCK_WAIT

_MOST_LOST = 5


class MustLookAgain(Exception):
    """What was listed says too little by now: others may have posted since. Nothing was sent."""


class Sharing:
    """
    The part of one run that other hosts see.

    :param client: the API; its clock counts.
    :param names: that all hosts share.
    """

    def __init__(self, client: CloseAIClient, names: NameStore) -> None:
        account = client.config.account
        self._account = account
        self._clock = client.clock
        self._names = names
        self._claims = f"closeai_lock.{account}."
        self._posts = f"closeai_posts.{account}."
        self._poster = secrets.token_hex(8)
        self._number = 0
        self._claim: Claim | None = None
        self._lost = 0
        self._mine: dict[str, list[str]] = {}  # full names of records, by alias
        self._known: dict[str, set[tuple[str, int]]] = {}  # posts of others that the last look allowed for

    @property
    def is_held(self) -> bool:
        """Whether the aliases are claimed."""
        return self._claim is not None

    def claim(self, aliases: Collection[str]) -> None:
        """
        Wait until these aliases are this run's own, over all hosts. What was listed before says nothing then.

        :param aliases: all that the run may still post under.
        :raises AliasBusy: after 15 minutes, or where the claim is lost again and again.
        :raises NotNoted: the store of names does not work.
        """
        end = self._clock.monotonic() + LOCK_WAIT
        elements = {self._hash(alias) for alias in aliases}
        while self._lost < _MOST_LOST:
            claim = Claim(self._names, self._claims, elements, self._clock)
            is_held = False
            try:
                is_held = claim.acquire(end - self._clock.monotonic())
            except ClaimLost:
                self._lost += 1
                continue
            except StoreFailed as failure:
                raise _unavailable(failure) from None
            finally:
                if not is_held:
                    claim.release()
            if not is_held:
                break
            self._claim = claim
            return
        raise AliasBusy(
            "Tasks on other hosts have been creating under the same aliases for "
            f"{LOCK_WAIT / 60:.0f} minutes, or Airflow's Variables are too slow to claim them. Nothing more "
            "was created. A retry looks again.",
            call="create",
        )

    def keep(self) -> None:
        """Say that this run lives, where it is time to; a claim that is lost is not held any more."""
        if self._claim is None:
            return
        try:
            self._claim.keep()
        except ClaimLost:
            self._drop()
        except StoreFailed as failure:
            raise _unavailable(failure) from None

    def wait(self, seconds: float) -> None:
        """
        Wait, and say now and then that this run lives.

        :param seconds: how long.
        """
        end = self._clock.monotonic() + seconds
        while (left := end - self._clock.monotonic()) > 0:
            self._clock.sleep(min(left, LEASE / 4))
            self.keep()

    def doubt(self, alias: str, limits: Limits) -> float | None:
        """
        Return for how many seconds absence must not be believed; ``None``: nothing is in doubt.

        :param alias: that is claimed: whoever posted under it sends nothing any more.
        :param limits: how long things may take.
        """
        records = self._records(alias)
        self._known[alias] = {(each.poster, each.number) for each in records}
        now, counter = self._clock.monotonic(), short_hash(self._clock.counter)
        ends = [
            over(each.entry(), now=now, counter=counter, limits=limits, is_gone=True) - now
            for each in records
        ]
        return max((left for left in ends if left > 0), default=None)

    def allow(self, alias: str) -> float:
        """
        Record that a post may leave now, and look whether it still may.

        :param alias: its alias.
        :returns: until when it may, by the clock's counter.
        :raises MustLookAgain: it may not.
        :raises NotNoted: the store of names does not work.
        """
        claim, before = self._claim, self._mine.pop(alias, [])
        if claim is None:
            raise MustLookAgain
        try:
            self._record(alias, settled=False)
            remove_names(self._names, before)  # the new one says all that they said, and more
            until = claim.check()
        except ClaimLost:
            self._drop()
            raise MustLookAgain from None
        except StoreFailed as failure:
            raise _unavailable(failure) from None
        if {(each.poster, each.number) for each in self._records(alias)} - self._known.get(alias, set()):
            self._drop()
            raise MustLookAgain
        return until

    def not_posted(self, alias: str) -> None:
        """
        Take back the record of a post that was not executed.

        :param alias: its alias.
        """
        remove_names(self._names, self._mine.pop(alias, []))

    def settled(self, alias: str) -> None:
        """
        Record that the listing has shown all that this run posted.

        :param alias: under which alias.
        """
        before = self._mine.pop(alias, [])
        if before:
            try:
                self._record(alias, settled=True)
            except StoreFailed:
                return  # others wait longer than they must
            remove_names(self._names, before)

    def release(self) -> None:
        """Let others in."""
        if self._claim is not None:
            self._claim.release()
            self._claim = None

    def _drop(self) -> None:
        self._lost += 1
        self.release()

    def _hash(self, alias: str) -> str:
        return short_hash(f"{self._account} {alias}")

    def _bucket(self, alias: str) -> str:
        return f"{self._posts}{self._hash(alias)[:2]}."

    def _record(self, alias: str, *, settled: bool) -> None:
        self._number += not settled
        record = PostRecord(
            self._hash(alias),
            self._poster,
            self._number,
            settled,
            short_hash(self._clock.counter),
            self._clock.monotonic(),
            self._clock.now(),
        )
        name = self._bucket(alias) + record.name
        self._mine.setdefault(alias, []).append(name)
        add_name(self._names, name)

    def _records(self, alias: str) -> list[PostRecord]:
        """Return what others posted under an alias; removes what is old."""
        prefix, wanted, now = self._bucket(alias), self._hash(alias), self._clock.now()
        try:
            names = list_names(self._names, prefix)
        except StoreFailed as failure:
            raise _unavailable(failure) from None
        records = [record for record in map(parse_record, names) if record is not None]
        remove_names(self._names, [prefix + each.name for each in records if each.is_old(now)])
        return [
            each
            for each in records
            if each.alias == wanted and each.poster != self._poster and not each.is_old(now)
        ]


def sharing_of(client: CloseAIClient, names: NameStore | None) -> Sharing | None:
    """
    Return what a run shares with other hosts, as the connection's ``lock`` says; ``None``: nothing.

    :param client: the API.
    :param names: that all hosts share, where there is such a store.
    :raises ConfigError: ``lock`` is ``deployment``, and there is none.
    """
    setting = client.config.lock
    if setting == "deployment" and names is None:
        raise ConfigError(
            "The connection's extra 'lock' is 'deployment', which takes a task of Airflow 3.3 or later. "
            "Nothing was sent. With 'auto', tasks of one host exclude each other where that is all there is "
            "(docs/connection.md)."
        )
    return None if setting == "host" or names is None else Sharing(client, names)


def _unavailable(failure: StoreFailed) -> CloseAIError:
    return not_noted(f"The store of names that all hosts share {failure}", failure.__cause__)
