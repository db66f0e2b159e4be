"""The same job written three times: make it so that an alias has three accounts, and tell their ids."""

from __future__ import annotations

import json
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Param, task
from airflow.providers.http.hooks.http import HttpHook
from airflow.providers.http.operators.http import HttpOperator

from airflow_provider_closeai.operators.sub_accounts import CreateSubAccountsOperator

COUNT = 3
PRICING = {"gpt-4": 1, "gpt-4o": 1.5}
LIST, CREATE = "api/v1/account/sub-account/list", "api/v1/account/sub-account/token"
PARAMS = {"alias": Param("team", type="string")}
RETRIES: dict[str, Any] = {"retries": 3, "retry_delay": 1}


# --- With the official HTTP provider: look, then create what is missing; answers are not logged, XCom gets
# --- ids only, the key is in the connection's extra. The connection leads to the best base.


def ids(items: list[dict[str, Any]], alias: str) -> list[int]:
    return [item["id"] for item in items if item["alias"] == alias]


def body(alias: str, count: int) -> str:
    pricing = [{"model": model, "pricing_factor": factor} for model, factor in PRICING.items()]
    return json.dumps({"alias": alias, "count": count, "balance": 100, "model_pricing": pricing})


with DAG("bench_http_operator", schedule=None, catchup=False, max_active_runs=1, params=PARAMS):
    look = HttpOperator(
        task_id="look",
        http_conn_id="bench_http_operator",
        method="GET",
        endpoint=LIST,
        data={"page": 1, "page_size": 500, "alias": "{{ params.alias }}"},
        response_filter=lambda response, params: ids(response.json()["items"], params["alias"]),
        log_response=False,
        extra_options={"timeout": 60},
        **RETRIES,
    )

    @task.short_circuit(ignore_downstream_trigger_rules=False)
    def missing(there: list[int], params: dict[str, Any]) -> str:
        return body(params["alias"], COUNT - len(there)) if len(there) < COUNT else ""

    make_body: Any = missing
    made_body = make_body(look.output)
    create = HttpOperator(
        task_id="create",
        http_conn_id="bench_http_operator",
        method="POST",
        endpoint=CREATE,
        headers={"Content-Type": "application/json"},
        data=made_body,
        response_check=lambda response: response.json()["success"],
        response_filter=lambda response, params: ids(response.json()["items"], params["alias"]),
        log_response=False,
        extra_options={"timeout": 60},
        **RETRIES,
    )


with DAG("bench_http_hook", schedule=None, catchup=False, max_active_runs=1, params=PARAMS):
    # One task, so that every retry looks again.
    @task(**RETRIES)
    def create_missing(params: dict[str, Any]) -> list[int]:
        alias, options = params["alias"], {"timeout": 60}
        query = {"page": 1, "page_size": 500, "alias": alias}
        hook = HttpHook("GET", http_conn_id="bench_http_hook")
        there = ids(hook.run(LIST, query, extra_options=options).json()["items"], alias)
        if len(there) < COUNT:
            headers = {"Content-Type": "application/json"}
            hook = HttpHook("POST", http_conn_id="bench_http_hook")
            answer = hook.run(CREATE, body(alias, COUNT - len(there)), headers, options).json()
            there += ids(answer["items"], alias)
        return there

    create_missing()


# --- With this package.

with DAG("bench_closeai", schedule=None, catchup=False, max_active_runs=1, params=PARAMS):
    CreateSubAccountsOperator(
        task_id="create",
        closeai_conn_id="bench_closeai",
        alias="{{ params.alias }}",
        count=COUNT,
        balance=100,
        model_pricing=PRICING,
        settle=5,
        **RETRIES,
    )
