"""Triggers that wait in the triggerer, put there without a worker: it would take minutes for a hundred."""

from __future__ import annotations

import json
from typing import Any

from celery_deployment import CeleryDeployment


def defer(airflow: CeleryDeployment, run_id: str, trigger: tuple[str, dict[str, Any]], number: int) -> None:
    """
    Let so many more tasks of a run be deferred. Its DAG is paused, so that what fires stays as it is.

    :param run_id: of a run of one mapped task.
    :param trigger: as it is serialized.
    """
    airflow.sql("UPDATE dag_run SET state = 'running' WHERE run_id = %s", (run_id,))
    columns = "SELECT column_name FROM information_schema.columns WHERE table_name = 'task_instance'"
    names = {str(name): f'"{name}"' for (name,) in airflow.sql(columns)}
    values = {**names, "id": "gen_random_uuid()", "map_index": "numbered.number", "trigger_id": "numbered.id",
              "state": "'deferred'", "next_method": "'execute_complete'"}  # fmt: skip
    cells = ", ".join(f"task.{each}" if each == names.get(name) else each for name, each in values.items())
    airflow.sql(
        f"""
        WITH made AS (
          INSERT INTO trigger (classpath, kwargs, created_date)
          SELECT %s, %s, now() FROM generate_series(1, %s) RETURNING id
        ), numbered AS (
          SELECT id, row_number() OVER () + last.number AS number
          FROM made, (SELECT max(map_index) AS number FROM task_instance WHERE run_id = %s) AS last
        ), task AS (SELECT * FROM task_instance WHERE run_id = %s AND map_index = 0)
        INSERT INTO task_instance ({", ".join(names.values())}) SELECT {cells} FROM numbered, task
        """,  # noqa: S608
        (trigger[0], json.dumps(trigger[1]), number, run_id, run_id),
    )


def deferred(airflow: CeleryDeployment, run_id: str) -> int:
    """Count the tasks that wait."""
    query = "SELECT count(*) FROM task_instance WHERE run_id = %s AND state = 'deferred'"
    ((number,),) = airflow.sql(query, (run_id,))
    return int(number)


def fired(airflow: CeleryDeployment, run_id: str) -> list[str]:
    """Give what the triggers sent."""
    query = "SELECT next_kwargs::text FROM task_instance WHERE run_id = %s AND state = 'scheduled'"
    return [str(text) for (text,) in airflow.sql(query, (run_id,))]
