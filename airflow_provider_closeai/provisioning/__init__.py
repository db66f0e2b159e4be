"""What users mean, made exact: a request, a decision, and the runner that does the I/O.

The names here are the public ones; all modules beneath but ``runner`` are internal (docs/stability.md).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_closeai.provisioning import runner
    from airflow_provider_closeai.provisioning.errors import (
        AliasBusy,
        AliasExists,
        ClockDisagrees,
        MissingAccounts,
        NotASubAccount,
        NotConfirmed,
        NotNoted,
        PricingDiffers,
        SupervisorGone,
        TooManyAccounts,
        TooManySelected,
        UnconvertedPricing,
        UnexpectedAnswer,
    )
    from airflow_provider_closeai.provisioning.requests import (
        CreateRequest,
        DeleteRequest,
        RepriceRequest,
        RotateRequest,
    )
    from airflow_provider_closeai.provisioning.selection import Selection

__all__ = [
    "AliasBusy",
    "AliasExists",
    "ClockDisagrees",
    "CreateRequest",
    "DeleteRequest",
    "MissingAccounts",
    "NotASubAccount",
    "NotConfirmed",
    "NotNoted",
    "PricingDiffers",
    "RepriceRequest",
    "RotateRequest",
    "Selection",
    "SupervisorGone",
    "TooManyAccounts",
    "TooManySelected",
    "UnconvertedPricing",
    "UnexpectedAnswer",
    "runner",
]
_MODULES = {
    "Selection": "selection",
    **{name: "requests" for name in __all__ if name.endswith("Request")},
}


def __getattr__(name: str) -> Any:
    """Import on first use: DAG files are parsed every few seconds."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "runner":
        return importlib.import_module(f"{__name__}.runner")
    module = _MODULES.get(name, "errors")
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)
