"""What can be wrong with a plan. Each error says what to do next."""

from __future__ import annotations

from airflow_provider_closeai.client.errors import CloseAIError


class PlanRefused(CloseAIError):
    """The plan goes beyond a bound, is too old, of another account, or not approved. Nothing was changed."""

    permanent = True


class DriftFound(CloseAIError):
    """``fail_on_changes=True``, and what is there is not what the roster says. Nothing was changed."""

    permanent = True


class RosterConflict(CloseAIError):
    """Another roster of this deployment speaks for the same alias. Nothing was changed."""

    permanent = True
