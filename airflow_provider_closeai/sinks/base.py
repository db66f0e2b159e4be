"""The interface of a sink, and its use."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, cast

from airflow_provider_closeai.client.errors import CloseAIError, InvalidParameter, MaskedKeys
from airflow_provider_closeai.client.models import SubAccount

log = logging.getLogger(__name__)

_SHOWN = 20


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


def check_sink(sink: Any) -> TokenSink | None:
    """
    Return what ``deliver_to`` is given, if it is a sink or ``None``.

    :param sink: the parameter.
    :raises InvalidParameter: it has no method ``deliver``, or is a class.
    """
    if sink is None:
        return None
    if isinstance(sink, type) or not callable(getattr(sink, "deliver", None)):
        what = f"the class {sink.__name__}" if isinstance(sink, type) else f"of type {type(sink).__name__}"
        raise InvalidParameter(
            f"deliver_to is {what}, not a sink: give an object with a method deliver(account), such as "
            "EncryptedFileSink(...); see docs/keys.md. Nothing was sent."
        )
    return cast("TokenSink", sink)


def deliver_all(sink: TokenSink, accounts: Sequence[SubAccount]) -> dict[int, str]:
    """
    Deliver every account's key.

    :param sink: to whom.
    :param accounts: whose keys.
    :returns: reference by account id.
    :raises DeliveryFailed: saying which account; what the sink itself said may show a key, and is dropped.
    :raises MaskedKeys: the listing hides the keys of some; the others were delivered.
    """
    masked = [account for account in accounts if account.token.is_masked]
    references = {
        account.id: _deliver(sink, account, index)
        for index, account in enumerate(each for each in accounts if not each.token.is_masked)
    }
    if references:
        shown = sorted(set(references.values()))
        more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
        log.info(
            "Delivered the keys of %d sub-accounts to %s: %s%s.",
            len(references),
            type(sink).__name__,
            ", ".join(shown[:_SHOWN]),
            more,
        )
    if masked:
        raise MaskedKeys(
            f"The sub-accounts {[account.id for account in masked]} exist, and the listing hides their keys: "
            f"they were not delivered (deliver_to); {len(references)} others were. Nothing was overwritten. "
            "Let the platform list whole keys to this main account; or delete these accounts by id in the "
            "platform's console, and run the task again.",
            call="deliver",
        )
    return references


def _deliver(sink: TokenSink, account: SubAccount, before: int) -> str:
    problem = "it returned no text that may be shown as the reference"
    with _no_bodies_in_logs():
        try:
            reference: object = sink.deliver(account)
            if isinstance(reference, str) and account.token.reveal() not in reference:
                return reference
        except Exception as error:
            problem = error.__class__.__name__
    raise DeliveryFailed(
        f"{type(sink).__name__} did not take the key of sub-account {account.id} ({problem}); "
        f"{before} were delivered before it. All accounts exist: a retry delivers to the same "
        "references and creates nothing. Check the sink's connection and permissions.",
        call="deliver",
    )


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
