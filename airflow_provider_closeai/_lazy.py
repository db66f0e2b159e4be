"""Imports public names on first use, as DAG files are parsed every few seconds."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection
from typing import Any


def import_on_use(package: str, names: Collection[str], *modules: str) -> Callable[[str], Any]:
    """
    Make a package's ``__getattr__``. Type checkers read the imports under ``TYPE_CHECKING`` instead.

    :param package: its ``__name__``.
    :param names: its ``__all__``.
    :param modules: where to look for each name, cheapest import first; a module's own name may be public.
    """

    def find(name: str) -> Any:
        for module in modules if name in names else ():
            found = importlib.import_module(f"{package}.{module}")
            if name == module:
                return found
            if hasattr(found, name):
                return getattr(found, name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return find
