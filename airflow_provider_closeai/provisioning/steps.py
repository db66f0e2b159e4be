"""What a create does next: what its decision says, and its runner does."""

from __future__ import annotations

import msgspec

from airflow_provider_closeai.client.errors import CloseAIError
from airflow_provider_closeai.client.models import SubAccount


class List(msgspec.Struct, frozen=True):
    """
    List the alias's accounts now.

    :param is_whole: without the platform's filter, which may miss some.
    """

    is_whole: bool = False


class Wait(msgspec.Struct, frozen=True):
    """Wait; then ask again."""

    seconds: float


class Post(msgspec.Struct, frozen=True):
    """Note that a post may be executed from now on, and send one."""

    count: int


class Done(msgspec.Struct, frozen=True):
    """All is there: the accounts, oldest id first."""

    accounts: tuple[SubAccount, ...]


class Fail(msgspec.Struct, frozen=True):
    """It cannot be done."""

    error: CloseAIError


Step = List | Wait | Post | Done | Fail
