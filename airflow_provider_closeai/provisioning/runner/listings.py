"""Listings that are read once for several writes."""

from __future__ import annotations

import abc
import operator
from collections.abc import Collection, Iterable, Sequence

from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.errors import CloseAIError
from airflow_provider_closeai.client.models import Item, SubAccount
from airflow_provider_closeai.provisioning.reading import read_aliases, read_until
from airflow_provider_closeai.provisioning.steps import Listing


class Sent(abc.ABC):
    """
    A change that was sent, until a listing shows it.

    :param seconds: how long listings may lag behind it.
    """

    def __init__(self, accounts: Sequence[SubAccount], seconds: float) -> None:
        self.accounts, self.seconds = list(accounts), seconds
        self.is_shown = not accounts
        self._error: CloseAIError | None = None

    @property
    def aliases(self) -> set[str]:
        """The aliases of its accounts."""
        return {account.alias or "" for account in self.accounts}

    def look(self, items: Iterable[Item]) -> None:
        """
        Check whether a listing shows the change.

        :param items: the entries under its aliases, and perhaps others.
        """
        ids = {account.id for account in self.accounts}
        self.is_shown = self._shows([item for item in items if item.id in ids])

    def give_up(self, error: CloseAIError) -> None:
        """Stop looking: :meth:`conclude` raises the error, unless a later listing shows the change."""
        self._error = error

    def conclude(self) -> list[SubAccount]:
        """
        Return its accounts afterwards.

        :raises CloseAIError: no listing shows the change.
        """
        if self._error is not None and not self.is_shown:
            raise self.explain(self._error)
        return self._conclude()

    @abc.abstractmethod
    def explain(self, error: CloseAIError) -> CloseAIError:
        """Return an error with what was accepted before it: see :func:`~.errors.with_history`."""

    @abc.abstractmethod
    def _shows(self, items: Sequence[Item]) -> bool: ...

    @abc.abstractmethod
    def _conclude(self) -> list[SubAccount]: ...


class Listings:
    """
    Reads listings for writes that run side by side, and passes each to the changes sent before it.

    :param known: a full listing that may serve for each alias's first look.
    :param good_for: for how many seconds from its beginning.
    """

    def __init__(self, client: CloseAIClient, known: Listing | None = None, good_for: float = 0.0) -> None:
        self._client = client
        self._known, self._good_for = known, good_for
        self._served: set[str] = set()
        self._sent: list[Sent] = []

    @property
    def is_known_good(self) -> bool:
        """Whether the known listing may still serve."""
        return self._known is not None and self._client.clock.monotonic() < self._known.began + self._good_for

    @property
    def since(self) -> float:
        """When the oldest listing that may still be returned began."""
        known = self._known if self.is_known_good else None
        return self._client.clock.monotonic() if known is None else known.began

    def watch(self, sent: Sent) -> None:
        """Check each listing from now on for a change, until one shows it."""
        if not sent.is_shown:
            self._sent.append(sent)

    def read(self, aliases: Collection[str], *, is_whole: bool = False) -> Listing:
        """
        Return a listing of aliases, newer for each alias than the one before.

        :param is_whole: read all accounts, without the platform's filter.
        """
        known = self._known
        is_first_look = not self._served & set(aliases)
        self._served |= set(aliases)
        if known is not None and is_first_look and self.is_known_good:
            return known
        return self._list(aliases, is_whole=is_whole)

    def _list(self, aliases: Collection[str], *, is_whole: bool = False) -> Listing:
        """List aliases, and those of the changes being watched."""
        wanted = {*aliases, *(each for sent in self._sent for each in sent.aliases)}
        listing = read_aliases(self._client, wanted, is_whole=is_whole)
        for sent in self._sent:
            sent.look(listing.items)
        self._sent = [sent for sent in self._sent if not sent.is_shown]
        return listing

    def read_back(self) -> None:
        """Read until each watched change is shown or its time is over."""
        if not self._sent:
            return
        first = self._client.clock.monotonic()

        def not_shown() -> list[Sent]:
            # However long a listing takes, it shows no later state than that of its beginning.
            began = self._list(()).began
            self._sent = [sent for sent in self._sent if began < first + sent.seconds]
            return self._sent

        try:
            read_until(self._client, not_shown, operator.not_, max(sent.seconds for sent in self._sent))
        except CloseAIError as error:
            for sent in self._sent:
                sent.give_up(error)


def read_back(client: CloseAIClient, sent: Sent) -> list[SubAccount]:
    """
    Read until a change is shown or its time is over; return its accounts afterwards.

    :raises CloseAIError: no listing shows it.
    """
    listings = Listings(client)
    listings.watch(sent)
    listings.read_back()
    return sent.conclude()
