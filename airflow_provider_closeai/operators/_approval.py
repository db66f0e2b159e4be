"""Binds an approval to the plan that the form showed when a person approved it.

Airflow's approval form keeps the text of its first try even after the planner was cleared or retried, and its
answer does not say what was approved. So an answer counts only if every plan of the DAG run was the same:
then the form shows that plan, whenever it was written. And the form's text must name the plan's digest.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_closeai.roster import Plan, PlanRefused

#: In a plan's record: whether all plans of its DAG run are known to be the same.
IS_ONLY = "is_only_plan"
_KEY = "closeai_plans"
_APPROVE = "Approve"
_NEW_RUN = "Nothing was changed. Start a new DAG run: it plans anew, and its form shows that plan."


class PlansOfRun:
    """
    The digests of the plans that a task made in its DAG run, over all tries (kept by Airflow from 3.3 on).

    Create this before anything can fail: then a later try knows that no plan was made before it.
    """

    def __init__(self, context: Context) -> None:
        now: Any = context
        self._states = now.get("task_state_store")
        is_first_try = getattr(now.get("ti"), "try_number", 1) == 1
        self._before: list[str] | None = [] if is_first_try else None
        if self._states is None:
            return
        with contextlib.suppress(Exception):  # if unreadable, the plan counts as one of several
            text = self._states.get(_KEY)
            self._before = list(json.loads(text)) if text else self._before
            if text is None and is_first_try:
                self._states.set(_KEY, "[]")

    def add(self, digest: str) -> bool:
        """Note a plan; return whether every plan so far was the same."""
        if self._before is None:
            return False
        digests = sorted({*self._before, digest})
        if self._states is not None:
            try:
                self._states.set(_KEY, json.dumps(digests))
            except Exception:  # else a later try would take its own plan for the first
                return False
        return digests == [digest]


def check(context: Context, plan: Plan, record: Mapping[str, Any]) -> None:
    """
    Refuse a plan that was not approved, if there is an approval between planner and task.

    :param record: as PlanSubAccountsOperator returned it.
    :raises PlanRefused: it was not approved. Nothing was changed.
    """
    now: Any = context
    task = now.get("task")  # absent in a plain program
    approvals = _approvals(task) if plan.actions and task is not None else []
    if approvals and not record.get(IS_ONLY):
        raise _refused(
            f"The plan {plan.digest} was made in a DAG run that planned before, and Airflow's approval form "
            f"keeps the text of its first try: nobody may have seen this plan. {_NEW_RUN}"
        )
    for approval in approvals:
        text = _text(approval, context)
        if plan.digest not in text:
            raise _refused(
                f"The approval form of {approval.task_id!r} does not show the plan {plan.digest}. Nothing "
                "was changed. Give it the plan's own text: "
                "body=\"{{ ti.xcom_pull(task_ids='plan')['markdown'] }}\"."
            )
        answers = now["ti"].xcom_pull(task_ids=approval.task_id)
        for answer in answers if isinstance(answers, list) and answers else [answers]:
            _check_answer(approval.task_id, answer, plan.digest)


def _check_answer(task_id: str, answer: Any, digest: str) -> None:
    found = answer if isinstance(answer, Mapping) else {}
    if list(found.get("chosen_options") or ()) != [_APPROVE]:
        nobody = "has no answer: it was skipped, or marked success by hand"
        what = "was answered with no" if found else nobody
        raise _refused(f"{task_id!r} {what}. The plan {digest} is not applied. {_NEW_RUN}")
    if not found.get("responded_by_user"):
        raise _refused(
            f"{task_id!r} was answered by its timeout, not by a person. The plan {digest} is not applied. "
            f"{_NEW_RUN}"
        )


def _refused(message: str) -> PlanRefused:
    from airflow_provider_closeai.roster import PlanRefused  # here, as DAG files are parsed all the time

    return PlanRefused(message)


def _approvals(task: Any) -> list[Any]:
    """Return the approval tasks upstream of a task, except those before the planner."""
    upstream = list(task.get_flat_relatives(upstream=True))
    early = {
        each.task_id
        for planner in _of_class(upstream, "PlanSubAccountsOperator")
        for each in planner.get_flat_relatives(upstream=True)
    }
    return [each for each in _of_class(upstream, "ApprovalOperator") if each.task_id not in early]


def _of_class(tasks: Iterable[Any], name: str) -> list[Any]:
    """Return the tasks of a class, mapped ones too, without importing it: Airflow 2 may not have it."""

    def kind(task: Any) -> Any:
        return getattr(task, "operator_class", None) or type(task)

    return [
        task for task in tasks if any(base.__name__ == name for base in getattr(kind(task), "__mro__", ()))
    ]


def _text(approval: Any, context: Context) -> str:
    """Render the form's templates anew: what the form shows, if nothing has changed since."""
    render = getattr(approval, "render_template", None)
    if render is None:
        return ""
    try:
        return " ".join(
            str(render(getattr(approval, name, "") or "", context)) for name in ("subject", "body")
        )
    except Exception:  # any error of a template: what the form shows is unknown
        return ""
