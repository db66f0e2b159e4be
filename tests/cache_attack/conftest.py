"""Each test has caches, locks and an environment of its own."""

from __future__ import annotations

from support import isolated

__all__ = ["isolated"]
