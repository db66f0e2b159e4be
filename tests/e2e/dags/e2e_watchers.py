"""What the test of events runs: three watchers, and DAGs that keep what they were told."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Asset, AssetWatcher, task

from airflow_provider_closeai.triggers.events import ApiBaseChangedTrigger, CostAlertTrigger

TRIGGERS = {
    "base": ApiBaseChangedTrigger("events", poke_interval=1, looks=2),
    "base_at_once": ApiBaseChangedTrigger("events", poke_interval=1, looks=1),
    "alerts": CostAlertTrigger(f"{os.environ.get('AIRFLOW_HOME')}/ledger", poke_interval=1),
}

for name, trigger in TRIGGERS.items():
    asset = Asset(f"events_{name}", watchers=[AssetWatcher(name=name, trigger=trigger)])

    with DAG(f"e2e_{name}", schedule=[asset], catchup=False):

        @task(retries=5, retry_delay=timedelta(0))
        def tell(triggering_asset_events: Any = None) -> list[Any]:
            return [event.extra["payload"] for told in triggering_asset_events.values() for event in told]

        tell()
