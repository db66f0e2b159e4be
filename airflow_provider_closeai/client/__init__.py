"""The platform's API as it is: finds a healthy base, repeats what may be repeated, explains failures.

Only the names here are public; all modules of this package are internal (docs/stability.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_closeai._lazy import import_on_use

if TYPE_CHECKING:
    from airflow_provider_closeai.client.client import CloseAIClient
    from airflow_provider_closeai.client.config import ClientConfig, config_from
    from airflow_provider_closeai.client.errors import (
        AuthenticationFailed,
        CloseAIError,
        ConfigError,
        Declined,
        DiscoveryError,
        InvalidParameter,
        ListingUnstable,
        MaskedKeys,
        NoHealthyBase,
        NotSent,
        OutcomeUnknown,
        PermissionDenied,
        RateLimited,
        Rejected,
        RequestTimedOut,
        UnreadableAccount,
    )
    from airflow_provider_closeai.client.models import (
        ApiBase,
        BaseHealth,
        SecretToken,
        SubAccount,
        UnreadableItem,
    )

__all__ = [
    "ApiBase",
    "AuthenticationFailed",
    "BaseHealth",
    "ClientConfig",
    "CloseAIClient",
    "CloseAIError",
    "ConfigError",
    "Declined",
    "DiscoveryError",
    "InvalidParameter",
    "ListingUnstable",
    "MaskedKeys",
    "NoHealthyBase",
    "NotSent",
    "OutcomeUnknown",
    "PermissionDenied",
    "RateLimited",
    "Rejected",
    "RequestTimedOut",
    "SecretToken",
    "SubAccount",
    "UnreadableAccount",
    "UnreadableItem",
    "config_from",
]

if not TYPE_CHECKING:
    __getattr__ = import_on_use(__name__, __all__, "models", "errors", "config", "client")
