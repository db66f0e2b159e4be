"""The lock of creates across hosts: each run records what it posted, and the next one waits for that."""

from __future__ import annotations

from collections.abc import Collection

from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.local_state.claims import NameStore, StoreFailed
from airflow_provider_closeai.provisioning.journal import Limits, over
from airflow_provider_closeai.provisioning.records import Record, short_hash
from airflow_provider_closeai.provisioning.runner.deployment_lock import DeploymentLock
from airflow_provider_closeai.provisioning.steps import Earlier


class CreateLock(DeploymentLock):
    """The lock of one run of creates."""

    def __init__(self, client: CloseAIClient, names: NameStore) -> None:
        super().__init__(client, names, "create", "closeai_posts")
        self._number = 0
        self._mine: dict[str, Record] = {}  # by alias

    def acquire(self, aliases: Collection[str]) -> None:
        """Wait until this run holds these aliases, and read what others posted under them."""
        super().acquire(aliases)
        self._known = self._read(aliases)

    def earlier(self, alias: str, limits: Limits) -> Earlier | None:
        """
        Return what others' posts left under a claimed alias; ``None``: there were none recently.

        :param alias: a claimed alias: nobody else sends under it any more.
        """
        records = self._known[alias]
        if not records:
            return None
        now, counter = self._clock.monotonic(), short_hash(self._clock.counter)
        ends = [over(each.entry(), now=now, counter=counter, limits=limits, is_gone=True) for each in records]
        return Earlier(believe_from=max(ends), is_open=any(not each.settled for each in records))

    def allow(self, alias: str) -> float:
        """
        Record that a post may be sent now, and check that it still may.

        :returns: until when it may, by the clock's counter.
        :raises MustListAgain: it may not.
        :raises NotNoted: the store of names does not work.
        """
        self._number += 1
        before = [self._mine[alias]] if alias in self._mine else []
        self._mine[alias] = self._record(alias, self._number)
        until = self._fence(alias, [self._mine[alias]], before)
        self._lost = 0  # progress: a claim that only a long call lost may be made again
        return until

    def not_posted(self, alias: str) -> None:
        """Remove the record of a post that was not executed."""
        if alias in self._mine:
            self._remove([self._mine.pop(alias)])

    def settled(self, alias: str) -> None:
        """Record that a listing has shown all that this run posted."""
        if alias not in self._mine:
            return
        before = self._mine.pop(alias)
        try:
            self._add([self._record(alias, before.number, settled=True)])
        except StoreFailed:
            return  # others wait longer than necessary
        self._remove([before])
