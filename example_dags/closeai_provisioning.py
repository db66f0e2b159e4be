"""A tour: give a team its keys, change a price, and take the keys back.

In production the last task belongs in a DAG of its own: a deletion should not follow a creation.

Try it offline: start the simulator (``python -m airflow_provider_closeai.simulator``), export the connection
that it prints, then ``airflow dags test closeai_provisioning``.
"""

from __future__ import annotations

import os

from airflow.providers.common.compat.sdk import DAG, Param

from airflow_provider_closeai.operators.sub_accounts import (
    CreateSubAccountsOperator,
    DeleteSubAccountsOperator,
    UpdatePricingOperator,
)

# The cost DAGs' ledger: it also records what a key cost between its last snapshot and its deletion.
COSTS = os.environ.get("CLOSEAI_COSTS")

with DAG(
    dag_id="closeai_provisioning",
    schedule=None,
    catchup=False,
    max_active_runs=1,  # two runs at the same time would use the same alias
    tags=["closeai", "example"],
    doc_md=__doc__,
    params={
        "alias": Param("team-ads", type="string", description="the team's accounts are called this"),
        "count": Param(2, type="integer", minimum=1, maximum=20),
        "really_delete": Param(False, type="boolean", description="false: only show what would go"),
    },
):
    # State what you want. However often it is retried or killed, there will be `count` accounts.
    # Existing accounts keep their prices; if_exists="update" would give them these.
    create = CreateSubAccountsOperator(
        task_id="create",
        alias="{{ params.alias }}",
        count="{{ params.count }}",
        balance=100,
        # A model that is not listed has no permission.
        model_pricing={"gpt-4": 1, "gpt-4o": "1.5"},
        retries=3,  # retries are safe: nothing is created twice
    )

    # A discount for a while: `merge` changes the models named here and keeps the others.
    reprice = UpdatePricingOperator(
        task_id="reprice",
        alias="{{ params.alias }}",  # by name, so it also works if `create` was marked as success by hand
        model_pricing={"gpt-4o": "1.2"},
        retries=3,
    )

    # Deletes nothing unless the run is started with really_delete=true; its log shows what would be deleted.
    # On Airflow 3.1 and later, an ApprovalOperator in front of it lets a person decide.
    delete = DeleteSubAccountsOperator(
        task_id="delete",
        alias="{{ params.alias }}",
        max_delete="{{ params.count }}",
        dry_run="{{ not params.really_delete }}",
        ledger=f"{COSTS}/ledger" if COSTS else None,
        retries=3,
    )

    create >> reprice >> delete
