"""Listings that writes share: what each needs to see is in one that is read for all of them."""

from __future__ import annotations

import abc
import logging
from collections.abc import Collection, Iterable, Sequence

from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.errors import CloseAIError
from airflow_provider_closeai.client.models import Item, SubAccount, UnreadableItem
from airflow_provider_closeai.provisioning.errors import told

log = logging.getLogger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0


class Listing:
    """
    Accounts as they were listed.

    :param items: them, and entries that cannot be read.
    :param began: when the listing was begun, by the client's clock.
    :param ended: when it was whole.
    :param is_whole: the platform's filter had no part in it.
    """

    def __init__(self, items: Iterable[Item], began: float, ended: float, *, is_whole: bool = False) -> None:
        self.items = tuple(items)
        self.began, self.ended, self.is_whole = began, ended, is_whole
        self._by_alias: dict[str | None, tuple[list[SubAccount], list[UnreadableItem]]] = {}
        for item in self.items:
            accounts, unreadable = self._by_alias.setdefault(item.alias, ([], []))
            if isinstance(item, SubAccount):
                accounts.append(item)
            else:
                unreadable.append(item)

    def of(self, alias: str | None) -> tuple[list[SubAccount], list[UnreadableItem]]:
        """
        Return the accounts with exactly this alias, and the entries of it that cannot be read.

        :param alias: ``None``: what has none, or none that can be read.
        """
        return self._by_alias.get(alias, ([], []))


class Sent(abc.ABC):
    """
    A change that was sent, until a listing shows it.

    :param seconds: for how long a listing may not show it yet.
    :param done: what was accepted, for instance ``the deletion of ids [1, 2] was accepted``.
    :param doubt: why it is not known whether it was executed, where that is so.
    """

    def __init__(
        self,
        accounts: Sequence[SubAccount],
        seconds: float,
        done: str = "",
        doubt: CloseAIError | None = None,
    ) -> None:
        self.accounts, self.seconds, self._done, self._doubt = list(accounts), seconds, done, doubt
        self.is_shown = not accounts
        self._error: CloseAIError | None = None

    @property
    def aliases(self) -> set[str]:
        """The aliases of its accounts."""
        return {account.alias or "" for account in self.accounts}

    def look(self, items: Iterable[Item]) -> None:
        """
        Look whether a listing shows it.

        :param items: that are listed under its aliases, and perhaps others.
        """
        ids = {account.id for account in self.accounts}
        self.is_shown = self._shows([item for item in items if item.id in ids])

    def give_up(self, error: CloseAIError) -> None:
        """Stop looking: :meth:`conclude` raises the error."""
        self._error = told(error, self._done, self._doubt)

    def conclude(self) -> list[SubAccount]:
        """
        Return what came of its accounts.

        :raises CloseAIError: no listing shows the change.
        """
        if self._error is not None:
            raise self._error
        return self._conclude()

    @abc.abstractmethod
    def _shows(self, items: Sequence[Item]) -> bool: ...

    @abc.abstractmethod
    def _conclude(self) -> list[SubAccount]: ...


class Listings:
    """
    Reads listings for writes that run side by side, and shows each to those that were sent before it.

    :param known: a whole listing that may serve for each alias's first look.
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
        """When the oldest listing was begun that may still be returned."""
        known = self._known if self.is_known_good else None
        return self._client.clock.monotonic() if known is None else known.began

    def watch(self, sent: Sent) -> None:
        """Look for a change in each listing from now on, until one shows it."""
        if not sent.is_shown:
            self._sent.append(sent)

    def read(self, aliases: Collection[str], *, is_whole: bool = False) -> Listing:
        """
        Return a listing of aliases, of each a newer one than before.

        :param is_whole: read all accounts, without the platform's filter.
        """
        known = self._known
        is_first_look = not self._served & set(aliases)
        self._served |= set(aliases)
        if known is not None and is_first_look and self.is_known_good:
            return known
        return self._list(aliases, is_whole=is_whole)

    def _list(self, aliases: Collection[str], *, is_whole: bool = False) -> Listing:
        """List aliases, and with them what is looked for."""
        clock = self._client.clock
        began = clock.monotonic()
        wanted = {*aliases, *(each for sent in self._sent for each in sent.aliases)}
        found = self._client.iter_listing() if is_whole else self._client.iter_aliases(wanted)
        listing = Listing(found, began, clock.monotonic(), is_whole=is_whole)
        for item in listing.of(None)[1]:
            log.warning("A sub-account is left out: it cannot be read (%s).", item)
        for sent in self._sent:
            sent.look(listing.items)
        self._sent = [sent for sent in self._sent if not sent.is_shown]
        return listing

    def read_back(self) -> None:
        """Read until each change that was sent is shown, or its time is over."""
        clock = self._client.clock
        first, pause = clock.monotonic(), _FIRST_PAUSE
        while self._sent:
            try:
                listing = self._list(())
            except CloseAIError as error:
                for sent in self._sent:
                    sent.give_up(error)
                return
            # A listing shows no later state than that of its beginning, however long it takes.
            self._sent = [sent for sent in self._sent if listing.began < first + sent.seconds]
            if self._sent:
                left = first + max(sent.seconds for sent in self._sent) - clock.monotonic()
                clock.sleep(min(pause, max(left, 0.0)))
                pause = min(pause * 2, _LONGEST_PAUSE)


def read_back(client: CloseAIClient, sent: Sent) -> list[SubAccount]:
    """
    Read until a change is shown, or its time is over; return what came of its accounts.

    :raises CloseAIError: no listing shows it.
    """
    listings = Listings(client)
    listings.watch(sent)
    listings.read_back()
    return sent.conclude()
