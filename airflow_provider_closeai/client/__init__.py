"""The platform's API as it is: finds a healthy base, repeats what may be repeated, says what failed.

The names here are the public ones; all modules beneath are internal (docs/stability.md).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

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
_MODULES = {
    "CloseAIClient": "client",
    "ClientConfig": "config",
    "config_from": "config",
    **dict.fromkeys(("ApiBase", "BaseHealth", "SecretToken", "SubAccount", "UnreadableItem"), "models"),
}


def __getattr__(name: str) -> Any:
    """Import on first use: DAG files are parsed every few seconds."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = _MODULES.get(name, "errors")
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)
