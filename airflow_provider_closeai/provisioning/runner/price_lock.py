"""The lock of repricings across hosts: a merge into an older state would undo what others set."""

from __future__ import annotations

from collections.abc import Callable, Collection

import msgspec

from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.local_state.claims import NameStore, StoreFailed
from airflow_provider_closeai.provisioning.journal import Entry, Limits, over, prices_digest
from airflow_provider_closeai.provisioning.records import Record, pieces, short_hash
from airflow_provider_closeai.provisioning.reprice import Batch
from airflow_provider_closeai.provisioning.runner import locking
from airflow_provider_closeai.provisioning.runner.deployment_lock import DeploymentLock


class PriceLock(DeploymentLock):
    """The lock of one repricing."""

    def __init__(self, client: CloseAIClient, names: NameStore) -> None:
        super().__init__(client, names, "update", "closeai_prices")
        config = client.config
        self._limits = Limits(locking.CONFIRM_WITHIN, config.max_late, 2 * config.connect_timeout)
        self._first_seen: dict[str, float] = {}  # by record name
        self._sent: dict[tuple[int, ...], list[Record]] = {}  # by the accounts of a batch
        self._number = 0
        self._read_at = 0.0

    def begin_reading(self) -> None:
        """Begin to read accounts: they are read as of now, however long that takes."""
        self.keep()
        self._read_at = self._clock.monotonic()

    def look(self, aliases: Collection[str]) -> None:
        """Read what others sent."""
        found = self._read(aliases)
        self._known |= found
        now, counter = self._clock.monotonic(), short_hash(self._clock.counter)
        for each in (record for records in found.values() for record in records):
            self._number = max(self._number, each.number)
            at = min(each.at, now) if each.counter == counter else now
            self._first_seen.setdefault(each.name, at)

    def last(self) -> dict[int, Record]:
        """
        Return what others sent last to each account of the aliases that were read, if it may still be on its
        way.
        """
        last: dict[int, Record] = {}
        for each in sorted((r for records in self._known.values() for r in records), key=lambda r: r.number):
            last |= dict.fromkeys(each.ids, each)
        return {account_id: record for account_id, record in last.items() if self._may_come(record)}

    def _may_come(self, record: Record) -> bool:
        now = self._read_at
        entry = Entry(self._first_seen[record.name], "")
        return now < over(entry, now=now, counter="", limits=self._limits, is_gone=self.is_held)

    def allow(self, batch: Batch) -> Callable[[], bool]:
        """
        Record that a batch may be sent now, and check that it still may.

        :returns: a function that says whether it still may.
        :raises MustListAgain: it may not.
        :raises NotNoted: the store of names does not work.
        """
        before, leaves_by = self._sent.get(batch.ids, []), self._clock.monotonic() + self._limits.leave_within
        self._number += 1
        new = self._sent[batch.ids] = self._records_of(batch, self._number, may_come=bool(before))
        until = min(leaves_by, self._fence(batch.alias or "", new, before))
        return lambda: self._clock.monotonic() < until

    def not_sent(self, batch: Batch) -> None:
        """Remove the record of a batch that was not executed."""
        self._remove(self._sent.pop(batch.ids, []))

    def shown(self, batch: Batch, *, is_final: bool) -> None:
        """
        Record that a listing has shown a batch; remove the records that it replaces.

        :param is_final: no attempt of the batch can still be executed.
        """
        self.keep()
        sent = self._sent.pop(batch.ids, [])
        if not sent or not self.is_held:
            return
        old = [each for each in self._known.get(batch.alias or "", ()) if set(each.ids) <= set(batch.ids)]
        if is_final and sent[0].may_come:
            old += sent
            try:
                self._add(self._records_of(batch, sent[0].number, may_come=False))
            except StoreFailed:
                return  # others wait longer than necessary
        self._remove(old)

    def _records_of(self, batch: Batch, number: int, *, may_come: bool) -> list[Record]:
        record = self._record(batch.alias or "", number)
        sent = msgspec.structs.replace(record, prices=prices_digest(batch.pricing), may_come=may_come)
        return [msgspec.structs.replace(sent, ids=piece) for piece in pieces(batch.ids)]
