"""Tell a channel when the base to use has changed, or a team is over budget. Airflow 3.0 and later.

The triggerer watches, and no task waits. Alerts about teams are those that `closeai_costs_report` finds with
its thresholds. Events at the same time may share a run.
"""

from __future__ import annotations

import logging
import os
from typing import Any

from airflow.sdk import DAG, Asset, AssetWatcher, task

from airflow_provider_closeai.triggers.events import ApiBaseChangedTrigger, CostAlertTrigger

COSTS = os.environ.get("CLOSEAI_COSTS", "/var/lib/airflow/closeai-costs")

BASE = Asset(
    "CloseAI base to use",
    watchers=[AssetWatcher(name="closeai_base", trigger=ApiBaseChangedTrigger("closeai_default"))],
)
ALERTS = Asset(
    "CloseAI cost alerts",
    watchers=[AssetWatcher(name="closeai_alerts", trigger=CostAlertTrigger(f"{COSTS}/ledger"))],
)


def tell_channel(text: str) -> None:
    """Notify people; use a hook of your own, for instance ``SlackWebhookHook().send(text=text)``."""
    logging.getLogger(__name__).warning("%s", text)


def texts_of(payload: dict[str, Any]) -> list[str]:
    if "alerts" in payload:
        return [
            "{team} has reached {threshold} in {billing_month}.".format(**each) for each in payload["alerts"]
        ]
    if payload["base"] is None:
        return [f"No CloseAI base is healthy; the last one was {payload['previous']}."]
    return [f"The CloseAI base to use is {payload['base']} now; it was {payload['previous']}."]


with DAG(
    dag_id="closeai_events",
    schedule=BASE | ALERTS,
    catchup=False,
    tags=["closeai", "example"],
    doc_md=__doc__,
):

    @task
    def tell(triggering_asset_events: Any = None) -> list[str]:
        payloads = [event.extra["payload"] for told in triggering_asset_events.values() for event in told]
        texts = [text for payload in payloads for text in texts_of(payload)]
        for text in texts:
            tell_channel(text)
        return texts

    tell()
