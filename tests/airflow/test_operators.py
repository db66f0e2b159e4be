"""The operators' parameters: from templates, from Python, mapped; run by Airflow against the platform."""

from __future__ import annotations

import inspect
from decimal import Decimal
from typing import Any

import pytest
from airflow_cell import AIRFLOW, ON_3, connect, prices, run, serialized

from airflow_provider_closeai.operators.roster import SyncSubAccountsOperator
from airflow_provider_closeai.operators.rotate import RotateSubAccountsOperator
from airflow_provider_closeai.operators.sub_accounts import (
    CreateSubAccountsOperator,
    DeleteSubAccountsOperator,
    ListSubAccountsOperator,
    UpdatePricingOperator,
)
from airflow_provider_closeai.provisioning.requests import (
    CreateRequest,
    DeleteRequest,
    RepriceRequest,
    RotateRequest,
)
from airflow_provider_closeai.roster.decide import Options
from airflow_provider_closeai.simulator import Simulator

Create, Update = CreateSubAccountsOperator, UpdatePricingOperator
Delete, List = DeleteSubAccountsOperator, ListSubAccountsOperator
RECORD = {
    "id",
    "alias",
    "balance",
    "monthly_cost",
    "model_pricing",
    "enabled",
    "created_at",
    "updated_at",
    "token_hint",
}
PRICING = {"gpt-4": 1}


def failure() -> type[BaseException]:
    from airflow.providers.common.compat.sdk import AirflowFailException

    return AirflowFailException


# --- Parameters --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "native", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["text", "native"]
)
def test_every_parameter_comes_from_a_template(
    sim: Simulator, dag: Any, monkeypatch: pytest.MonkeyPatch, native: bool
) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_CLOSEAI_DEFAULT")
    connect(monkeypatch, sim, "other")
    dag.render_template_as_native_obj = native
    there = "{{ dag_run.conf['conn'] }}"
    with dag:
        create = Create(
            task_id="create",
            alias="{{ dag_run.conf['alias'] }}",
            model_pricing="{{ dag_run.conf['pricing'] | tojson }}",
            balance="{{ dag_run.conf['balance'] }}",
            count="{{ dag_run.conf['count'] }}",
            if_exists="{{ 'fa' + 'il' }}",
            closeai_conn_id=there,
        )
        show = Update(
            task_id="show",
            alias="{{ dag_run.conf['alias'] }}",
            model_pricing={"gpt-5": "{{ 2 * 2 }}"},
            dry_run="{{ 1 == 1 }}",
            closeai_conn_id=there,
        )
        reprice = Update(
            task_id="reprice",
            sub_accounts="{{ ti.xcom_pull('create') | tojson }}",
            model_pricing='{"gpt-5": "{{ 0.75 }}"}',
            mode="{{ 'replace' }}",
            dry_run="{{ 1 == 2 }}",
            closeai_conn_id=there,
        )
        listed = List(task_id="list", alias="{{ dag_run.conf['alias'] }}", closeai_conn_id=there)
        refused = Delete(
            task_id="refused",
            alias="{{ dag_run.conf['alias'] }}",
            max_delete="{{ dag_run.conf['count'] - 1 }}",
            closeai_conn_id=there,
        )
        missing = Delete(
            task_id="missing",
            sub_accounts="{{ [10 ** 6] }}",
            missing="{{ 'fa' + 'il' }}",
            trigger_rule="all_done",
            closeai_conn_id=there,
        )
        create >> show >> reprice >> listed >> refused >> missing

    conf = {"conn": "other", "alias": "team a", "pricing": {"gpt-4": 1.5}, "balance": "12.50", "count": 2}
    done = run(dag, conf)

    assert [done.task(task) for task in ("create", "show", "reprice", "list")] == ["success 1"] * 4
    created = [body for body in bodies(sim, "create") if body]
    assert created == [
        {
            "alias": "team a",
            "model_pricing": [{"model": "gpt-4", "pricing_factor": 1.5}],
            "balance": 12.5,
            "count": 2,
        }
    ]
    assert [record["model_pricing"] for record in done.result("show")] == [
        [{"model": "gpt-4", "pricing_factor": 1.5}, {"model": "gpt-5", "pricing_factor": 4}]
    ] * 2
    assert [prices(account) for account in sim.accounts("team a")] == [{"gpt-5": 0.75}] * 2
    assert [record["id"] for record in done.result("list")] == [item["id"] for item in sim.accounts()]
    assert done.task("refused") == "failed 1"  # too many
    assert done.task("missing") == "failed 1"
    assert (sim.count("create"), sim.count("update"), sim.count("delete")) == (1, 1, 0)


def bodies(sim: Simulator, call: str) -> list[Any]:
    return [request.body for request in sim.requests if request.call == call]


def test_plain_python_values_and_the_records_of_other_tasks(sim: Simulator, dag: Any) -> None:
    sim.add_account("other")
    with dag:
        create = Create(
            task_id="create",
            alias="a",
            model_pricing=[{"model": "gpt-4", "pricing_factor": 1}, {"model": "m", "pricing_factor": 0.1}],
            balance=Decimal("0.30"),
            count=3,
            batch_size=2,
        )
        reprice = Update(
            task_id="reprice", sub_accounts=create.output, model_pricing={"m": Decimal("0.2")}, batch_size=2
        )
        delete = Delete(task_id="delete", sub_accounts=reprice.output, max_delete=3, batch_size=2)
        rest = List(task_id="rest")
        delete >> rest
    assert "0.30" in serialized(dag)

    done = run(dag)

    assert done.state == "success"
    assert [body["count"] for body in bodies(sim, "create")] == [2, 1]
    assert [len(body["sks"]) for body in bodies(sim, "update")] == [2, 1]
    assert [len(body["sks"]) for body in bodies(sim, "delete")] == [2, 1]
    assert [record["alias"] for record in done.result("rest")] == ["other"]
    for task, pricing in (("create", 0.1), ("reprice", 0.2), ("delete", 0.2)):
        records = done.result(task)
        assert len(records) == 3
        for record in records:
            assert set(record) == RECORD
            assert record["balance"] == "0.3"
            assert record["model_pricing"][1] == {"model": "m", "pricing_factor": pricing}
            assert record["token_hint"].startswith("sk-…")


def test_mapped_operators(sim: Simulator, dag: Any) -> None:
    with dag:
        create = Create.partial(task_id="create", model_pricing=PRICING, balance=1).expand(
            alias=["a", "b", "c"]
        )
        reprice = Update.partial(task_id="reprice", alias="a").expand(
            model_pricing=[{"gpt-4": 2}, {"gpt-4": 3}], dry_run=[True]
        )
        each = Update.partial(task_id="each", model_pricing={"gpt-4": 5}).expand(sub_accounts=create.output)
        delete = Delete.partial(task_id="delete", max_delete=1).expand_kwargs(
            [{"alias": "a", "dry_run": True}, {"alias": "b", "dry_run": "{{ 1 == 2 }}"}]
        )
        create >> reprice >> each >> delete
    text = serialized(dag)
    assert "is_dry_run" in text

    done = run(dag)

    assert done.state == "success"
    assert {task: done.states(task) for task in ("create", "reprice", "each", "delete")} == {
        "create": ["success"] * 3,
        "reprice": ["success"] * 2,
        "each": ["success"] * 3,
        "delete": ["success"] * 2,
    }
    assert [records[0]["alias"] for records in done.results("create")] == ["a", "b", "c"]
    assert [r[0]["model_pricing"][0]["pricing_factor"] for r in done.results("reprice")] == [2, 3]
    assert sorted(account["alias"] for account in sim.accounts()) == ["a", "c"]
    assert [prices(account) for account in sim.accounts()] == [{"gpt-4": 5}] * 2
    assert (sim.count("create"), sim.count("update"), sim.count("delete")) == (3, 3, 1)


@pytest.mark.parametrize(
    ("operator", "parameters", "told"),
    [
        (Create, {"alias": ""}, "alias is empty"),
        (Create, {"alias": " a"}, "alias is ' a', with spaces around it"),
        (Create, {"alias": "a\u200bb"}, "U+200B (ZERO WIDTH SPACE)"),
        (Create, {"alias": 7}, "alias is 7, not text but of type int"),
        (Create, {"deliver_to": object()}, "deliver_to is of type object, not a sink"),
        (Create, {"deliver_to": dict}, "deliver_to is the class dict, not a sink"),
        (Create, {"alias": None}, "alias is empty"),
        (Create, {"count": 0}, "count is 0"),
        (Create, {"count": "many"}, "count is 'many'"),
        (Create, {"count": True}, "count is True"),
        (Create, {"count": 1.5}, "count is 1.5"),
        (Create, {"balance": -1}, "balance is -1"),
        (Create, {"balance": "nan"}, "balance is text, and not a number"),
        (Create, {"balance": float("nan")}, "balance is NaN"),
        (Create, {"balance": None}, "balance is of type NoneType"),
        (Create, {"model_pricing": "{'gpt-4': 1}"}, "tojson"),
        (Create, {"model_pricing": {}}, "model_pricing is empty"),
        (Create, {"model_pricing": "gpt-4"}, "model_pricing is text that is not JSON"),
        (Create, {"model_pricing": {"gpt-4": True}}, "model_pricing['gpt-4'] is of type bool"),
        (Create, {"model_pricing": [{"model": "m", "factor": 1}]}, "unknown field 'factor'"),
        (Create, {"if_exists": "ignore"}, "if_exists is 'ignore'"),
        (Create, {"batch_size": 0}, "batch_size is 0"),
        (Create, {"settle": -1}, "settle is -1"),
        (Update, {}, "sub_accounts, alias, sks select the accounts, and none is given"),
        (Update, {"sub_accounts": "None"}, "that task returned nothing"),
        (Update, {"alias": "a", "sub_accounts": [1]}, "sub_accounts and alias are given"),
        (Update, {"alias": "a", "sks": ["sk-1"]}, "alias and sks are given"),
        (Update, {"alias": ""}, "alias is empty, which never means all"),
        (Update, {"sub_accounts": []}, "sub_accounts is an empty list"),
        (Update, {"sks": []}, "sks is an empty list"),
        (Update, {"sks": ""}, "sks is ''"),
        (Update, {"sks": "sk-abc****wxyz"}, "sks has a key whose characters are replaced for show"),
        (Update, {"alias": "a", "model_pricing": []}, "model_pricing is empty"),
        (Update, {"alias": "a", "mode": "set"}, "mode is 'set'"),
        (Update, {"alias": "a", "dry_run": "maybe"}, "dry_run is 'maybe'"),
        (Update, {"alias": "a", "batch_size": "x"}, "batch_size is 'x'"),
        (Delete, {}, "none is given"),
        (Delete, {"alias": ""}, "alias is empty, which never means all"),
        (Delete, {"sub_accounts": ""}, "sub_accounts is ''"),
        (
            Delete,
            {"sub_accounts": "[{'id': 1}]"},
            "sub_accounts is text that is not JSON: a template renders",
        ),
        (Delete, {"sub_accounts": [None]}, "sub_accounts has an entry that is None"),
        (Delete, {"sub_accounts": [1], "sks": "sk-1"}, "sub_accounts and sks are given"),
        (Delete, {"alias": "a", "missing": "warn"}, "missing is 'warn'"),
        (Delete, {"alias": "a", "max_delete": -1}, "max_delete is -1"),
        (Delete, {"alias": "a", "dry_run": None}, "dry_run is None"),
        (Delete, {"alias": "a", "dry_run": 0}, "dry_run is 0"),
        (List, {"alias": ""}, "alias is empty"),
        (List, {"alias": 1}, "alias is 1, not text"),
        (List, {"alias": "a", "sub_accounts": [1]}, "sub_accounts and alias are given"),
        (List, {"sub_accounts": []}, "sub_accounts is an empty list"),
    ],
    ids=lambda value: value.__name__[:6] if isinstance(value, type) else None,
)
def test_bad_parameters_send_nothing(
    sim: Simulator, operator: Any, parameters: dict[str, Any], told: str
) -> None:
    needed: dict[Any, dict[str, Any]] = {
        Create: {"alias": "a", "model_pricing": PRICING, "balance": 1},
        Update: {"model_pricing": PRICING},
    }
    task = operator(task_id="task", **{**needed.get(operator, {}), **parameters})
    with pytest.raises(failure()) as caught:
        task.execute({})
    assert told in str(caught.value)
    assert sim.requests == []


def test_no_parameter_is_read_while_a_dag_file_is_parsed(dag: Any) -> None:
    with dag:
        Create(task_id="create", alias="{{ x }}", model_pricing="{{ x }}", balance="{{ x }}", count="{{ x }}")
        Update(task_id="update", model_pricing="{{ x }}", sub_accounts="{{ x }}", mode="{{ x }}")
        Delete(task_id="delete", sub_accounts="{{ x }}", max_delete="{{ x }}", dry_run="{{ x }}")
    serialized(dag)


def test_airflows_own_dry_run_still_works(sim: Simulator, dag: Any, caplog: pytest.LogCaptureFixture) -> None:
    with dag:
        tasks = [
            Update(task_id="update", alias="shown", model_pricing=PRICING, dry_run=True),
            Delete(task_id="delete", alias="shown", dry_run=True),
        ]
    for task in tasks:
        if hasattr(type(task), "dry_run"):
            task.dry_run()
    if not ON_3:
        assert "shown" in caplog.text
    assert sim.requests == []


def test_the_cell_is_the_one_that_was_meant() -> None:
    import airflow

    assert airflow.__version__ == ".".join(map(str, AIRFLOW))


@pytest.mark.parametrize(
    ("operator", "parsed", "is_own"),
    [
        (Create, CreateRequest.parse, ()),
        (Update, RepriceRequest.parse, ()),
        (Delete, DeleteRequest.parse, ()),
        (RotateSubAccountsOperator, RotateRequest.parse, {"expires"}),  # of a roster's entry
        (SyncSubAccountsOperator, Options, ()),
    ],
)
def test_defaults_are_those_of_the_requests(operator: Any, parsed: Any, is_own: Any) -> None:
    shown = inspect.signature(operator.__init__).parameters
    defaults = {
        name: each.default
        for name, each in inspect.signature(parsed).parameters.items()
        if name not in is_own
    }
    assert {name: shown[name].default for name in defaults} == defaults
