"""A create's observation and steps: decisions return the steps, the runner takes them."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from airflow_provider_closeai.client.errors import CloseAIError
from airflow_provider_closeai.client.models import Item, SubAccount, UnreadableItem


class Listing:
    """
    Accounts as they were listed.

    :param items: the accounts, and entries that cannot be read.
    :param began: when the listing began, by the client's clock.
    :param ended: when it was complete.
    :param is_whole: it was read without the platform's filter.
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
        Return the accounts with exactly this alias, and its entries that cannot be read.

        :param alias: ``None``: entries without an alias, or whose alias cannot be read.
        """
        return self._by_alias.get(alias, ([], []))


class Earlier(msgspec.Struct, frozen=True, kw_only=True):
    """
    What earlier posts under an alias left, by earlier tries, other tasks or other hosts.

    :param believe_from: time from which absence may be believed; ``None``: at once.
    :param before: ids that existed before the task's first post; ``None``: not known.
    :param is_open: no listing has yet shown what one of them made, however long ago it was sent.
    """

    believe_from: float | None = None
    before: tuple[int, ...] | None = None
    is_open: bool = False


class List(msgspec.Struct, frozen=True):
    """
    List the alias's accounts now.

    :param is_whole: list without the platform's filter, which may miss some.
    """

    is_whole: bool = False


class Wait(msgspec.Struct, frozen=True):
    """Wait, then ask again."""

    seconds: float


class Post(msgspec.Struct, frozen=True):
    """Note that a post may be executed from now on, and send one."""

    count: int


class Done(msgspec.Struct, frozen=True):
    """All accounts exist; here they are, oldest id first."""

    accounts: tuple[SubAccount, ...]


class Fail(msgspec.Struct, frozen=True):
    """The create has failed."""

    error: CloseAIError


Step = List | Wait | Post | Done | Fail
