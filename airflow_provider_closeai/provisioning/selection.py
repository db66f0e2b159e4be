"""Selections of accounts: by ids or records, by alias, or by keys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeGuard

import msgspec

from airflow_provider_closeai.client.models import SecretToken, SubAccount
from airflow_provider_closeai.provisioning.inputs import alias_text, bad, from_json, integer

_PARAMETERS = ("sub_accounts", "alias", "sks")
_FROM_TASK = (
    "If it comes from another task, that task returned nothing (it was skipped, or marked success by hand): "
    "clear that task, or select by alias instead"
)
_NOTHING_CURE = f"give the accounts. {_FROM_TASK}"
_ID_CURE = "give ids, or the records that another task returned (create.output)"


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """
    Selects accounts by exactly one of ids, alias and keys.

    :param ids: the accounts' ids.
    :param aliases: the aliases in their records, if all ids came in records.
    :param alias: selects all accounts of this alias.
    :param tokens: the accounts' keys.
    """

    ids: tuple[int, ...] = ()
    aliases: tuple[str, ...] = ()
    alias: str | None = None
    tokens: tuple[SecretToken, ...] = ()

    @classmethod
    def parse(
        cls,
        sub_accounts: object = None,
        alias: object = None,
        sks: object = None,
        *,
        parameters: Sequence[str] = _PARAMETERS,
    ) -> Selection:
        """
        Read a selection: exactly one of the three, and not empty.

        :param sub_accounts: ids, or the records that other tasks returned; also lists of them, as from
            mapped tasks.
        :param alias: an exact alias.
        :param sks: keys.
        :param parameters: which of the three the user may give.
        :raises InvalidParameter: the selection is wrong; says why.
        """
        values = dict(zip(_PARAMETERS, (sub_accounts, alias, sks), strict=True))
        given = [name for name, value in values.items() if value is not None]
        if len(given) != 1:
            selects = "select the accounts, and" if len(parameters) > 1 else "selects the accounts, and"
            what = "none is given" if not given else f"{' and '.join(given)} are given"
            cure = f"give exactly one of {', '.join(parameters)}" if len(parameters) > 1 else "give it"
            raise bad(
                ", ".join(parameters),
                f"{selects} {what}",
                cure if given else f"{cure}. {_FROM_TASK}",
            )
        if alias is not None:
            return cls(alias=alias_text(alias))
        if sks is not None:
            return cls(tokens=_tokens(sks))
        items = _items("sub_accounts", sub_accounts)
        ids = tuple(dict.fromkeys(_account_id(item) for item in items))
        aliases = [_alias_of(item) for item in items]
        known = tuple(dict.fromkeys(alias for alias in aliases if alias)) if all(aliases) else ()
        return cls(ids=ids, aliases=known)


def _tokens(value: object) -> tuple[SecretToken, ...]:
    _refuse_nothing("sks", value)
    if isinstance(value, str) and not value.lstrip().startswith("["):
        value = value.replace(",", " ").split()
    items = [item.reveal() if isinstance(item, SecretToken) else item for item in _items("sks", value)]
    if not all(isinstance(item, str) and item.strip() for item in items):
        raise bad("sks", "has an entry that is not a key", "give the keys as texts")
    tokens = tuple(SecretToken(item) for item in dict.fromkeys(item.strip() for item in items))
    if any(token.is_masked for token in tokens):
        raise bad(
            "sks",
            "has a key whose characters are replaced for show",
            "give the whole keys, separated by spaces or commas, or use ids",
        )
    return tokens


def _items(name: str, value: object) -> list[Any]:
    _refuse_nothing(name, value)
    value = from_json(name, value)
    if isinstance(value, Mapping | SubAccount | SecretToken) or integer(value) is not None:
        value = [value]
    if not _is_list(value):
        raise bad(name, f"is of type {type(value).__name__}, which is not a list", "give a list")
    items = list(_flat(value))
    if not items:
        raise bad(
            name,
            "is an empty list, which selects nothing",
            "skip the task when there is nothing to do, or select by alias",
        )
    return items


def _refuse_nothing(name: str, value: object) -> None:
    """Refuse what a template makes of a missing task result."""
    if isinstance(value, str) and value.strip() in ("", "None", "null"):
        raise bad(name, f"is {value!r}, which selects nothing", _NOTHING_CURE)


def _is_list(value: object) -> TypeGuard[Iterable[Any]]:
    return isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)


def _flat(values: Iterable[Any]) -> Iterator[Any]:
    if isinstance(values, tuple) and len({isinstance(value, str) for value in values}) > 1:
        # A task mapped over a mapping gets (key, value) pairs: the key would be taken for an id.
        raise bad(
            "sub_accounts",
            "is a pair of a text and something else, as of a mapping that a task is mapped over",
            "map over its values: expand(sub_accounts=task().map(lambda pair: pair[1]))",
        )
    for value in values:
        if _is_list(value):
            yield from _flat(value)  # a mapped task's output is a list of results
        else:
            yield value


def _account_id(item: object) -> int:
    if isinstance(item, SubAccount):
        return item.id
    if item is None:
        raise bad("sub_accounts", "has an entry that is None", _NOTHING_CURE)
    if isinstance(item, Mapping):
        if item.get("id") is None:
            raise bad("sub_accounts", "has an entry without an id", _ID_CURE)
        item = item["id"]
    number = None if isinstance(item, str) and not item.strip().isdecimal() else integer(item)
    if number is None:
        shown = f" ({item!r})" if isinstance(item, int | float) else ""
        raise bad(
            "sub_accounts",
            f"has an entry of type {type(item).__name__}{shown} where an id is expected",
            _ID_CURE,
        )
    return number


def _alias_of(item: object) -> str | None:
    """Return the alias in a record, under which to look first."""
    alias = item.alias if isinstance(item, SubAccount) else None
    if isinstance(item, Mapping):
        alias = item.get("alias")
    return alias if isinstance(alias, str) else None
