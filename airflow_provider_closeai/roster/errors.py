"""Errors of plans. Each says what to do next."""

from __future__ import annotations

from airflow_provider_closeai.client.errors import CloseAIError


class PlanRefused(CloseAIError):
    """The plan is beyond a bound, too old, for another account, or not approved. Nothing was changed."""

    permanent = True


class DriftFound(CloseAIError):
    """``fail_on_changes=True``, and the accounts differ from the roster. Nothing was changed."""

    permanent = True


class RosterConflict(CloseAIError):
    """Another roster of this deployment owns the same alias. Nothing was changed."""

    permanent = True
