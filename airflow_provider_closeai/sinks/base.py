"""The interface of a sink, and its use."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
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


class DatedTokenSink(TokenSink, Protocol):
    """A sink that can say what it holds; rotation asks it."""

    def held(self, accounts: Sequence[SubAccount]) -> Mapping[int, datetime | None]:
        """
        Say which of these accounts' present keys are kept safe, and since when.

        Raise where that cannot be found out: unknown is not absent.

        :param accounts: whose keys.
        :returns: by account id the time, with its zone, from which the key was there; ``None``: it is there,
            and nobody knows since when. An account that is not in it is delivered.
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


def require_sink(sink: Any) -> TokenSink:
    """
    Return what ``deliver_to`` is given, if it is a sink.

    :param sink: the parameter.
    :raises InvalidParameter: it is none.
    """
    found = check_sink(sink)
    if found is None:
        raise InvalidParameter(
            "deliver_to is None, and a rotation needs a sink: a key goes only once its successor is where "
            "its users find it. Give a sink; see docs/keys.md. Nothing was sent."
        )
    return found


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


class SinkKeys:
    """
    A sink as rotation needs it.

    :param sink: the sink.
    """

    def __init__(self, sink: TokenSink) -> None:
        self.name = f"{type(sink).__module__}.{type(sink).__qualname__}"
        self._sink = sink

    def held(self, accounts: Sequence[SubAccount]) -> dict[int, datetime | None] | None:
        """
        Say which keys the sink holds, and since when; ``None`` where it has no method for it.

        :param accounts: whose keys.
        :raises DeliveryFailed: it cannot say now.
        """
        ask = getattr(self._sink, "held", None)
        if not callable(ask):
            return None
        problem = "it returned no mapping of account ids to times with a zone, or None"
        with _no_bodies_in_logs():
            try:
                held = dict(ask(accounts))
                if all(since is None or since.utcoffset() is not None for since in held.values()):
                    return held
            except Exception as error:
                problem = error.__class__.__name__
        raise DeliveryFailed(
            f"{type(self._sink).__name__} could not say which keys it holds ({problem}). Nothing was "
            "changed: a retry asks again. Check the sink's connection and permissions.",
            call="deliver",
        )

    def deliver(self, accounts: Sequence[SubAccount]) -> dict[int, str]:
        """
        Deliver keys; see :func:`deliver_all`.

        :param accounts: whose keys.
        """
        return deliver_all(self._sink, accounts)


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
