"""The CloseAI platform, offline: strict, stateful, with faults on demand.

An independent second reading of the platform's page (docs/platform-api.md): it imports nothing from
the provider, and the provider imports nothing from it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_closeai.simulator.core import Simulator
    from airflow_provider_closeai.simulator.log import Request

__all__ = ["Request", "Simulator"]


def __getattr__(name: str) -> Any:
    """Import on first use: every pytest process in this environment imports this package for its plugin."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from airflow_provider_closeai.simulator import core

    return getattr(core, name)
