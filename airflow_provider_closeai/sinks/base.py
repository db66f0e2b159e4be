"""The interface of a sink, and its use."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator
from typing import Protocol

from airflow_provider_closeai.client.errors import CloseAIError
from airflow_provider_closeai.client.models import SubAccount

log = logging.getLogger(__name__)


class TokenSink(Protocol):
    """Receives each account's key, at least once, and keeps it under the same reference each time."""

    def deliver(self, account: SubAccount) -> str:
        """
        Keep ``account.token.reveal()`` safe; write nothing when it is there already.

        :param account: whose key.
        :returns: the reference under which its owner finds it. Not secret.
        """


class DeliveryFailed(CloseAIError):
    """A sink did not take a key. The accounts exist; a retry delivers, and creates nothing."""


def deliver_all(sink: TokenSink, accounts: Iterable[SubAccount]) -> dict[int, str]:
    """
    Deliver every account's key.

    :param sink: to whom.
    :param accounts: whose keys.
    :returns: reference by account id.
    :raises DeliveryFailed: saying which account; what the sink itself said may show a key, and is dropped.
    """
    references: dict[int, str] = {}
    for account in accounts:
        failure = None
        with _no_bodies_in_logs():
            try:
                references[account.id] = sink.deliver(account)
            except Exception as error:
                failure = error.__class__.__name__
        if failure is not None:
            raise DeliveryFailed(
                f"{type(sink).__name__} did not take the key of sub-account {account.id} ({failure}); "
                f"{len(references)} were delivered before it. All accounts exist: a retry delivers to the "
                "same references and creates nothing. Check the sink's connection and permissions.",
                call="deliver",
            )
    log.info("Delivered %d keys: %s.", len(references), ", ".join(sorted(set(references.values()))[:20]))
    return references


@contextlib.contextmanager
def _no_bodies_in_logs() -> Iterator[None]:
    """Keep botocore from logging request bodies, keys included, at DEBUG."""
    logger = logging.getLogger("botocore")
    before = logger.level
    logger.setLevel(max(before, logging.INFO))
    try:
        yield
    finally:
        logger.setLevel(before)
