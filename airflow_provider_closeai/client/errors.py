"""The client's errors. Each says what was tried, where, what it proves and what to do next.

No error carries a key, a header or a response body; only the platform's message is kept, without anything
that looks like a key (:func:`safe_text`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import ClassVar

_HIDDEN = "sk-…"
#: A key right after a letter or digit may follow an escape, such as ``%22`` or ``\\n``: its length shows it.
_KEY_LIKE = re.compile(
    r"(?<![A-Za-z0-9])(?:sk|Bearer)(?:[-_ ]|%2D)[^\s\"',;<>]+|sk(?:[-_]|%2D)[\w-]{16,}", re.IGNORECASE
)
_PREFIX, _LONG = "sk-", 12
_MAX_TEXT = 300


def safe_text(text: str, keys: Iterable[str] = ()) -> str:
    """
    Make text from outside safe to log: one short printable line, without anything that looks like a key.

    :param keys: keys that were sent: the answer may quote them, whatever they look like.
    """
    keyless = text
    for key in filter(None, keys):
        keyless = keyless.replace(key, _HIDDEN)
        if len(rest := key.removeprefix(_PREFIX)) >= _LONG:
            keyless = keyless.replace(rest, _HIDDEN)
    printable = "".join(char if char.isprintable() else " " for char in _KEY_LIKE.sub(_HIDDEN, keyless))
    line = " ".join(printable.split())
    return line if len(line) <= _MAX_TEXT else line[: _MAX_TEXT - 1] + "…"


class CloseAIError(Exception):
    """
    Base of all errors of this package.

    :param message: the complete message for people.
    :param call: the API call, for instance ``create``.
    :param base: the base that answered last.
    :param status: its HTTP status, if any.
    :param retry_after: seconds that the platform asked to wait, if it did.
    """

    #: True when trying again later cannot help: Airflow must not retry.
    permanent: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        call: str | None = None,
        base: str | None = None,
        status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.call = call
        self.base = base
        self.status = status
        self.retry_after = retry_after


class ConfigError(CloseAIError, ValueError):
    """A setting of the connection is missing, unknown or invalid."""

    permanent = True


class InvalidParameter(CloseAIError, ValueError):
    """A parameter of a call is wrong; nothing was sent."""

    permanent = True


class DiscoveryError(CloseAIError):
    """No base is known, and discovery failed."""


class NoHealthyBase(CloseAIError):
    """Bases are known, but none is healthy now."""


class NotSent(CloseAIError):
    """No base could be reached: the request was not sent, and nothing was changed."""


class OutcomeUnknown(CloseAIError):
    """The request was sent but no usable answer came: it may or may not have been executed."""


class RateLimited(CloseAIError):
    """The platform asks to wait longer than the call's deadline allows. Never executed."""


class Rejected(CloseAIError):
    """The platform refused the request (4xx). Never executed, and a retry would be refused again."""

    permanent = True


class AuthenticationFailed(Rejected):
    """401: the key is not known to the platform."""


class PermissionDenied(Rejected):
    """403: the key may not do this; a sub-account's key may not call the open API."""


class Declined(CloseAIError):
    """The platform answered 2xx but said no. A declined create may have been done in part."""


class MaskedKeys(CloseAIError):
    """The listing hides the keys that the call needs. Nothing was sent."""

    permanent = True


class UnreadableAccount(CloseAIError):
    """A selected account is listed but cannot be read. Nothing was changed."""


class RequestTimedOut(CloseAIError):
    """408: the platform gave up waiting for the request. Never executed."""


class ListingUnstable(CloseAIError):
    """The listing kept changing while it was read, and never agreed with its own ``total``."""
