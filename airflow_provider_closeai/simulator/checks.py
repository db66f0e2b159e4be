"""Reads requests strictly; each error names the field, none repeats a key."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Any

from airflow_provider_closeai.simulator.answers import Refusal
from airflow_provider_closeai.simulator.values import hide, to_units

_ENTRY = ("model", "pricing_factor", "prompt_price", "completion_price", "auto_following")


def invalid(message: str) -> Refusal:
    """Return the refusal of a wrong parameter.

    :param message: What is wrong, naming the field.
    """
    return Refusal(400, "invalid_parameter", message)


def check_query(pairs: list[tuple[str, str]], known: Collection[str]) -> None:
    """Refuse a query with an unknown or repeated parameter."""
    _known(_object(pairs), known, "query parameter")


def read_body(
    body: bytes, content_type: str, known: Collection[str], needed: Collection[str]
) -> dict[str, Any]:
    """Read a JSON body; numbers keep their digits."""
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise invalid("Content-Type must be application/json")
    try:
        fields = json.loads(
            body.decode("utf-8"), parse_float=Decimal, parse_constant=_no_constant, object_pairs_hook=_object
        )
    except (ValueError, ArithmeticError, RecursionError):
        raise invalid("the body is not JSON") from None
    if not isinstance(fields, dict):
        raise invalid("the body must be a JSON object")
    _known(fields, known, "field")
    for name in needed:
        if name not in fields:
            raise invalid(f"{name} is missing")
    return fields


def number_in_query(query: Mapping[str, str], name: str, default: int) -> int:
    """Read an integer from a query."""
    text = query.get(name, str(default))
    if not re.fullmatch(r"-?[0-9]{1,9}", text):
        raise invalid(f"{name} must be a whole number")
    return int(text)


def read_text(value: Any, name: str) -> str:
    """Read a string that is not empty."""
    if not isinstance(value, str):
        raise invalid(f"{name} must be a string")
    if not value.strip():
        raise invalid(f"{name} must not be empty")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise invalid(f"{name} is not valid Unicode") from None
    return value


def read_count(value: Any, largest: int) -> int:
    """Read the number of accounts to create."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise invalid("count must be a whole number")
    if not 1 <= value <= largest:
        raise invalid(f"count must be from 1 to {largest}")
    return value


def read_amount(value: Any, name: str) -> int:
    """Read an amount of money, in units."""
    try:
        return to_units(_number(value, name))
    except ValueError as error:
        raise invalid(f"{name} {error}") from None


def read_sks(value: Any, largest: int) -> list[str]:
    """Read a list of keys, without duplicates."""
    if not isinstance(value, list) or not value:
        raise invalid("sks must be a list of at least one sk")
    if len(value) > largest:
        raise invalid(f"sks must have at most {largest} entries")
    for index, sk in enumerate(value):
        read_text(sk, f"sks[{index}]")
    return list(dict.fromkeys(value))


def read_pricing(value: Any) -> list[dict[str, Any]]:
    """Read a price list; turn the old form that is still allowed into a factor."""
    if not isinstance(value, list):
        raise invalid("model_pricing must be a list")
    entries = [_entry(entry, f"model_pricing[{index}]") for index, entry in enumerate(value)]
    models = [entry["model"] for entry in entries]
    if len(set(models)) != len(models):
        raise invalid("model_pricing names a model twice")
    return entries


def _entry(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise invalid(f"{name} must be an object")
    _known(value, _ENTRY, f"field of {name}")
    if "model" not in value:
        raise invalid(f"{name}.model is missing")
    model = read_text(value["model"], f"{name}.model")
    follows = value.get("auto_following", False)
    if not isinstance(follows, bool):
        raise invalid(f"{name}.auto_following must be true or false")
    for price in ("prompt_price", "completion_price"):
        _number(value.get(price, 0), f"{name}.{price}")
    if "pricing_factor" in value:
        factor = _number(value["pricing_factor"], f"{name}.pricing_factor")
        if follows and factor != 1:
            raise invalid(f"{name}.pricing_factor contradicts auto_following")
    elif follows:
        factor = 1
    else:
        raise invalid(f"{name}.pricing_factor is missing; prompt_price and completion_price are abolished")
    return {"model": model, "pricing_factor": factor}


def _number(value: Any, name: str) -> int | Decimal:
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise invalid(f"{name} must be a number")
    if value < 0:
        raise invalid(f"{name} must be 0 or more")
    return value


def _known(found: Mapping[str, Any], known: Collection[str], what: str) -> None:
    for name in found:
        if name not in known:
            raise invalid(f"unknown {what}: {hide(name[:80])}")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise invalid(f"{hide(name[:80])} is given twice")
        found[name] = value
    return found


def _no_constant(name: str) -> None:
    raise ValueError(name)
