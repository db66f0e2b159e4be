"""Sensors that wait in the triggerer, put there without a worker: a hundred would take it minutes."""

from __future__ import annotations

import json

from celery_deployment import CeleryDeployment
from deployment import Run

from airflow_provider_closeai.triggers.health import HealthTrigger


def defer(airflow: CeleryDeployment, dag_id: str, connection: str, number: int) -> Run:
    """Start a run whose mapped sensors are deferred; its DAG is paused, so that what fires stays as it is."""
    assert airflow.call("PATCH", f"dags/{dag_id}", {"is_paused": True}).ok
    run = airflow.trigger(dag_id, connection=connection)
    path, arguments = HealthTrigger(connection, "any", 1).serialize()
    airflow.sql("UPDATE dag_run SET state = 'running' WHERE run_id = %s", (run.run_id,))
    airflow.sql(
        """
        WITH made AS (
          INSERT INTO trigger (classpath, kwargs, created_date)
          SELECT %s, %s, now() FROM generate_series(1, %s) RETURNING id
        ), numbered AS (SELECT id, row_number() OVER () - 1 AS number FROM made)
        UPDATE task_instance SET state = 'deferred', trigger_id = id_of, next_method = 'execute_complete'
        FROM (SELECT id AS id_of, number FROM numbered) AS triggers
        WHERE run_id = %s AND map_index = number
        """,
        (path, json.dumps(arguments), number, run.run_id),
    )
    assert deferred(airflow, run) == number
    return run


def deferred(airflow: CeleryDeployment, run: Run) -> int:
    """Count the sensors that wait."""
    ((number,),) = airflow.sql(
        "SELECT count(*) FROM task_instance WHERE run_id = %s AND state = 'deferred'", (run.run_id,)
    )
    return int(number)


def fired(airflow: CeleryDeployment, run: Run) -> list[str]:
    """Give what the sensors' triggers sent."""
    rows = airflow.sql(
        "SELECT next_kwargs::text FROM task_instance WHERE run_id = %s AND state = 'scheduled'", (run.run_id,)
    )
    return [str(text) for (text,) in rows]
