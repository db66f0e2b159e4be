"""Decodes answers: a broken entry does not spoil its list, and a 2xx that says no is not a success."""

from __future__ import annotations

import decimal
import hashlib
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any, TypeVar

import msgspec

from airflow_provider_closeai.client.models import (
    CreateAnswer,
    SecretToken,
    SubAccount,
    SubAccountPage,
    UnreadableItem,
)

T = TypeVar("T")
_MOST_NAMELESS = 1000  # with more entries without an id these are not accounts; each would be kept and logged
_MANY = 100_000  # values; in Python each may take a hundred times the bytes of its text
_LONGEST_INTEGER = 40  # digits; Python refuses thousands, and with them the entire answer


class _Refusal(msgspec.Struct, frozen=True):
    success: Any = None
    error: Any = None


_decode_refusal = msgspec.json.Decoder(_Refusal).decode


def says_no(success: object, error: object) -> bool:
    """Return whether an answer is a refusal, whatever its status."""
    return str(success).lower() in ("false", "0", "0.0", "no") or bool(error)


def decoder(kind: type[T]) -> Callable[[bytes], T]:
    """Make a decoder for one kind of answer. Its errors name the field, never the content."""
    decode = msgspec.json.Decoder(kind, dec_hook=_decode_token).decode

    def decode_success(content: bytes) -> T:
        value = decode(content)
        refusal = _decode_refusal(content)
        if says_no(refusal.success, refusal.error):
            raise ValueError("it says no")
        return value

    return decode_success


def _decode_token(kind: type, value: object) -> SecretToken:
    if kind is SecretToken and isinstance(value, str) and value:
        return SecretToken(value)
    raise msgspec.ValidationError("token is not a key")


_decode_page = decoder(SubAccountPage)
_decode_create = decoder(CreateAnswer)
_decode_account = msgspec.json.Decoder(SubAccount, dec_hook=_decode_token).decode
_encode = msgspec.json.Encoder(decimal_format="number").encode


def decode_page(content: bytes) -> SubAccountPage:
    """
    Decode a page of a listing. An entry that cannot be read does not affect the others.

    Ids, aliases, times and ``enabled`` may have an unusual JSON type.
    """
    try:
        return _decode_page(content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _decode_item_by_item(content)


def decode_create(content: bytes) -> CreateAnswer:
    """Decode a create's answer, whose accounts must all be readable."""
    try:
        return _decode_create(content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        page = _decode_item_by_item(content)
    if page.unreadable:
        raise msgspec.ValidationError(page.unreadable[0].problem)
    return CreateAnswer(page.items)


def _decode_item_by_item(content: bytes) -> SubAccountPage:
    if sum(map(content.count, (b",", b"{", b"["))) > max(_MANY, len(content) // 8):
        raise ValueError("its entries are not accounts")
    answer = loads(content)
    entries = answer.get("items") if isinstance(answer, dict) else None
    if not isinstance(entries, list):
        raise msgspec.ValidationError("Expected a page with `items`")
    if says_no(answer.get("success"), answer.get("error")):
        raise ValueError("it says no")
    items, unreadable, nameless = [], [], 0
    for entry in entries:
        try:
            items.append(_decode_item(entry))
        except (msgspec.DecodeError, UnicodeError) as error:
            unreadable.append(_unreadable(entry, error))
            nameless += unreadable[-1].id is None
            if nameless > _MOST_NAMELESS:
                raise ValueError("its entries are not accounts") from None
    return SubAccountPage(
        items=tuple(items),
        total=_integer(answer.get("total")),
        page_size=_integer(answer.get("pageSize")),
        unreadable=tuple(unreadable),
    )


def _decode_item(entry: Any) -> SubAccount:
    try:
        return _decode_account(_encode(entry))
    except msgspec.DecodeError:
        if not isinstance(entry, dict):
            raise
    fields = dict(entry)
    for name, read in _LENIENT.items():
        if name in fields:
            fields[name] = read(fields[name])
    return _decode_account(_encode(fields))


def _whole_number(value: object) -> int | None:
    """Read an integer of any JSON type."""
    if isinstance(value, Decimal) and value.adjusted() < _LONGEST_INTEGER and value == value.to_integral():
        return int(value)
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= _LONGEST_INTEGER:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _truth(value: object) -> bool | None:
    return _TRUTHS.get(str(value).lower())


def _text(value: object) -> str | None:
    return str(value) if isinstance(value, str | int | Decimal) else None


def _alias(value: object) -> object:
    """Return as text an alias that was sent as a number or a boolean; anything else as it is."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | Decimal) else value


_TRUTHS = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
_LENIENT: dict[str, Callable[[object], object]] = {
    "id": _whole_number,
    "alias": _alias,
    "user_id": _whole_number,
    "enabled": _truth,
    "created_at": _text,
    "updated_at": _text,
}


def loads(content: bytes) -> Any:
    """
    Read JSON that msgspec refuses for one bad value: half an emoji, invalid UTF-8, a raw line feed, NaN.
    """
    return json.loads(
        content.decode("utf-8", "surrogateescape"),
        parse_float=_exact,
        parse_int=lambda digits: int(digits) if len(digits) <= _LONGEST_INTEGER else digits,
        parse_constant=str,
        strict=False,
    )


def _exact(digits: str) -> Decimal | str:
    try:
        return Decimal(digits)
    except decimal.InvalidOperation:  # the exponent is too large
        return digits


def _integer(value: object) -> int | None:
    try:
        return msgspec.convert(value, int | None, strict=False)
    except (msgspec.ValidationError, UnicodeError):
        return None  # as if it were not given


def _unreadable(entry: Any, error: Exception) -> UnreadableItem:
    fields = entry if isinstance(entry, dict) else {}
    alias = fields.get("alias")
    is_text = isinstance(alias, str) and alias == alias.encode("utf-8", "ignore").decode()
    is_broken_text = isinstance(error, UnicodeError)
    return UnreadableItem(
        id=_whole_number(fields.get("id")),
        alias=alias if is_text else None,
        problem="it holds text that is not valid Unicode" if is_broken_text else str(error),
        digest=hashlib.sha256(repr(entry).encode("utf-8", "backslashreplace")).hexdigest(),
    )
