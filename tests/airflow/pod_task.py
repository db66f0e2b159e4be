"""Runs one task, as a pod does, and prints what it returned and what it left behind.

Usage: pod_task.py TASK
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import DAG, timezone
from airflow_cell import run

from airflow_provider_closeai.operators.sub_accounts import (
    CreateSubAccountsOperator,
    DeleteSubAccountsOperator,
    ListSubAccountsOperator,
    UpdatePricingOperator,
)
from airflow_provider_closeai.sensors.health import HealthSensor

ALIAS: dict[str, Any] = {"task_id": "task", "alias": "team"}

with DAG("pod", schedule=None, catchup=False, start_date=timezone.datetime(2026, 1, 1)) as dag:
    match sys.argv[1]:
        case "sense":
            HealthSensor(task_id="task")
        case "create":
            CreateSubAccountsOperator(**ALIAS, count=2, balance=1, model_pricing={"gpt-4": 1}, settle=1)
        case "reprice":
            UpdatePricingOperator(**ALIAS, model_pricing={"gpt-4": 2})
        case "list":
            ListSubAccountsOperator(**ALIAS)
        case "delete":
            DeleteSubAccountsOperator(**ALIAS)

done = run(dag)
kept = sorted(str(path) for path in Path("/tmp").glob("airflow-provider-closeai-*/*"))  # noqa: S108
print("\nPOD", json.dumps([done.state, done.result("task"), kept, os.access("/", os.W_OK)]))
