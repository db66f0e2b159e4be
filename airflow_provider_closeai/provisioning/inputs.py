"""Checks every parameter before anything is sent. Each error names it, its problem and the cure.

Values may come from templates, so equivalent texts are accepted: ``"3"``, ``"true"``, a JSON list.
"""

from __future__ import annotations

import contextlib
import json
import logging
import operator
import re
import unicodedata
import warnings
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from airflow_provider_closeai.client.errors import InvalidParameter
from airflow_provider_closeai.client.models import MOST_DIGITS

log = logging.getLogger(__name__)

_ENTRY_FIELDS = {"model", "pricing_factor", "prompt_price", "completion_price", "auto_following"}
_MAX_ALIAS = 255
_MAX_DIGITS = 15  # of an integer: more is a slip, and not exact in a float
_MAX_SHOWN = 60
_DIGITS_OF_A_DOUBLE = 17
_LONGEST_SPAN = timedelta(days=36525)  # longer spans exceed the calendar
# As in the roster's schema.json. Python itself also accepts "1_000", and digits of all scripts.
_PLAIN = re.compile(r"[+-]?(\d+(\.\d+)?|\.\d+)", re.ASCII)
_WITH_EXPONENT = re.compile(_PLAIN.pattern + r"([eE][+-]?[0-5]?\d)?", re.ASCII)
_MOMENT = re.compile(
    r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])[T ]([01]\d|2[0-3])(:[0-5]\d(:[0-5]\d([.,]\d+)?)?)?"
    r"(Z|[+-]([01]\d|2[0-3])(:?[0-5]\d)?)",
    re.ASCII,
)
_UNITS = {"w": "weeks", "d": "days", "h": "hours", "m": "minutes"}
# Control, format, private use, lone surrogate, line and paragraph separator: all invisible.
_UNSEEN = ("Cc", "Cf", "Co", "Cs", "Zl", "Zp")
# Letters and marks without a glyph: fillers, joiners, the Braille blank, variation selectors.
_BLANK = re.compile(r"[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0]")
_SPACES = " \u3000"
_QUOTES = set("\u201c\u201d\u2018\u2019")  # as input methods and word processors write them
_KEY = re.compile(r"\s*sk-[A-Za-z0-9]{20,}\s*")
# Format characters in their proper place: joiners between two letters or pictures that are not ASCII, tags
# after a black flag (the flag of Scotland), selectors of a picture's or letter's variant.
_JOINED = re.compile(
    r"(?<=[^\x00-\x7f\s])[\u200c\u200d](?=[^\x00-\x7f\s])|(?<=\U0001F3F4)[\U000E0020-\U000E007F]+"
    r"|(?<=[0-9#*\u00a9\u00ae\u203c-\u3299\U0001F000-\U0001FAFF])[\ufe0e\ufe0f]"
    r"|(?<=[\u1800-\u18af\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])[\u180b-\u180d\u180f\ufe00-\ufe0d]"
)
TEXT_CURE = (
    'a template renders a list or an object as Python text. Write "{{ params.x | tojson }}", or give a '
    "mapping or list whose values are templates, or set render_template_as_native_obj=True on the DAG"
)


def pricing(value: object, name: str = "model_pricing") -> dict[str, Decimal]:
    """Read ``{"gpt-4": 1, "gpt-4o": "1.5"}``, or the API's list of dicts, as factor by model."""
    value = from_json(name, value)
    if isinstance(value, Mapping):
        entries: Iterable[Any] = [
            {"model": model, "pricing_factor": factor} for model, factor in value.items()
        ]
    elif isinstance(value, Iterable) and not isinstance(value, str | bytes):
        entries = value
    else:
        raise bad(name, "is neither an object nor a list", 'give {"gpt-4": 1}')
    factors: dict[str, Decimal] = {}
    for entry in entries:
        model, factor = _entry(entry, name)
        if model in factors:
            raise bad(name, f"names {model!r} twice", "name each model once")
        factors[model] = factor
    if not factors:
        raise bad(
            name,
            "is empty, and a model that is not listed has no permission",
            'name the models, for instance {"gpt-4": 1}',
        )
    return factors


def _entry(entry: object, name: str) -> tuple[str, Decimal]:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("model"), str):
        raise bad(name, "has an entry without a model's name", 'give {"model": "gpt-4", ...}')
    model = str.__str__(entry["model"])
    if not model or model != model.strip():
        raise bad(name, f"names the model {model!r}", "give its name without spaces around it")
    if "{{" in model or "{%" in model:
        cure = 'write it as a value: [{"model": "{{ ... }}", "pricing_factor": 1}]'
        raise bad(name, f"names the model {model!r}, and names are not rendered", cure)
    encodable(name, model, "give the model's exact name")
    readable(f"a model of {name}", model, "write its name again: it may have been copied from a page")
    unknown = sorted(set(entry) - _ENTRY_FIELDS, key=str)
    if unknown:
        cure = "leave it out, or call it pricing_factor if it is the factor"
        raise bad(name, f"has the unknown field {unknown[0]!r} for {model!r}", cure)
    if entry.get("pricing_factor") is not None:
        return model, _factor(f"{name}[{model!r}]", entry["pricing_factor"])
    if entry.get("auto_following") is True:
        message = (
            f"{name}[{model!r}]: auto_following and the prices beside it are dead; taken as "
            "pricing_factor 1, as the platform did. Write pricing_factor instead."
        )
        warnings.warn(message, DeprecationWarning, stacklevel=4)
        log.warning(message)
        return model, Decimal(1)
    raise bad(
        f"{name}[{model!r}]",
        "has no pricing_factor (prompt_price and completion_price are dead, and the platform does not "
        "convert them)",
        "give a pricing_factor, for instance 1",
    )


def _factor(name: str, value: object) -> Decimal:
    """Read a factor. 0.29999999999999999, as some platforms write it, is 0.3: the same double."""
    number = _number(value, _WITH_EXPONENT)
    if number is not None and number.is_finite() and len(number.as_tuple().digits) <= _DIGITS_OF_A_DOUBLE:
        short = Decimal(repr(float(number)))
        value = number if short == number else short
    return amount(name, value)


def amount(name: str, value: object) -> Decimal:
    """Read a factor or a balance: a finite number >= 0 that a JSON number can carry exactly."""
    cure = "give a number >= 0, such as 1 or '1.5'"
    number = _number(value, _WITH_EXPONENT)
    if number is None:
        is_text = isinstance(value, str)
        raise bad(
            name, "is text, and not a number" if is_text else f"is of type {type(value).__name__}", cure
        )
    if not number.is_finite() or number < 0:
        raise bad(name, f"is {shown(number)}", cure)
    as_double = float(number)
    short = Decimal(repr(as_double))
    if number not in (short, Decimal(as_double)):
        problem = f"is {shown(number)}, more digits than a JSON number carries"
        raise bad(name, problem, "round it to 15 digits")
    found = (number if number == short else short) or Decimal(0)
    if max(found.adjusted(), -int(found.as_tuple().exponent)) > MOST_DIGITS:
        problem = f"is {shown(found)}, and such a number could be sent, but in no listing be read"
        raise bad(name, problem, f"give at most {MOST_DIGITS} digits before and after the point")
    return found


def whole_number(name: str, value: object, minimum: int) -> int:
    """Read an integer of any type (3, 3.0, "3"), but not a boolean."""
    number = integer(value)
    if number is None or number < minimum:
        raise bad(name, f"is {shown(value)}", f"give a whole number >= {minimum}")
    return number


def integer(value: object) -> int | None:
    """Return a value as an integer; ``None`` if it is not one."""
    number = _number(value)
    if number is None or not number.is_finite() or number.adjusted() > _MAX_DIGITS or number % 1:
        return None
    return int(number)


def percentage(value: object) -> Decimal | None:
    """Return the number in text such as ``10%``; ``None`` if it is not a percentage from 0 to 100."""
    text = value.strip() if isinstance(value, str) else ""
    number = _number(text[:-1]) if text.endswith("%") else None
    return None if number is None or number.is_signed() or number > 100 else number


def _number(value: object, form: re.Pattern[str] = _PLAIN) -> Decimal | None:
    """Return a value as an exact number; ``None`` if it is not one, or text in another form."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        return Decimal(float.__repr__(value))
    if isinstance(value, str):
        return Decimal(value) if form.fullmatch(value.strip()) else None
    if isinstance(value, Decimal):
        return Decimal(value)
    try:
        return Decimal(operator.index(value))  # type: ignore[arg-type]  # also numpy's integers
    except TypeError:
        return None


def span(name: str, value: object) -> timedelta:
    """Read a span of time: a ``timedelta``, or text such as ``90d``, ``12h``, ``30m``, ``2w``."""
    text = value.strip().lower() if isinstance(value, str) else ""
    number = _number(text[:-1]) if text[-1:] in _UNITS else None
    found: timedelta | None = None
    with contextlib.suppress(OverflowError):
        if isinstance(value, timedelta):
            found = timedelta(seconds=value.total_seconds())  # pendulum's duration prints differently
        elif number is not None and number.is_finite():
            found = timedelta(**{_UNITS[text[-1]]: float(number)})
    if found is None or abs(found) > _LONGEST_SPAN:
        cure = "give a timedelta, or text such as '90d' or '12h', of at most 100 years"
        raise bad(name, f"is {shown(value)}, no span of time", cure)
    return found


def moment(name: str, value: object) -> datetime:
    """
    Read a moment with a time zone: an aware ``datetime``, or ISO 8601 text.

    :returns: a plain ``datetime`` in UTC, never pendulum's, which does not mix with others; equal moments are
        written alike.
    """
    found = value
    if isinstance(value, str) and _MOMENT.fullmatch(value.strip()):
        with contextlib.suppress(ValueError):  # 2027-02-30
            found = datetime.fromisoformat(value.strip())
    if not isinstance(found, datetime) or found.utcoffset() is None:
        cure = "give a datetime with a time zone, such as '2027-01-01T00:00:00+08:00'"
        raise bad(name, f"is {shown(value)}, which is not a moment", cure)
    try:
        return datetime.fromisoformat(found.isoformat()).astimezone(UTC)
    except OverflowError:
        raise bad(name, f"is {shown(value)}", "give a moment of the years 1 to 9999 in UTC") from None


def flag(name: str, value: object) -> bool:
    """Read a boolean; a template gives ``"True"`` or ``"false"``."""
    if isinstance(value, str):
        value = {"true": True, "false": False}.get(value.strip().lower(), value)
    if not isinstance(value, bool):
        raise bad(name, f"is {shown(value)}", "give True or False")
    return value


def choice(name: str, value: object, allowed: tuple[str, ...]) -> str:
    """Read one of the allowed words."""
    if value not in allowed:
        raise bad(name, f"is {shown(value)}", f"give one of {', '.join(map(repr, allowed))}")
    return allowed[allowed.index(value)]  # plain text, even for a member of an Enum


def alias_text(value: object) -> str:
    """Read the alias of existing accounts: any text that the platform can store."""
    if value in ("", None):
        raise bad("alias", "is empty, which never means all", "give the accounts' exact alias")
    if isinstance(value, list | tuple | set):
        raise bad("alias", "is several, and a task has one", "map it: .partial(...).expand(alias=[...])")
    if not isinstance(value, str):
        raise bad(
            "alias",
            f"is {shown(value)}, not text but of type {type(value).__name__}",
            "write it in quotes. Where templates are rendered as native objects "
            "(render_template_as_native_obj), text that looks like a number becomes one: put quotes inside "
            "the template, as in '\"{{ params.alias }}\"'",
        )
    if _KEY.fullmatch(value):  # aliases appear in URLs, logs and results
        raise bad("alias", "has the form of a key", "give the accounts' exact alias, or select by ids")
    return encodable("alias", str.__str__(value), "give the accounts' exact alias")


def refuse_none(alias: str, cure: str = "give the accounts' exact alias") -> None:
    """Refuse an alias that a template made of a missing value; no account has it."""
    if alias == "None":
        raise bad("alias", "is 'None', as a template writes what is not there", cure)


def encodable(name: str, text: str, cure: str) -> str:
    """Return text that can be sent and stored: without half characters, which JSON's escapes can make."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise bad(name, f"is {text!r}, which holds half a character (a lone surrogate)", cure) from None
    return text


def new_alias(value: object) -> str:
    """
    Read the alias of accounts to create: text that people can read and platforms keep as it is.

    At most 255 characters, no surrounding spaces, and no characters that are invisible or look like others:
    no control characters, no invisible or direction marks, no space but the plain and the ideographic one
    (U+3000). Joiners in an emoji, or between letters of a joining script, are fine.
    """
    alias = alias_text(value)
    cure = (
        "choose one that people can read and type. Accounts that have such an alias already can be listed, "
        "repriced and deleted"
    )
    refuse_none(alias, cure)
    if alias != alias.strip():
        raise bad("alias", f"is {alias!r}, with spaces around it", cure)
    readable("alias", alias, cure)
    if len(alias) > _MAX_ALIAS:
        raise bad("alias", f"has {len(alias)} characters", f"give a new alias of at most {_MAX_ALIAS}")
    return alias


def readable(name: str, text: str, cure: str) -> None:
    """Refuse text with invisible characters, or with lookalikes of spaces or plain quotes."""
    if {text[:1], text[-1:]} <= _QUOTES and _QUOTES.isdisjoint(text[1:-1]):
        raise bad(name, f"is {text!r}, in typographic quotes", "write plain quotes around it, or none")
    for character in _JOINED.sub("", text):
        category = unicodedata.category(character)
        if category in _UNSEEN or _BLANK.match(character) or (category == "Zs" and character not in _SPACES):
            what = unicodedata.name(character, "a control character")
            raise bad(name, f"is {text!r}, with U+{ord(character):04X} ({what}) inside", cure)


def from_json(name: str, value: object) -> object:
    """Read text as JSON; return anything else as it is."""
    if not isinstance(value, str):
        return value
    try:
        return load_json(value)
    except json.JSONDecodeError:
        raise bad(name, "is text that is not JSON", TEXT_CURE) from None
    except ValueError as error:
        raise bad(name, f"is JSON, and {error}", "say each thing once") from None


def load_json(text: str) -> Any:
    """
    Read JSON; fractions are ``Decimal``.

    :raises ValueError: it is not JSON, or an object has a key twice.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = next(key for key, _ in pairs if [other for other, _ in pairs].count(key) > 1)
            raise ValueError(f"{twice!r} is there twice in one object")
        return found

    try:
        return json.loads(text, parse_float=Decimal, object_pairs_hook=unique)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def shown(value: object) -> str:
    """Return a value for an error, shortened if long."""
    try:
        text = str(value) if isinstance(value, (Decimal, date)) else repr(value)
    except ValueError:  # Python refuses to write integers of thousands of digits
        text = f"of type {type(value).__name__}, and too long to be shown"
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


def bad(name: str, problem: str, cure: str) -> InvalidParameter:
    """Return a parameter's error: what is wrong with it, and what to give instead."""
    return InvalidParameter(f"{name} {problem}: {cure}. Nothing was sent.")
