"""Exact writes from what users want: a request, a decision, and the runner that does the I/O.

Only the names here are public; all modules of this package but ``runner`` are internal (docs/stability.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_closeai._lazy import import_on_use

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

if not TYPE_CHECKING:
    __getattr__ = import_on_use(__name__, __all__, "errors", "selection", "requests", "runner")
