"""Every parameter, checked before anything is sent. Each error names it, its problem and the cure.

Values may come from templates, so texts that say the same are taken: ``"3"``, ``"true"``, a JSON list.
"""

from __future__ import annotations

import json
import logging
import math
import warnings
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from airflow_provider_closeai.client.errors import InvalidParameter
from airflow_provider_closeai.client.models import SecretToken, SubAccount

log = logging.getLogger(__name__)

_ENTRY_FIELDS = {"model", "pricing_factor", "prompt_price", "completion_price", "auto_following"}
_MAX_ALIAS = 255


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which accounts: by exactly one of ids, alias, keys."""

    ids: tuple[int, ...] = ()
    alias: str | None = None
    tokens: tuple[SecretToken, ...] = ()


def pricing(value: object) -> dict[str, Decimal]:
    """
    Read ``model_pricing``.

    :param value: ``{"gpt-4": 1, "gpt-4o": "1.5"}``, the API's list of dicts, or JSON text of either.
        ``auto_following: true`` of the dead parameters counts as factor 1, with a warning.
    :returns: factor by model.
    :raises InvalidParameter: naming the model and the problem.
    """
    value = _from_json("model_pricing", value)
    if isinstance(value, Mapping):
        entries: Iterable[Any] = [
            {"model": model, "pricing_factor": factor} for model, factor in value.items()
        ]
    elif isinstance(value, Iterable) and not isinstance(value, str | bytes):
        entries = value
    else:
        raise _bad("model_pricing", "is neither an object nor a list", 'give {"gpt-4": 1}')
    factors: dict[str, Decimal] = {}
    for entry in entries:
        model, factor = _entry(entry)
        if model in factors:
            raise _bad("model_pricing", f"names {model!r} twice", "name each model once")
        factors[model] = factor
    if not factors:
        raise _bad(
            "model_pricing",
            "is empty, and a model that is not listed has no permission",
            'name the models, for instance {"gpt-4": 1}',
        )
    return factors


def _entry(entry: object) -> tuple[str, Decimal]:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("model"), str):
        raise _bad("model_pricing", "has an entry without a model's name", 'give {"model": "gpt-4", ...}')
    model = entry["model"]
    if not model or model != model.strip():
        raise _bad("model_pricing", f"names the model {model!r}", "give its name without spaces around it")
    unknown = sorted(set(entry) - _ENTRY_FIELDS)
    if unknown:
        raise _bad("model_pricing", f"has the unknown field {unknown[0]!r} for {model!r}", "leave it out")
    if entry.get("pricing_factor") is not None:
        return model, amount(f"model_pricing[{model!r}]", entry["pricing_factor"])
    if entry.get("auto_following") is True:
        message = (
            f"model_pricing[{model!r}]: auto_following and the prices beside it are dead; taken as "
            "pricing_factor 1, as the platform did. Write pricing_factor instead."
        )
        warnings.warn(message, DeprecationWarning, stacklevel=4)
        log.warning(message)
        return model, Decimal(1)
    raise _bad(
        f"model_pricing[{model!r}]",
        "has no pricing_factor (prompt_price and completion_price are dead, and the platform does not "
        "convert them)",
        "give a pricing_factor, for instance 1",
    )


def amount(name: str, value: object) -> Decimal:
    """
    Read a factor or a balance: a finite number >= 0 that a JSON number can carry exactly.

    :param name: the parameter, for the error.
    :param value: a number, or text of one. Not a boolean.
    """
    cure = "give a number >= 0, such as 1 or '1.5'"
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise _bad(name, f"is of type {type(value).__name__}", cure)
    try:
        number = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    except InvalidOperation:
        raise _bad(name, "is not a number", cure) from None
    if not number.is_finite() or number < 0:
        raise _bad(name, f"is {number}", cure)
    as_double = float(number) if number < Decimal("1e300") else math.inf
    if not math.isfinite(as_double) or Decimal(repr(as_double)) != number:
        raise _bad(name, f"is {number}, more digits than a JSON number carries", "round it to 15 digits")
    return number


def whole(name: str, value: object, minimum: int) -> int:
    """
    Read a whole number.

    :param name: the parameter, for the error.
    :param value: an int, or text of one. Not a boolean.
    :param minimum: the smallest allowed.
    """
    if isinstance(value, str) and value.strip().isdecimal():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise _bad(name, f"is {value!r}", f"give a whole number >= {minimum}")
    return value


def seconds(name: str, value: object) -> float:
    """
    Read a number of seconds >= 0.

    :param name: the parameter, for the error.
    :param value: a number, or text of one.
    """
    return float(amount(name, value))


def flag(name: str, value: object) -> bool:
    """
    Read a boolean; a template gives ``"True"`` or ``"false"``.

    :param name: the parameter, for the error.
    :param value: a boolean, or text of one.
    """
    if isinstance(value, str):
        value = {"true": True, "false": False}.get(value.strip().lower(), value)
    if not isinstance(value, bool):
        raise _bad(name, f"is {value!r}", "give True or False")
    return value


def choice(name: str, value: object, allowed: tuple[str, ...]) -> str:
    """
    Read one of a few words.

    :param name: the parameter, for the error.
    :param value: the word.
    :param allowed: the words.
    """
    if value not in allowed:
        raise _bad(name, f"is {value!r}", f"give one of {', '.join(map(repr, allowed))}")
    return str(value)


def alias_text(value: object) -> str:
    """
    Read an alias: non-empty, at most 255 characters, nothing that a platform might trim.

    :param value: the alias.
    """
    cure = "give the accounts' exact alias"
    if not isinstance(value, str) or not value:
        raise _bad("alias", "is empty, which never means all" if value in ("", None) else "is no text", cure)
    if value != value.strip() or not value.isprintable():
        raise _bad("alias", f"is {value!r}, with spaces around it or a character nobody sees", cure)
    if len(value) > _MAX_ALIAS:
        raise _bad("alias", f"has {len(value)} characters", f"give at most {_MAX_ALIAS}")
    return value


def selection(sub_accounts: object, alias: object, sks: object) -> Selection:
    """
    Read which accounts are meant: exactly one of the three, and not empty.

    :param sub_accounts: ids, or the records that another task returned.
    :param alias: an exact alias.
    :param sks: keys.
    """
    named = {"sub_accounts": sub_accounts, "alias": alias, "sks": sks}
    given = [name for name, value in named.items() if value is not None]
    if len(given) != 1:
        problem = f"{' and '.join(given)} are given" if given else "none is given"
        raise _bad(
            "sub_accounts, alias, sks", f"select the accounts, and {problem}", "give exactly one of the three"
        )
    if alias is not None:
        return Selection(alias=alias_text(alias))
    if sks is not None:
        return Selection(tokens=_tokens(sks))
    items = _items("sub_accounts", sub_accounts)
    return Selection(ids=tuple(dict.fromkeys(_account_id(item) for item in items)))


def _tokens(value: object) -> tuple[SecretToken, ...]:
    if isinstance(value, str) and not value.lstrip().startswith("["):
        value = value.replace(",", " ").split()
    items = [item.reveal() if isinstance(item, SecretToken) else item for item in _items("sks", value)]
    if not all(isinstance(item, str) and item.strip() for item in items):
        raise _bad("sks", "has an entry that is not a key", "give the keys as texts")
    return tuple(SecretToken(item) for item in dict.fromkeys(item.strip() for item in items))


def _items(name: str, value: object) -> list[Any]:
    value = _from_json(name, value)
    if isinstance(value, int | Mapping) and not isinstance(value, bool):
        value = [value]
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise _bad(name, "is not a list", "give a list")
    items = list(value)
    if not items:
        raise _bad(
            name, "is an empty list, which selects nothing", "skip the task when there is nothing to do"
        )
    return items


def _account_id(item: object) -> int:
    if isinstance(item, SubAccount):
        return item.id
    if isinstance(item, Mapping):
        item = item.get("id")
    if isinstance(item, str) and item.isdecimal():
        return int(item)
    if isinstance(item, bool) or not isinstance(item, int):
        raise _bad(
            "sub_accounts",
            f"has an entry of type {type(item).__name__} where an id is expected",
            "give ids, or the records that another task returned (create.output)",
        )
    return item


def _from_json(name: str, value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value, parse_float=Decimal)
    except ValueError:
        raise _bad(name, "is text that is not JSON", "give a list, an object, or JSON of one") from None


def _bad(name: str, problem: str, cure: str) -> InvalidParameter:
    return InvalidParameter(f"{name} {problem}: {cure}. Nothing was sent.")
