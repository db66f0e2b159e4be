"""Reading answers: a broken entry of a list costs only itself, and a 2xx that says no is no success."""

from __future__ import annotations

import decimal
import hashlib
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec

from airflow_provider_closeai.client.models import (
    SecretToken,
    SubAccount,
    SubAccountPage,
    UnreadableItem,
    encode,
)

_LONGEST_INTEGER = 40  # digits; Python refuses thousands of them, and the whole answer with them


class _Refusal(msgspec.Struct, frozen=True):
    success: Any = None
    error: Any = None


_decode_refusal = msgspec.json.Decoder(_Refusal).decode


def says_no(success: object, error: object) -> bool:
    """Whether an answer is a refusal, whatever its status."""
    return str(success).lower() in ("false", "0", "0.0", "no") or bool(error)


def decoder(kind: Any) -> Callable[[bytes], Any]:
    """Make a decoder of answers of one kind. Its errors name the field, never the content."""
    decode = msgspec.json.Decoder(kind, dec_hook=_decode_token).decode

    def decode_success(content: bytes) -> Any:
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
_decode_account = msgspec.json.Decoder(SubAccount, dec_hook=_decode_token).decode


def decode_page(content: bytes) -> SubAccountPage:
    """Decode a page of a listing. An entry that cannot be read costs only itself."""
    try:
        page: SubAccountPage = _decode_page(content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        page = _decode_item_by_item(content)
    return page


def _decode_item_by_item(content: bytes) -> SubAccountPage:
    answer = loads(content)
    entries = answer.get("items") if isinstance(answer, dict) else None
    if not isinstance(entries, list):
        raise msgspec.ValidationError("Expected a page with `items`")
    if says_no(answer.get("success"), answer.get("error")):
        raise ValueError("it says no")
    items, unreadable = [], []
    for entry in entries:
        try:
            items.append(_decode_account(encode(entry)))
        except (msgspec.DecodeError, UnicodeError) as error:
            unreadable.append(_unreadable(entry, error))
    return SubAccountPage(
        items=tuple(items),
        total=_integer(answer.get("total")),
        page=_integer(answer.get("page")),
        page_size=_integer(answer.get("pageSize")),
        unreadable=tuple(unreadable),
    )


def loads(content: bytes) -> Any:
    """
    Read JSON that msgspec refuses as a whole for one value: half an emoji, bytes that are not text, NaN.
    """
    return json.loads(
        content.decode("utf-8", "surrogateescape"),
        parse_float=_exact,
        parse_int=lambda digits: int(digits) if len(digits) <= _LONGEST_INTEGER else digits,
        parse_constant=str,
    )


def _exact(digits: str) -> Decimal | str:
    try:
        return Decimal(digits)
    except decimal.InvalidOperation:  # an exponent beyond all bounds
        return digits


def _integer(value: object) -> int | None:
    try:
        return msgspec.convert(value, int | None, strict=False)
    except (msgspec.ValidationError, UnicodeError):
        return None  # as if it did not say


def _unreadable(entry: Any, error: Exception) -> UnreadableItem:
    fields = entry if isinstance(entry, dict) else {}
    account_id, alias = fields.get("id"), fields.get("alias")
    if isinstance(account_id, str) and account_id.isascii() and account_id.isdecimal():
        account_id = int(account_id) if len(account_id) <= _LONGEST_INTEGER else None
    is_id = isinstance(account_id, int) and not isinstance(account_id, bool)
    is_text = isinstance(alias, str) and alias == alias.encode("utf-8", "ignore").decode()
    is_broken_text = isinstance(error, UnicodeError)
    return UnreadableItem(
        id=account_id if is_id else None,
        alias=alias if is_text else None,
        problem="it holds text that is not valid Unicode" if is_broken_text else str(error),
        digest=hashlib.sha256(repr(entry).encode("utf-8", "backslashreplace")).hexdigest(),
    )
