"""Lets one run at a time write, across all hosts, with records of what each sent."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable

from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.errors import CloseAIError, ConfigError
from airflow_provider_closeai.local_state.claims import (
    KEEP,
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
from airflow_provider_closeai.provisioning.records import Record, parse_record, short_hash
from airflow_provider_closeai.provisioning.runner.locking import LOCK_WAIT

#: How often a run may lose its claim before it gives up.
MOST_LOST = 5


class MustListAgain(Exception):
    """The listing is out of date: others may have changed something since."""


class DeploymentLock:
    """
    A lock on aliases across hosts. A subclass decides what is recorded of the calls under it.

    :param call: the calls' name, for errors: ``create`` or ``update``.
    :param kind: the kind of records: the first word of their names.
    """

    def __init__(self, client: CloseAIClient, names: NameStore, call: str, kind: str) -> None:
        account = client.config.account
        self._account = account
        self._clock = client.clock
        self._before_page = client.before_page
        self._names = names
        self._call = call
        self._claims = f"closeai_lock.{account}."
        self._records = f"{kind}.{account}."
        self._sender = secrets.token_hex(8)
        self._known: dict[str, list[Record]] = {}  # others' calls that were taken into account, by alias
        self._claim: Claim | None = None
        self._lost = 0

    @property
    def is_held(self) -> bool:
        """Whether the aliases are claimed."""
        return self._claim is not None

    def acquire(self, aliases: Collection[str]) -> None:
        """
        Wait until this run holds these aliases. Earlier listings are out of date then.

        :param aliases: all aliases that the run may still send a call for.
        :raises AliasBusy: 15 minutes have passed, or the claim was lost too often.
        :raises NotNoted: the store of names does not work.
        """
        end = self._clock.monotonic() + LOCK_WAIT
        elements = {self._hash(alias) for alias in aliases}
        while self._lost < MOST_LOST:
            claim = Claim(self._names, self._claims, elements, self._clock)
            try:
                if claim.acquire(end - self._clock.monotonic()):
                    self._claim = claim
                    self._before_page.append(self.keep)
                break
            except ClaimLost:
                self._lost += 1
            except StoreFailed as failure:
                raise self._unavailable(failure) from None
            finally:
                if self._claim is not claim:
                    claim.release()
        if self._claim is None:
            raise too_busy(self._call)

    def keep(self) -> None:
        """
        Write a heartbeat if it is due. A claim that cannot be kept is given up without an error: only a run
        with more to send needs it, and finds out then.
        """
        if self._claim is None:
            return
        try:
            self._claim.keep()
        except (ClaimLost, StoreFailed):
            self._drop()

    def wait(self, seconds: float) -> None:
        """Wait, writing heartbeats when due."""
        end = self._clock.monotonic() + seconds
        while (left := end - self._clock.monotonic()) > 0:
            self._clock.sleep(min(left, LEASE / 4))
            self.keep()

    def release(self) -> None:
        """Let others in."""
        if self._claim is not None:
            self._claim.release()
            self._claim = None
            self._before_page.remove(self.keep)

    def _drop(self) -> None:
        self._lost += 1
        self.release()

    def _fence(self, alias: str, new: Collection[Record], old: Collection[Record]) -> float:
        """
        Record a call that may be sent now, and check that it still may.

        :param old: records that the new ones replace.
        :returns: until when it may be sent, by the clock's counter.
        :raises MustListAgain: it may not.
        :raises NotNoted: the store of names does not work.
        """
        if self._claim is None:
            raise MustListAgain
        try:
            self._add(new)
            self._remove(old)
            until = self._claim.check()
        except ClaimLost:
            self._drop()
            raise MustListAgain from None
        except StoreFailed as failure:
            raise self._unavailable(failure) from None
        posted = set(map(_key_of, self._read([alias])[alias]))
        if not self.is_held:  # the claim was lost during the reading
            raise MustListAgain
        if posted.difference(map(_key_of, self._known.get(alias, ()))):
            self._drop()
            raise MustListAgain
        return until

    def _add(self, records: Iterable[Record]) -> None:
        for record in records:
            add_name(self._names, self._prefix(record.alias) + record.name)

    def _remove(self, records: Iterable[Record]) -> None:
        remove_names(self._names, [self._prefix(record.alias) + record.name for record in records])

    def _record(self, alias: str, number: int, *, settled: bool = False) -> Record:
        at, epoch = self._clock.monotonic(), self._clock.now()
        counter = short_hash(self._clock.counter)
        return Record(self._hash(alias), self._sender, number, settled, counter, at, epoch)

    def _read(self, aliases: Collection[str]) -> dict[str, list[Record]]:
        """Return what others sent under each alias; remove old records."""
        now, by_hash = self._clock.now(), {self._hash(alias): alias for alias in aliases}
        found: dict[str, list[Record]] = {alias: [] for alias in aliases}
        for prefix in sorted({self._prefix(each) for each in by_hash}):
            self.keep()
            try:
                names = list_names(self._names, prefix)
            except StoreFailed as failure:
                raise self._unavailable(failure) from None
            records = [record for record in map(parse_record, names) if record is not None]
            self._remove(each for each in records if each.is_old(now, KEEP))
            for each in records:
                if each.alias in by_hash and each.sender != self._sender and not each.is_old(now, KEEP):
                    found[by_hash[each.alias]].append(each)
        return found

    def _hash(self, alias: str) -> str:
        return short_hash(f"{self._account} {alias}")

    def _prefix(self, alias_hash: str) -> str:
        """Return a record name's prefix, which only some records share, so that few are listed at once."""
        return f"{self._records}{alias_hash[:2]}."

    def _unavailable(self, failure: StoreFailed) -> CloseAIError:
        return not_noted(f"The store of names that all hosts share {failure}", failure.__cause__, self._call)


def _key_of(record: Record) -> tuple[str, int]:
    """Return a record's identity, which settling does not change."""
    return record.sender, record.number


def too_busy(call: str) -> AliasBusy:
    """Return the error of a run that could not lock its aliases."""
    return AliasBusy(
        "Tasks on other hosts have been changing accounts of the same aliases for "
        f"{LOCK_WAIT / 60:.0f} minutes, or Airflow's Variables are too slow to claim them. Nothing more was "
        "sent. A retry looks again.",
        call=call,
    )


def names_to_lock_with(client: CloseAIClient, names: NameStore | None) -> NameStore | None:
    """
    Return the names to lock with, according to the connection's ``lock``; ``None``: no lock across hosts.

    :raises ConfigError: ``lock`` is ``deployment``, but there are no shared names.
    """
    setting = client.config.lock
    if setting == "deployment" and names is None:
        raise ConfigError(
            "The connection's extra 'lock' is 'deployment', which takes a task of Airflow 3.3 or later. "
            "Nothing was sent. With 'auto', tasks of one host exclude each other where that is all there is "
            "(docs/connection.md)."
        )
    return None if setting == "host" else names
