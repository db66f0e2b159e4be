"""The interface of sinks, and their use."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol, cast

from airflow_provider_closeai.client.errors import CloseAIError, InvalidParameter, MaskedKeys
from airflow_provider_closeai.client.models import SubAccount

log = logging.getLogger(__name__)

_SHOWN = 20
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")  # in a ``repr``: differs between processes


class TokenSink(Protocol):
    """Receives each account's key at least once, and stores it under the same reference each time."""

    def deliver(self, account: SubAccount) -> str:
        """
        Store ``account.token.reveal()``; write nothing if it is stored already.

        :returns: the reference under which the key's owner finds it. Not secret.
        """


class DatedTokenSink(TokenSink, Protocol):
    """A sink that can tell what it holds, for rotation."""

    def held(self, accounts: Sequence[SubAccount]) -> Mapping[int, datetime | None]:
        """
        Return which of these accounts' current keys are stored, and since when.

        Raise if the lookup fails: unknown is not absent.

        :returns: by account id, the time (with a zone) since when the key is stored; ``None``: it is stored
            since an unknown time. The keys of accounts that are missing here are delivered.
        """


class BulkTokenSink(DatedTokenSink, Protocol):
    """
    A sink that takes many keys at once; required if its secrets belong to aliases.

    :param per_alias: whether a secret belongs to an alias: a new key in it replaces an older one.
    """

    per_alias: bool

    def deliver_all(
        self, accounts: Sequence[SubAccount], counts: Mapping[str, int]
    ) -> Iterable[tuple[int, str]]:
        """
        Store many keys; write nothing that is stored already.

        :param accounts: the keys' accounts. With ``per_alias`` their keys become all the keys of their
            aliases' secrets, newest first.
        :param counts: how many accounts each alias will have.
        :returns: each account's id and reference, one by one as they are stored.
        """


class DeliveryFailed(CloseAIError):
    """A sink did not take a key. The accounts exist; a retry delivers and creates nothing."""


class SecretRefused(Exception):
    """
    One secret cannot be written, but others can.

    :param message: which secret, why, and what to do. It is shown, so it must not contain a key.
    """


def require_sink(sink: Any, counts: Mapping[str, int]) -> TokenSink:
    """
    Return the value of ``deliver_to`` if it is a sink that can take the keys.

    :param counts: how many accounts each alias will have.
    :raises InvalidParameter: it is not a sink, or cannot hold these keys.
    """
    if sink is None:
        raise InvalidParameter(
            "deliver_to is None, and a rotation needs a sink: a key goes only once its successor is where "
            "its users find it. Give a sink; see docs/keys.md. Nothing was sent."
        )
    if isinstance(sink, type) or not callable(getattr(sink, "deliver", None)):
        what = f"the class {sink.__name__}" if isinstance(sink, type) else f"of type {type(sink).__name__}"
        raise InvalidParameter(
            f"deliver_to is {what}, not a sink: give an object with a method deliver(account), such as "
            "EncryptedFileSink(...); see docs/keys.md. Nothing was sent."
        )
    if callable(check := getattr(sink, "check", None)):
        for alias, count in counts.items():
            check(alias, count)
    return cast("TokenSink", sink)


class SinkKeys:
    """
    A sink, wrapped for creates and rotations.

    :param counts: how many accounts each alias will have.
    :param get_base: returns the best healthy base, with ``/v1``; called if connections are delivered.
    """

    def __init__(self, sink: TokenSink, counts: Mapping[str, int], get_base: Callable[[], str]) -> None:
        self.name = _name_of(sink)
        self._sink: Any = sink
        self._counts = counts
        self._per_alias = getattr(sink, "per_alias", False)
        self._get_base = get_base
        self._bound: Any = None
        self.refused: frozenset[int] = frozenset()

    def held(self, accounts: Sequence[SubAccount]) -> dict[int, datetime | None] | None:
        """
        Return which keys the sink holds, and since when; ``None`` if it has no method to tell.

        A sink with ``held_all`` reports no key of a secret that is not as :meth:`deliver` would leave it.

        :param accounts: the keys' accounts; of each alias all that exist.
        :raises DeliveryFailed: the sink failed.
        """
        if not callable(getattr(self._sink, "held", None)):
            return None
        sink = self._with_base()
        with _no_bodies_in_logs():
            try:
                if callable(getattr(sink, "held_all", None)):
                    said = sink.held_all(self._present(accounts), self._counts)
                else:
                    said = sink.held(accounts)
                held = _read_held(said)
                if held is not None:
                    return {each.id: held[each.id] for each in accounts if each.id in held}
                problem = "it returned no mapping of account ids to times with a zone, or None"
            except Exception as error:
                problem = _problem(error)
        raise DeliveryFailed(
            f"{type(self._sink).__name__} could not say which keys it holds ({problem}). No account "
            "was created or deleted: a retry asks again. Check the sink's connection and permissions.",
            call="deliver",
        )

    def _present(self, accounts: Sequence[SubAccount]) -> Sequence[SubAccount]:
        """Return the accounts whose keys the sink must hold."""
        return newest(accounts, self._counts) if self._per_alias else accounts

    def replaced(self, accounts: Sequence[SubAccount]) -> frozenset[int]:
        """Return the accounts whose keys are replaced by newer ones, in secrets that belong to aliases."""
        present = {account.id for account in self._present(accounts)}
        return frozenset(account.id for account in accounts if account.id not in present)

    def deliver(self, accounts: Sequence[SubAccount]) -> dict[int, str]:
        """
        Deliver keys; to a secret that belongs to an alias, those of its newest accounts.

        :param accounts: the keys' accounts; of each alias all that remain.
        :returns: reference by account id.
        :raises DeliveryFailed: names the account, not the sink's own text, which may contain a key.
        :raises MaskedKeys: the listing hides some keys; the others were delivered.
        """
        accounts = self._present(accounts)
        masked = [account for account in accounts if account.token.is_masked]
        hidden = {account.alias for account in masked} if self._per_alias else set()
        whole = [each for each in accounts if not each.token.is_masked and each.alias not in hidden]
        references = self._deliver(whole) if whole else {}
        if references:
            _log_delivery(type(self._sink).__name__, references)
        if masked:
            raise MaskedKeys(
                f"The sub-accounts {[account.id for account in masked]} exist, and the listing hides their "
                f"keys: they were not delivered (deliver_to); {len(references)} others were. Nothing was "
                "overwritten. Let the platform list whole keys to this main account; or delete these "
                "accounts by id in the platform's console, and run the task again.",
                call="deliver",
            )
        return references

    def _deliver(self, accounts: Sequence[SubAccount]) -> dict[int, str]:
        """Deliver one by one, so that an error can say how many were delivered."""
        sink = self._with_base()
        self.refused = frozenset()
        references: dict[int, str] = {}
        refusal = ""
        tokens = {account.id: account.token for account in accounts}  # a traceback may show locals
        problem = "it returned no text that may be shown as the reference"
        with _no_bodies_in_logs():
            try:
                if callable(getattr(sink, "deliver_all", None)):
                    kept = iter(sink.deliver_all(accounts, self._counts))
                else:
                    kept = ((account.id, sink.deliver(account)) for account in accounts)
                for account_id, reference in kept:
                    if not isinstance(reference, str) or not reference.strip():
                        break
                    if tokens[account_id].reveal().removeprefix("sk-") in reference:
                        break
                    references[account_id] = reference
            except SecretRefused as error:
                refusal = str(error)
            except Exception as error:
                problem = _problem(error)
        left = [account.id for account in accounts if account.id not in references]
        if not left:
            return references
        if refusal:
            self.refused = frozenset(left)
            raise DeliveryFailed(
                f"{type(self._sink).__name__} did not take the key of sub-account {left[0]}: {refusal} All "
                f"accounts exist, and the keys of {len(references)} others were delivered: a retry delivers "
                "what is left.",
                call="deliver",
            )
        raise DeliveryFailed(
            f"{type(self._sink).__name__} did not take the key of sub-account {left[0]} ({problem}); "
            f"{len(references)} were delivered before it. All accounts exist: a retry delivers to the same "
            "references and creates nothing. Check the sink's connection and permissions.",
            call="deliver",
        )

    def _with_base(self) -> Any:
        """Return the sink, with the base to write into connections."""
        if self._bound is None:
            needs_base = getattr(self._sink, "as_connection", False) and self._sink.base_url is None
            self._bound = self._sink.with_base(self._get_base()) if needs_base else self._sink
        return self._bound


def _read_held(said: object) -> dict[int, datetime | None] | None:
    """
    Read what a sink says it holds; ``None`` if it has another form.

    Ids may be text, as in JSON. Times become plain datetimes in UTC: pendulum's do not mix with them.
    """
    if not isinstance(said, Mapping):
        return None
    found: dict[int, datetime | None] = {}
    for key, since in said.items():
        is_dated = isinstance(since, datetime) and since.utcoffset() is not None
        if not (since is None or is_dated) or not str(key).isdecimal():
            return None
        found[int(key)] = datetime.fromisoformat(since.isoformat()).astimezone(UTC) if is_dated else None
    return found


def _name_of(sink: object) -> str:
    """Return the sink's name, the same in all runs: its class and a digest of its own ``repr``, if any."""
    kind = type(sink)
    name = f"{kind.__module__}.{kind.__qualname__}"
    if kind.__repr__ is object.__repr__:
        return name
    try:
        place = _ADDRESS.sub("", repr(sink))
    except Exception:  # the sink's own error: no reason to fail the task
        return name
    return f"{name} {hashlib.sha256(place.encode(errors='backslashreplace')).hexdigest()[:8]}"


def newest(accounts: Sequence[SubAccount], counts: Mapping[str, int]) -> list[SubAccount]:
    """
    Return the newest accounts of each alias, newest first: those whose keys should be used.

    Disabled accounts come last; one whose age cannot be read is never replaced, so it comes first.

    :param counts: how many of each alias; all if the alias is missing here.
    """
    groups: dict[str, list[SubAccount]] = {}
    for account in sorted(accounts, key=_rank, reverse=True):
        groups.setdefault(account.alias or "", []).append(account)
    return [each for alias, group in groups.items() for each in group[: counts.get(alias, len(group))]]


def _rank(account: SubAccount) -> tuple[bool, float, int]:
    created = account.created
    return account.enabled is not False, math.inf if created is None else created.timestamp(), account.id


def _log_delivery(sink: str, references: Mapping[int, str]) -> None:
    shown = sorted(set(references.values()))
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    log.info(
        "Delivered the keys of %d sub-accounts to %s: %s%s.",
        len(references),
        sink,
        ", ".join(shown[:_SHOWN]),
        more,
    )


def _problem(error: Exception) -> str:
    """Return an error's class, and AWS's error code, if any; its text may contain a key."""
    answer = getattr(error, "response", None)
    code = answer.get("Error", {}).get("Code") if isinstance(answer, dict) else None
    is_word = isinstance(code, str) and code.isascii() and code.isalnum()
    return f"{type(error).__name__}: {code}" if is_word else type(error).__name__


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
