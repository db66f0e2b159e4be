"""Start work only when the API is up, and use the base that is up now.

Try it offline: start the simulator (``python -m airflow_provider_closeai.simulator``), export the connection
that it prints, then ``airflow dags test closeai_health_gate``.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_closeai.sensors.health import HealthSensor

with DAG(
    dag_id="closeai_health_gate",
    schedule=None,
    catchup=False,
    tags=["closeai", "example"],
    doc_md=__doc__,
):
    # It checks the known state every 15 s. However many DAGs wait like this, each base is probed once per
    # `health_ttl` (5 minutes), and every successful call counts as a probe.
    # deferrable=True waits in the triggerer, without a worker slot.
    api_is_up = HealthSensor(
        task_id="api_is_up",
        require="any",
        deferrable=True,
        poke_interval=15,
        timeout=60 * 60,
        retries=3,  # if a worker or a triggerer is lost; a timeout is not retried
    )

    @task
    def call_the_model(base_url: str) -> str:
        # An OpenAI client takes it as OpenAI(base_url=f"{base_url}/v1", api_key=...).
        return f"{base_url}/v1"

    call_the_model(api_is_up.output)
