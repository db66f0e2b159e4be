"""Each test has a private folder of its own."""

from __future__ import annotations

from support import isolated

__all__ = ["isolated"]
