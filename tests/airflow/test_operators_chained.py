"""Tasks that take what other tasks return, and keys that go to a sink on the way."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from airflow_cell import prices, run, serialized

from airflow_provider_closeai.operators.sub_accounts import (
    CreateSubAccountsOperator,
    DeleteSubAccountsOperator,
    ListSubAccountsOperator,
    UpdatePricingOperator,
)
from airflow_provider_closeai.simulator import Simulator

Create, Update = CreateSubAccountsOperator, UpdatePricingOperator
Delete, List = DeleteSubAccountsOperator, ListSubAccountsOperator
PRICING = {"gpt-4": 1}


# --- What other tasks return, and do not -------------------------------------------------------------------


@pytest.mark.parametrize(
    "native", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["text", "native"]
)
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


@pytest.mark.parametrize("bound", ["max_delete", "ledger"])
@pytest.mark.parametrize("how", ["expand", "expand_kwargs"])
def test_a_bound_that_a_task_gives_as_none_is_no_missing_bound(
    sim: Simulator, dag: Any, how: str, bound: str
) -> None:
    from airflow.providers.common.compat.sdk import task

    for _ in range(3):
        sim.add_account("a")

    @task
    def bounds() -> Any:
        return [None] if how == "expand" else [{bound: None, "alias": "a"}]

    with dag:
        if how == "expand":
            Delete.partial(task_id="delete", alias="a").expand(**{bound: bounds()})
        else:
            Delete.partial(task_id="delete").expand_kwargs(bounds())
    assert run(dag).states("delete") == ["failed"]
    assert len(sim.accounts()) == 3


def test_a_bound_that_the_author_leaves_out_of_a_mapped_task_is_none(sim: Simulator, dag: Any) -> None:
    sim.add_account("a")
    with dag:
        Delete.partial(task_id="delete", max_delete=None, ledger=None).expand(alias=["a"])
    assert run(dag).states("delete") == ["success"]
    assert sim.accounts() == []


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


@pytest.mark.parametrize(
    "alias", ["007", *(pytest.param(it, marks=pytest.mark.slow) for it in ("1e3", "none"))]
)
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
    [
        "\u3000全角",
        pytest.param(" a ", marks=pytest.mark.slow),
        pytest.param("字" * 300, marks=pytest.mark.slow),
        "{{ 1 }}",
    ],
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
