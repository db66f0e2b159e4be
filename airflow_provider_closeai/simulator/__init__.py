"""The CloseAI platform, offline: strict, stateful, with faults on demand.

An independent second reading of the platform's page (docs/platform-api.md): it imports nothing of
this provider, and nothing of the provider imports it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_closeai.simulator.core import Simulator
    from airflow_provider_closeai.simulator.log import Request

__all__ = ["Request", "Simulator"]


def __getattr__(name: str) -> Any:
    """Import on first use: every pytest process of this environment imports this package for its plugin."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from airflow_provider_closeai.simulator import core

    return getattr(core, name)
