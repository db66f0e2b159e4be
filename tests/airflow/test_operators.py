"""The operators, run by Airflow against the platform: what they do, what they retry, what they return."""

from __future__ import annotations

import dataclasses
import inspect
import json
import tempfile
import warnings
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from airflow_cell import AIRFLOW, ON_3, run, serialized

from airflow_provider_closeai.operators.sub_accounts import (
    CreateSubAccountsOperator,
    DeleteSubAccountsOperator,
    ListSubAccountsOperator,
    UpdatePricingOperator,
)
from airflow_provider_closeai.provisioning.requests import CreateRequest, DeleteRequest, RepriceRequest
from airflow_provider_closeai.simulator import Request, Simulator

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


def connect(monkeypatch: pytest.MonkeyPatch, sim: Simulator, conn_id: str, **fields: Any) -> None:
    connection = {**sim.connection(), **fields}
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(connection))


def prices(account: dict[str, Any]) -> dict[str, float]:
    return {entry["model"]: float(entry["pricing_factor"]) for entry in account["model_pricing"]}


def failure() -> type[BaseException]:
    from airflow.providers.common.compat.sdk import AirflowFailException

    return AirflowFailException


# --- Parameters --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("native", [False, True], ids=["text", "native"])
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
        (Create, {"balance": "nan"}, "balance is NaN"),
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


# --- What other tasks return, and do not -------------------------------------------------------------------


@pytest.mark.parametrize("native", [False, True], ids=["text", "native"])
def test_a_mapped_create_feeds_one_task(
    sim: Simulator, dag: Any, native: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    dag.render_template_as_native_obj = native
    with dag:
        create = Create.partial(task_id="create", model_pricing=PRICING, balance=1, count=2).expand(
            alias=["a", "b", "c"]
        )
        more = Create(task_id="more", alias="d", model_pricing=PRICING, balance=1)
        reprice = Update(task_id="reprice", sub_accounts=create.output, model_pricing={"gpt-4": 2})
        text = Update(
            task_id="text",
            sub_accounts="{{ ti.xcom_pull('create') | list | tojson }}",
            model_pricing={"gpt-4": 3},
        )
        both = Update(task_id="both", sub_accounts=[create.output, more.output, 1], model_pricing={"m": 4})
        now = List(task_id="now", sub_accounts=create.output)
        each = Update.partial(task_id="each", model_pricing={"gpt-4": 5}).expand(sub_accounts=create.output)
        delete = Delete(task_id="delete", sub_accounts=create.output, max_delete=6)
        gone = List(task_id="gone", sub_accounts=create.output)
        reprice >> text >> both >> now >> each >> delete >> gone
    done = run(dag)

    assert done.state == "success"
    assert {task: len(done.result(task)) for task in ("reprice", "text", "both", "now", "delete")} == {
        "reprice": 6,
        "text": 6,
        "both": 7,
        "now": 6,
        "delete": 6,
    }
    assert {record["alias"] for record in done.result("now")} == {"a", "b", "c"}
    assert [prices(account) for account in sim.accounts()] == [{"gpt-4": 1, "m": 4}]
    assert done.result("gone") == []
    assert "Listed 0 sub-accounts: ids []." in caplog.text
    ids = sorted(record["id"] for records in done.results("create") for record in records)
    assert f"Deleted 6 sub-accounts, not listed any more: ids {ids}." in caplog.text
    assert done.labels("create") == ["a", "b", "c"]
    assert done.labels("each") == ["a", "b", "c"]
    assert "token" not in done.rendered("reprice")


def test_a_create_that_returned_nothing_is_named_with_the_cure(
    sim: Simulator, dag: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """As one that was marked success by hand."""
    from airflow.providers.common.compat.sdk import task as task_of

    with dag:

        @task_of
        def create() -> None:
            return None

        Update(task_id="reprice", sub_accounts=create(), model_pricing=PRICING, retries=3)
        List(task_id="list", sub_accounts=create.override(task_id="again")())
    done = run(dag)
    assert done.task("reprice") == "failed 1"
    assert done.task("list") == "failed 1", "a result that is not there must not list everything"
    assert "marked success by hand" in " ".join(record.getMessage() for record in caplog.records)
    assert sim.requests == []


@pytest.mark.parametrize("alias", ["007", "1e3", "none"])
def test_an_alias_that_looks_like_a_number(sim: Simulator, dag: Any, alias: str) -> None:
    dag.render_template_as_native_obj = True
    wish: dict[str, Any] = {"model_pricing": "{{ params.prices }}", "balance": "{{ 1 }}"}
    dag.params["prices"] = {"gpt-4": 1.5}
    dag.params["alias"] = alias
    with dag:
        Create(task_id="bare", alias="{{ params.alias }}", **wish)
        Create(task_id="quoted", alias="'{{ params.alias }}'", **wish)
    done = run(dag)
    assert done.task("quoted") == "success 1"
    assert done.task("bare") in ("success 1", "failed 1")
    assert {account["alias"] for account in sim.accounts()} == {alias}
    assert len(sim.accounts()) == 1


def test_the_readme_dag_is_green_on_every_run_and_says_what_is_so(
    sim: Simulator, dag: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with dag:
        create = Create(task_id="create", alias="a", model_pricing={"m": 1, "n": "1.5"}, balance=1, count=2)
        reprice = Update(task_id="reprice", sub_accounts=create.output, model_pricing={"n": "1.2"})
        same = List(task_id="list", alias="a")
        create >> reprice >> same
    results = []
    for _ in range(3):
        caplog.clear()
        done = run(dag)
        assert done.state == "success"
        results.append([done.result(task) for task in ("create", "reprice", "list")])
    assert results[1] == results[2]
    assert [record.get("pricing_differs") for result in results for record in result[0]] == [None] * 2 + [
        True
    ] * 4
    assert "pricing_differs" not in results[2][1][0]
    assert "Alias 'a' has 2 sub-accounts (0 created now): ids [1, 2]." in caplog.text
    assert (
        "2 sub-accounts selected, all have the prices asked for (0 changed now): ids [1, 2]." in caplog.text
    )
    assert "Listed 2 sub-accounts with exactly the alias 'a': ids [1, 2]." in caplog.text
    assert (sim.count("create"), sim.count("update")) == (1, 1)


@pytest.mark.parametrize(
    "alias",
    ["\u3000全角", " a ", "字" * 300, "{{ 1 }}"],
    ids=["wide", "spaces", "long", "braces"],
)
def test_any_alias_that_exists(sim: Simulator, dag: Any, alias: str) -> None:
    account = sim.add_account(alias, [{"model": "gpt-4", "pricing_factor": 1}])
    sim.add_account("a")
    dag.params["alias"] = alias
    with dag:
        listed = List(task_id="list", alias="{{ params.alias }}")
        reprice = Update(task_id="reprice", alias="{{ params.alias }}", model_pricing={"gpt-4": 2})
        delete = Delete(task_id="delete", alias="{{ params.alias }}")
        listed >> reprice >> delete
    done = run(dag)
    assert done.state == "success"
    assert [[record["id"] for record in done.result(task)] for task in dag.task_ids] == [[account["id"]]] * 3
    assert [each["alias"] for each in sim.accounts()] == ["a"]


# --- Sinks in the DAG --------------------------------------------------------------------------------------


class Plain:
    """A sink without a ``repr``, that holds a secret."""

    def __init__(self, secret: str = "") -> None:
        self.secret = secret

    def deliver(self, account: Any) -> str:
        return f"kept-{account.id}"


@dataclasses.dataclass
class Showing(Plain):
    secret: str = "sesame"


def sinks() -> list[Any]:
    from airflow_provider_closeai.sinks.aws import SecretsManagerSink
    from airflow_provider_closeai.sinks.file import EncryptedFileSink
    from airflow_provider_closeai.sinks.vault import VaultSink

    return [
        EncryptedFileSink(Path("~/keys"), "fernet"),
        VaultSink("p-", "v"),
        SecretsManagerSink("p-", "a", "eu"),
        Plain("sesame"),
        Showing(),
    ]


@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize("how", ["plain", "partial", "expand", "expand_kwargs", "default_args"])
def test_a_dag_with_a_sink_is_the_same_each_time_it_is_parsed(how: str, number: int) -> None:
    from airflow.providers.common.compat.sdk import DAG

    texts = []
    for _ in range(2):
        sink = sinks()[number]
        if how == "default_args" and isinstance(sink, Plain):
            return  # docs/keys.md: such a sink needs a repr of its own
        given = {"deliver_to": sink} if how == "default_args" else {}
        wish: dict[str, Any] = {"task_id": "create", "model_pricing": PRICING, "balance": 1}
        with DAG("sinks", schedule=None, default_args=given) as dag:
            if how == "plain":
                Create(alias="a", deliver_to=sink, **wish)
            elif how == "partial":
                Create.partial(deliver_to=sink, **wish).expand(alias=["a"])
            elif how == "expand":
                Create.partial(alias="a", **wish).expand(deliver_to=[sink, None])
            elif how == "expand_kwargs":
                Create.partial(**wish).expand_kwargs([{"alias": "a", "deliver_to": sink}])
            else:
                Create(alias="a", **wish)
        texts.append(serialized(dag))
    assert texts[0] == texts[1]
    assert " at 0x" not in texts[0]
    assert "sesame" not in texts[0]


def test_a_mapped_create_delivers_to_any_sink(sim: Simulator, dag: Any) -> None:
    wish: dict[str, Any] = {"model_pricing": PRICING, "balance": 1}
    with dag:
        Create.partial(task_id="partial", deliver_to=Plain(), **wish).expand(alias=["a", "b"])
        Create.partial(task_id="expand", alias="c", **wish).expand(deliver_to=[Plain()])
        Create.partial(task_id="kwargs", **wish).expand_kwargs([{"alias": "d", "deliver_to": Showing()}])
    done = run(dag)
    assert done.state == "success"
    for task, number in (("partial", 2), ("expand", 1), ("kwargs", 1)):
        records = [records[0] for records in done.results(task)]
        assert [record["delivered_to"] for record in records] == [
            f"kept-{record['id']}" for record in records
        ]
        assert len(records) == number


# --- Failures -----------------------------------------------------------------------------------------------


def test_permanent_errors_are_not_retried(sim: Simulator, dag: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sub = sim.add_account("sub")
    sim.add_account("two")
    sim.add_account("two")
    fixed = {"extra": {"api_bases": sim.base_urls}}
    connect(monkeypatch, sim, "refused", password="sk-not-known-there", **fixed)
    connect(monkeypatch, sim, "undiscovered", password="sk-not-known-there")
    connect(monkeypatch, sim, "sub_key", password=sub["token"], **fixed)
    connect(monkeypatch, sim, "wrong", extra={"timeout": 5})
    sim.fault("create", "status", status=400, body={"error": {"message": "no"}})
    again: dict[str, Any] = {"retries": 3, "retry_delay": 0}
    wish: dict[str, Any] = {"model_pricing": PRICING, "balance": 1, **again}
    with dag:
        Create(task_id="rejected", alias="new", **wish)
        Create(task_id="differs", alias="sub", if_exists="match", **wish)
        Create(task_id="too_many", alias="two", **{**wish, "model_pricing": {"gpt-3.5-turbo": 1}})
        Create(task_id="exists", alias="sub", if_exists="fail", **wish)
        Create(task_id="invalid", alias="new", count="{{ 0 }}", **wish)
        List(task_id="refused", closeai_conn_id="refused", **again)
        Update(task_id="forbidden", alias="a", model_pricing={"m": 1}, closeai_conn_id="sub_key", **again)
        Delete(task_id="undiscovered", alias="a", closeai_conn_id="undiscovered", **again)
        List(task_id="misconfigured", closeai_conn_id="wrong", **again)
        Delete(task_id="guarded", alias="two", max_delete=1, **again)

    done = run(dag)

    assert {task: done.task(task) for task in dag.task_ids} == dict.fromkeys(dag.task_ids, "failed 1")
    assert (sim.count("create"), sim.count("update"), sim.count("delete")) == (1, 0, 0)
    assert len(sim.accounts()) == 3


def test_what_may_pass_is_retried(sim: Simulator, dag: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, sim, "impatient", extra={"max_attempts": 1, "deadline": 1})
    sim.fault("list", "error_before", times=2)
    sim.fault("list", "rate_limit", retry_after=2)
    with dag:
        List(task_id="list", closeai_conn_id="impatient", retries=3, retry_delay=0)

    done = run(dag)

    assert done.task("list") == "success 4"
    assert sim.count("list") == 4
    if AIRFLOW >= (3, 3):
        third, fourth = (request.at for request in sim.requests[-2:])
        assert fourth - third >= 2  # when the platform said that it may be asked again


@pytest.mark.skipif(AIRFLOW < (3, 3), reason="Airflow 3.3 brought retry policies")
def test_the_retry_policy_waits_as_told_within_reason() -> None:
    from airflow.providers.common.compat.sdk import RetryAction, RetryDecision, RetryPolicy

    from airflow_provider_closeai.client.errors import NotSent, RateLimited

    class Own(RetryPolicy):
        def evaluate(self, *arguments: Any, **options: Any) -> RetryDecision:
            return RetryDecision.default()

    own = Own()
    assert List(task_id="own", retry_policy=own).retry_policy is own
    policy: Any = List(task_id="task").retry_policy
    for error in (NotSent("x"), RuntimeError("x"), RateLimited("x", retry_after=0)):
        assert policy.evaluate(error, 1, 3).action is RetryAction.DEFAULT
    for told, waits in ((7, 7), (1e9, 86400), (float("inf"), 86400)):
        decision = policy.evaluate(RateLimited("x", retry_after=told), 1, 3)
        assert decision.action is RetryAction.RETRY
        assert decision.retry_delay.total_seconds() == waits


def test_a_missing_account_may_appear_so_it_is_retried(sim: Simulator, dag: Any) -> None:
    account: dict[str, Any] = {}

    def appear(request: Request) -> None:
        if request.call == "list" and sim.count("list") > 1 and not account:
            account.update(sim.add_account("late"))

    sim.on_request = appear
    with dag:
        Update(task_id="update", alias="late", model_pricing=PRICING, retries=1, retry_delay=0)
    done = run(dag)
    assert done.task("update") == "success 2"


@pytest.mark.parametrize("fault", ["cut_after", "error_after", "garbage", "cut_before"])
def test_an_unknown_outcome_is_settled_within_the_try(sim: Simulator, dag: Any, fault: str) -> None:
    sim.fault("create", fault)
    with dag:
        Create(task_id="create", alias="a", model_pricing=PRICING, balance=1, count=2, settle=0.1)

    done = run(dag)

    assert done.task("create") == "success 1"
    assert [record["id"] for record in done.result("create")] == [item["id"] for item in sim.accounts("a")]
    assert len(sim.accounts("a")) == 2
    assert sim.count("create") == (2 if fault == "cut_before" else 1)


def test_a_retry_on_another_host_creates_nothing_twice(
    sim: Simulator, dag: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The first try dies after its post; the second finds a listing that does not show it yet."""
    connect(monkeypatch, sim, "impatient", extra={"max_attempts": 1})
    other_host = tmp_path / "other-host"
    other_host.mkdir()
    sim.settings.list_lag = 3600
    sim.fault("create", "cut_after")
    sim.fault("list", "error_before", skip=1)

    def watch(request: Request) -> None:
        if request.call == "list" and sim.count("list") == 2:
            tempfile.tempdir = str(other_host)  # put back by the fixture that isolates the cache
        if request.call == "list" and sim.count("list") == 5:
            sim.settings.list_lag = 0

    sim.on_request = watch
    with dag:
        Create(
            task_id="create",
            alias="a",
            model_pricing=PRICING,
            balance=1,
            count=3,
            settle=2,
            closeai_conn_id="impatient",
            retries=1,
            retry_delay=0,
        )

    done = run(dag)

    assert done.task("create") == "success 2"
    assert len(sim.accounts("a")) == 3
    assert sim.count("create") == 1
    assert len(done.result("create")) == 3


def test_a_retry_after_nothing_was_done_creates_what_is_missing(sim: Simulator, dag: Any) -> None:
    sim.fault("create", "cut_before", times=3)
    with dag:
        Create(
            task_id="create",
            alias="a",
            model_pricing=PRICING,
            balance=1,
            count=2,
            settle=0.1,
            retries=1,
            retry_delay=0,
        )

    done = run(dag)

    assert done.task("create") == "success 2"
    assert len(sim.accounts("a")) == 2
    assert sim.count("create") == 4


def test_dead_prices_warn_in_the_log_and_do_not_fail(sim: Simulator, dag: Any) -> None:
    with dag, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Create(task_id="create", alias="a", model_pricing=[{"model": "m", "auto_following": True}], balance=1)
        done = run(dag)
    assert done.task("create") == "success 1"
    assert prices(sim.accounts("a")[0]) == {"m": 1}


def test_the_cell_is_the_one_that_was_meant() -> None:
    import airflow

    assert airflow.__version__ == ".".join(map(str, AIRFLOW))


@pytest.mark.parametrize(
    ("operator", "request_type"),
    [(Create, CreateRequest), (Update, RepriceRequest), (Delete, DeleteRequest)],
)
def test_defaults_are_those_of_the_requests(operator: Any, request_type: Any) -> None:
    shown = inspect.signature(operator.__init__).parameters
    parsed = inspect.signature(request_type.parse).parameters
    assert set(parsed) <= set(shown)
    defaults = {name: each.default for name, each in parsed.items()}
    assert {name: shown[name].default for name in parsed} == defaults
