"""The roster: one file says who has which keys, at what prices, within which budget.

A file is read and checked (``read_roster``); from it a plan of changes is made (``make_plan``), shown
(``markdown``) and applied (``apply``). Only the names here are public; all modules of this package are
internal (docs/stability.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_closeai._lazy import import_on_use

if TYPE_CHECKING:
    from airflow_provider_closeai.roster.applied import Applied
    from airflow_provider_closeai.roster.applying import apply
    from airflow_provider_closeai.roster.decide import Options
    from airflow_provider_closeai.roster.errors import DriftFound, PlanRefused, RosterConflict
    from airflow_provider_closeai.roster.look import Books, make_plan
    from airflow_provider_closeai.roster.models import Entry, Roster
    from airflow_provider_closeai.roster.owners import budgets_of, owners_of
    from airflow_provider_closeai.roster.plan import Action, Plan
    from airflow_provider_closeai.roster.reading import read_roster
    from airflow_provider_closeai.roster.render import markdown

__all__ = [
    "Action",
    "Applied",
    "Books",
    "DriftFound",
    "Entry",
    "Options",
    "Plan",
    "PlanRefused",
    "Roster",
    "RosterConflict",
    "apply",
    "budgets_of",
    "make_plan",
    "markdown",
    "owners_of",
    "read_roster",
]

if not TYPE_CHECKING:
    __getattr__ = import_on_use(
        __name__,
        __all__,
        "errors",
        "models",
        "plan",
        "reading",
        "owners",
        "render",
        "look",
        "applied",
        "applying",
    )
