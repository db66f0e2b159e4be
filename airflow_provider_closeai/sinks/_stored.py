"""What all key stores share: which secret a key goes to, its value, and when it is written."""

from __future__ import annotations

import abc
import copy
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_closeai.client.errors import InvalidParameter
from airflow_provider_closeai.sinks._reference import Reference
from airflow_provider_closeai.sinks.base import SecretRefused

if TYPE_CHECKING:
    from typing import Self

    from airflow_provider_closeai.client.models import SubAccount

#: A secret in a store: its value, or why it cannot be written; and since when it has had that value.
Stored = tuple[Any, datetime | None]


_KEY, _MASK = 20, 8  # fewest characters of a key; most that stand for the hidden rest of a shortened one


class StoredSink(abc.ABC):
    """
    A sink that stores keys under names.

    A secret that already has the right value is not written again.

    :param reference: the secrets' names, with ``{alias}`` or ``{id}``.
    :param as_connection: store an Airflow connection of type ``openai``, not the bare key.
    :param base_url: that connection's host; ``None``: the best healthy base when a key is delivered.
    """

    _ALLOWED: ClassVar[str] = r"A-Za-z0-9/_+=.@-"
    _LONGEST: ClassVar[int] = 512

    def __init__(self, reference: str, as_connection: bool = False, base_url: str | None = None) -> None:
        self._reference = Reference(reference, self._ALLOWED, self._LONGEST)
        self.reference = reference
        self.as_connection = as_connection
        self.base_url = base_url
        if base_url is not None and not as_connection:
            raise InvalidParameter(
                "base_url is for as_connection=True: a bare key has no base. Leave it out."
            )

    @property
    def per_alias(self) -> bool:
        """Whether a secret belongs to an alias, so that a new key replaces an older one."""
        return self._reference.per_alias

    @property
    def _form(self) -> str:
        """The end of a ``repr``."""
        return f", as_connection=True, base_url={self.base_url!r}" if self.as_connection else ""

    def with_base(self, base_url: str) -> Self:
        """
        Return a copy of this sink that writes connections to a base, unless it has one of its own.

        :param base_url: the base, with ``/v1``.
        """
        found = copy.copy(self)
        found.base_url = self.base_url or base_url
        return found

    def check(self, alias: str, count: int) -> None:
        """
        Check, before anything is created, that the keys can be delivered.

        :raises InvalidParameter: they cannot; says why, and the cure.
        """
        self._reference.name(0, alias)
        if self.as_connection and self.per_alias and count > 1:
            raise InvalidParameter(
                f"The alias {alias!r} shall have {count} accounts, and a connection holds one key: reference "
                f"{self.reference!r} would leave keys out. Add {{id}} to it, or set count to 1. Nothing was "
                "sent."
            )

    def deliver(self, account: SubAccount) -> str:
        """
        Store one key.

        :returns: the secret's name.
        """
        [(_, name)] = self.deliver_all([account], {})
        return name

    def deliver_all(
        self, accounts: Sequence[SubAccount], counts: Mapping[str, int]
    ) -> Iterator[tuple[int, str]]:
        """
        Store keys; they become all the keys of a secret that belongs to an alias.

        :param accounts: the keys' accounts; newest first within a secret that belongs to an alias.
        :param counts: how many accounts each alias will have: if more than 1, its secret is a list.
        :returns: each account's id, and the name of its secret.
        """
        groups = self._by_name(accounts)
        store = self._connect()
        stored = self._read(store, list(groups))
        refusal: SecretRefused | None = None
        for name, group in groups.items():
            old = stored[name][0] if name in stored else None
            refused = old if isinstance(old, SecretRefused) else self._hidden(group, old)
            if refused is not None:  # the other secrets are still written
                refusal = refusal or refused
                continue
            value = self._connection(group[0], old) if self.as_connection else self._keys_of(group, counts)
            if value != old:
                self._write(store, name, value, group[0], is_new=name not in stored)
            yield from ((account.id, name) for account in group)
        if refusal is not None:
            raise refusal

    def _hidden(self, group: Sequence[SubAccount], old: Any) -> SecretRefused | None:
        """Refuse to replace a key with one that looks like its masked form: then the listing hides keys."""
        if old is None:
            return None
        kept = [str(_fields(old).get("password") or "")] if self.as_connection else self._keys(old)
        for account in group:
            key = account.token.reveal()
            if key not in kept and any(is_part_shown(key, each) for each in kept):
                return SecretRefused(
                    f"{self._name(account)} holds a key of which the listed one shows a part only, so the "
                    "listing hides keys, and nothing was overwritten. Let the platform list whole keys to "
                    "this main account. If the listed one is whole, remove that secret first."
                )
        return None

    def held(self, accounts: Sequence[SubAccount]) -> dict[int, datetime | None]:
        """Return whose current keys are stored, and since when; connections to another base do not count."""
        stored = self._read(self._connect(), list(dict.fromkeys(map(self._name, accounts))))
        found: dict[int, datetime | None] = {}
        for account in accounts:
            value, since = stored.get(self._name(account), (None, None))
            if self.as_connection:
                fields = _fields(value)
                key, base = fields.get("password"), fields.get("host")
                is_kept = key == account.token.reveal() and self.base_url in (None, base)
                since = _since(fields) or since
            else:
                is_kept = account.token.reveal() in self._keys(value)
            if is_kept:
                found[account.id] = since
        return found

    def held_all(
        self, accounts: Sequence[SubAccount], counts: Mapping[str, int]
    ) -> dict[int, datetime | None]:
        """
        Return whose current keys are stored just as :meth:`deliver_all` would leave them, and since when.

        If an alias's secret has a key too many or too few, or another form, none of its keys counts: it must
        be written anew.

        :param accounts: as :meth:`deliver_all` takes them.
        :param counts: as there.
        """
        if self.as_connection or not self.per_alias:
            return self.held(accounts)
        groups = self._by_name(accounts)
        stored = self._read(self._connect(), list(groups))
        return {
            account.id: stored[name][1]
            for name, group in groups.items()
            if name in stored and stored[name][0] == self._keys_of(group, counts)
            for account in group
        }

    def _by_name(self, accounts: Sequence[SubAccount]) -> dict[str, list[SubAccount]]:
        groups: dict[str, list[SubAccount]] = {}
        for account in accounts:
            groups.setdefault(self._name(account), []).append(account)
        return groups

    def _keys_of(self, group: Sequence[SubAccount], counts: Mapping[str, int]) -> Any:
        """Return the value of a secret with bare keys."""
        is_list = self.per_alias and counts.get(group[0].alias or "", len(group)) > 1
        return self._value(group, is_list)

    @abc.abstractmethod
    def _connect(self) -> Any:
        """Connect to the store, anew for each call, so that a sink remains a plain value."""

    @abc.abstractmethod
    def _read(self, store: Any, names: Sequence[str]) -> dict[str, Stored]:
        """Read secrets, skipping those that do not exist. Raise if that cannot be known."""

    @abc.abstractmethod
    def _write(self, store: Any, name: str, value: Any, account: SubAccount, is_new: bool) -> None:
        """Write a secret, as a new version if the store has versions."""

    def _value(self, accounts: Sequence[SubAccount], is_list: bool) -> Any:
        """Return a secret's value: text, the key itself or a JSON list of keys."""
        keys = [account.token.reveal() for account in accounts]
        return json.dumps(keys) if is_list else keys[0]

    def _keys(self, value: Any) -> list[str]:
        """Return the keys in a secret's value."""
        text = str(value)
        try:
            listed = json.loads(text) if text.startswith("[") else [text]
        except ValueError:
            return []
        return [str(key) for key in listed]

    def _connection(self, account: SubAccount, old: Any) -> Any:
        """Return a connection as JSON text; keep what others set in it, and since when it has this key."""
        return json.dumps(self._connection_fields(account, old))

    def _connection_fields(self, account: SubAccount, old: Any) -> dict[str, Any]:
        if self.base_url is None:
            raise InvalidParameter(
                "as_connection needs a base: give base_url, or deliver through an operator."
            )
        before, key = _fields(old), account.token.reveal()
        since = _since(before) if before.get("password") == key else None
        note = {"sub_account": account.id, "since": (since or datetime.now(UTC)).isoformat()}
        return {
            **before,
            "conn_type": "openai",
            "host": self.base_url,
            "password": key,
            "extra": {**_extra(before), "closeai": note},
        }

    def _name(self, account: SubAccount) -> str:
        return self._reference.name(account.id, account.alias)


def is_part_shown(key: str, kept: str) -> bool:
    """
    Return whether ``key`` looks like ``kept`` with its middle, or most of it, hidden.

    Two keys share only prefixes such as ``sk-``: four more characters in common are a chance of one in ten
    million. A stored text too short for a key, such as a placeholder, may be replaced by anything.
    """
    begin = _length_of_same(key, kept)
    end = _length_of_same(key[:begin:-1], kept[:begin:-1])
    middle = key[begin : len(key) - end]
    is_cut = len(key) <= len(kept) - 4 and len(middle) <= _MASK
    is_filled = len(middle) > 2 and len(set(middle)) == 1
    is_stump = len(key) < _KEY and 2 * len(key) < len(kept)
    shows_ends = begin + end >= len("sk-") + 4
    shows_both = begin >= len("sk-") and end >= 4 and len(key) <= len(kept)  # with any word between them
    return len(kept) >= _KEY and (is_stump or shows_both or (shows_ends and (is_cut or is_filled)))


def _length_of_same(one: str, other: str) -> int:
    """Return the length of the common prefix."""
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _fields(value: Any) -> dict[str, Any]:
    """Return a connection's fields; empty if it is not a connection."""
    try:
        fields = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return {}
    return dict(fields) if isinstance(fields, dict) else {}


def _extra(fields: Mapping[str, Any]) -> dict[str, Any]:
    return _fields(fields.get("extra") or {})


def _since(fields: Mapping[str, Any]) -> datetime | None:
    """Return since when a connection has had its key, also if it was rewritten for another base."""
    note = _extra(fields).get("closeai")
    try:
        since = datetime.fromisoformat(note["since"]) if isinstance(note, dict) else None
    except (KeyError, TypeError, ValueError):
        return None
    return None if since is None or since.utcoffset() is None else since
