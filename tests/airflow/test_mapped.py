"""Mapped tasks: what other tasks give is data, labels are text, and no key is stored."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow_cell import connect, everything_stored, run, serialized

from airflow_provider_closeai.client.errors import ConfigError
from airflow_provider_closeai.hooks.closeai import CloseAIHook
from airflow_provider_closeai.operators.roster import SyncSubAccountsOperator, accounts_asset
from airflow_provider_closeai.operators.sub_accounts import (
    CreateSubAccountsOperator,
    DeleteSubAccountsOperator,
    ListSubAccountsOperator,
    UpdatePricingOperator,
)
from airflow_provider_closeai.sensors.health import HealthSensor
from airflow_provider_closeai.simulator import Simulator
from airflow_provider_closeai.triggers.health import HealthTrigger

PRICES = {"gpt-4": 1}
KEY = "{{ conn.closeai_default.password }}"


def of_a_task(value: Any) -> Any:
    """Return another task's result: data, whatever it looks like."""
    from airflow.providers.common.compat.sdk import task

    @task
    def given() -> Any:
        return value

    return given()


@pytest.fixture(autouse=True)
def connection(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, sim, "closeai_default")


def test_what_another_task_gives_is_no_template(sim: Simulator, dag: Any) -> None:
    """Airflow renders copies of it: then a form's text would send the main key, and store it."""
    entry = {"alias": "{{ 7 * 7 }}", "balance": 1, "model_pricing": PRICES}
    with dag:
        CreateSubAccountsOperator.partial(task_id="create", alias="a", balance=1).expand(
            model_pricing=of_a_task([[{"model": KEY, "pricing_factor": 1}]])
        )
        SyncSubAccountsOperator.partial(task_id="sync", max_create=1).expand(
            roster=of_a_task([{"version": 1, "accounts": [entry]}])
        )
    done = run(dag)
    assert done.states("sync") == ["success"]
    assert [account["alias"] for account in sim.accounts()] == ["{{ 7 * 7 }}"]
    assert sim.key not in json.dumps(sim.accounts())
    assert sim.key not in everything_stored()


def test_each_row_may_be_a_tasks(sim: Simulator, dag: Any) -> None:
    with dag:
        rows = [{"alias": "a-{{ 7 * 7 }}"}, of_a_task({"alias": KEY}), of_a_task({"alias": "b"})]
        CreateSubAccountsOperator.partial(task_id="t", model_pricing=PRICES, balance=1).expand_kwargs(rows)
    assert run(dag).states("t") == ["success"] * 3
    assert sorted(account["alias"] for account in sim.accounts()) == ["a-49", "b", KEY]
    assert sim.key not in everything_stored()


def test_templates_of_a_dags_defaults_are_rendered_beside_rows_of_a_task(sim: Simulator, dag: Any) -> None:
    dag.default_args = {"alias": "d-{{ 7 * 7 }}", "closeai_conn_id": "closeai_{{ 'default' }}"}
    with dag:
        CreateSubAccountsOperator.partial(task_id="t", model_pricing=PRICES).expand_kwargs(
            of_a_task([{"balance": 1}])
        )
    assert run(dag).states("t") == ["success"]
    assert [account["alias"] for account in sim.accounts()] == ["d-49"]


@pytest.mark.parametrize("row", [{"max_delete": None}, {}], ids=repr)
def test_a_row_takes_no_limit_away(sim: Simulator, dag: Any, row: dict[str, Any]) -> None:
    for _ in range(2):
        sim.add_account("a")
    with dag:
        DeleteSubAccountsOperator.partial(task_id="t", alias="a", max_delete=1).expand_kwargs(
            of_a_task([row]), strict=False
        )
    assert run(dag).states("t") == ["failed"]
    assert len(sim.accounts()) == 2


def test_none_that_the_author_wrote_is_his(sim: Simulator, dag: Any) -> None:
    sim.add_account("a")
    with dag:
        DeleteSubAccountsOperator.partial(task_id="bounds", alias="a", dry_run=True).expand(
            max_delete=[1, None]
        )
        ListSubAccountsOperator.partial(task_id="all").expand_kwargs([{"alias": "a"}, {"alias": None}])
    done = run(dag)
    assert (done.states("bounds"), done.states("all")) == (["success"] * 2, ["success"] * 2)


@pytest.mark.parametrize("kind", ["create", "sync", "delete", "reprice"])
def test_a_row_that_another_task_gives_is_no_template(sim: Simulator, dag: Any, kind: str) -> None:
    """Airflow renders whatever comes by ``expand_kwargs``: an alias from a form would be the main key."""
    number = sim.add_account("a")["id"]
    entry = {"alias": KEY, "balance": 1, "model_pricing": PRICES}
    found = of_a_task([{"sub_accounts": [{"id": number, "alias": KEY}]}])
    with dag:
        if kind == "create":
            partial = CreateSubAccountsOperator.partial(task_id="t", model_pricing=PRICES, balance=1)
            partial.expand_kwargs(of_a_task([{"alias": KEY}]))
        elif kind == "sync":
            roster = {"version": 1, "accounts": [entry]}
            partial = SyncSubAccountsOperator.partial(task_id="t", max_create=1)
            partial.expand_kwargs(of_a_task([{"roster": roster}]))
        elif kind == "delete":
            DeleteSubAccountsOperator.partial(task_id="t").expand_kwargs(found)
        else:
            UpdatePricingOperator.partial(task_id="t", model_pricing=PRICES).expand_kwargs(found)
    assert run(dag).states("t") == ["success"]
    assert sim.key not in json.dumps(sim.accounts())
    assert sim.key not in everything_stored()


def test_templates_of_the_dag_are_rendered_in_rows(sim: Simulator, dag: Any) -> None:
    with dag:
        CreateSubAccountsOperator.partial(task_id="t", model_pricing=PRICES, balance="{{ 1 }}").expand_kwargs(
            [{"alias": "a-{{ 7 * 7 }}"}]
        )
    assert run(dag).states("t") == ["success"]
    assert [account["alias"] for account in sim.accounts()] == ["a-49"]


def test_what_is_kept_in_another_form_is_no_template(sim: Simulator, dag: Any) -> None:
    sim.add_account(KEY)
    from airflow.providers.common.compat.sdk import task

    @task
    def by_alias(rows: Any) -> Any:
        return [{row["alias"]: row for row in rows}]

    with dag:
        listed = ListSubAccountsOperator(task_id="listed")
        UpdatePricingOperator.partial(task_id="reprice", model_pricing={"gpt-4": 2}).expand(
            sub_accounts=by_alias(listed.output).map(lambda found: found.values())
        )
    assert run(dag).states("reprice") == ["success"]
    assert sim.key not in everything_stored()


def test_a_connections_id_of_another_task_is_no_template(
    sim: Simulator, dag: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    with dag:
        ListSubAccountsOperator.partial(task_id="t").expand(closeai_conn_id=of_a_task([f" {KEY}"]))
    assert run(dag).states("t") == ["failed"]
    written = capfd.readouterr()
    assert sim.key not in written.out + written.err


def test_an_alias_that_is_half_a_template_is_repriced(sim: Simulator, dag: Any) -> None:
    sim.add_account("a{% b")
    with dag:
        listed = ListSubAccountsOperator(task_id="listed")
        UpdatePricingOperator.partial(task_id="reprice", model_pricing={"gpt-4": 2}).expand(
            sub_accounts=listed.output
        )
    assert run(dag).states("reprice") == ["success"]


@pytest.mark.parametrize("alias", ["7", "1.5", "True", "[1]", "a b", "团队"])
@pytest.mark.parametrize("is_native", [False, True], ids=["text", "native"])
def test_a_label_is_text(sim: Simulator, dag: Any, alias: str, is_native: bool) -> None:
    dag.render_template_as_native_obj = is_native
    with dag:
        CreateSubAccountsOperator.partial(task_id="create", model_pricing=PRICES, balance=1).expand(
            alias=of_a_task([alias])
        )
    done = run(dag)
    assert (done.states("create"), done.labels("create")) == (["success"], [alias])
    assert [account["alias"] for account in sim.accounts()] == [alias]


def test_records_without_an_alias_have_no_label(sim: Simulator, dag: Any) -> None:
    number = sim.add_account("a")["id"]
    with dag:
        DeleteSubAccountsOperator.partial(task_id="delete").expand(sub_accounts=[[{"id": number}]])
    done = run(dag)
    assert done.states("delete") == ["success"]
    assert [[record["id"] for record in records] for records in done.results("delete")] == [[number]]


def test_keys_of_another_task_are_refused_wherever_they_come_in(sim: Simulator, dag: Any) -> None:
    account = sim.add_account("a")
    with dag:
        DeleteSubAccountsOperator.partial(task_id="delete").expand_kwargs(
            of_a_task([{"sks": [account["token"]]}])
        )
    assert run(dag).states("delete") != ["success"]
    assert len(sim.accounts()) == 1


@pytest.mark.parametrize(
    "how", ["plain", "default_args", "partial", "expand", "expand_kwargs", "default_args of a mapped one"]
)
@pytest.mark.parametrize("kind", [ListSubAccountsOperator, DeleteSubAccountsOperator, HealthSensor])
def test_a_connection_itself_is_no_id(sim: Simulator, dag: Any, kind: Any, how: str) -> None:
    """Airflow would store it, with its key, in the serialized DAG."""
    connection = CloseAIHook().get_connection("closeai_default")
    given = {"closeai_conn_id": connection}
    if how.startswith("default_args"):
        dag.default_args = given
    makes = {
        "plain": lambda: kind(task_id="t", **given),
        "default_args": lambda: kind(task_id="t"),
        "partial": lambda: kind.partial(task_id="t", **given),
        "expand": lambda: kind.partial(task_id="t").expand(closeai_conn_id=[connection]),
        "expand_kwargs": lambda: kind.partial(task_id="t").expand_kwargs([given]),
        "default_args of a mapped one": lambda: kind.partial(task_id="t"),
    }
    with dag, pytest.raises(TypeError, match="give the connection's id as text, not a Connection") as raised:
        makes[how]()
    assert sim.key not in str(raised.value)


@pytest.mark.parametrize("given", [None, "", " ", 7])
def test_a_hook_needs_an_id(given: Any) -> None:
    with pytest.raises(ConfigError, match="closeai_conn_id: give the id of a connection"):
        CloseAIHook(given)
    assert CloseAIHook(" closeai_default ").closeai_conn_id == "closeai_default"


@pytest.mark.parametrize("how", ["expand", "expand_kwargs"])
def test_none_among_what_a_task_is_mapped_over_never_means_all(sim: Simulator, dag: Any, how: str) -> None:
    for number in range(3):
        sim.add_account(f"team-{number}")
    with dag:
        partial = ListSubAccountsOperator.partial(task_id="listed")
        if how == "expand":
            listed = partial.expand(alias=of_a_task(["team-0", None]))
        else:
            listed = partial.expand_kwargs(of_a_task([{"alias": "team-0"}, {"alias": None}]))
        DeleteSubAccountsOperator(task_id="delete", sub_accounts=listed.output)
    done = run(dag)
    assert done.states("delete") == ["upstream_failed"]
    assert len(sim.accounts()) == 3


def test_none_among_a_dags_defaults_is_a_default(sim: Simulator, dag: Any) -> None:
    sim.add_account("a")
    dag.default_args = {"max_delete": None, "ledger": None}
    with dag:
        DeleteSubAccountsOperator.partial(task_id="delete").expand(alias=["a"])
    assert run(dag).states("delete") == ["success"]
    assert sim.accounts() == []


@pytest.mark.parametrize("is_one", [True, False], ids=["all rows", "a row each"])
def test_a_row_of_another_task_that_selects_nothing_never_means_all(
    sim: Simulator, dag: Any, is_one: bool
) -> None:
    for number in range(3):
        sim.add_account(f"team-{number}")
    with dag:
        rows = (
            of_a_task([{"alias": "team-0"}, {}])
            if is_one
            else [of_a_task({"alias": "team-0"}), of_a_task({})]
        )
        listed = ListSubAccountsOperator.partial(task_id="listed").expand_kwargs(rows)
        DeleteSubAccountsOperator(task_id="delete", sub_accounts=listed.output)
    done = run(dag)
    assert done.states("delete") == ["upstream_failed"]
    assert len(sim.accounts()) == 3


def test_the_keys_of_a_mapping_that_a_task_is_mapped_over_are_no_ids(sim: Simulator, dag: Any) -> None:
    for _ in range(3):
        sim.add_account("a")
    with dag:
        DeleteSubAccountsOperator.partial(task_id="delete").expand(
            sub_accounts=of_a_task({"3": [{"id": 1, "alias": "a"}]})
        )
    assert run(dag).states("delete") == ["failed"]
    assert len(sim.accounts()) == 3


def test_none_in_a_dag_file_takes_the_place_of_a_default(sim: Simulator, dag: Any) -> None:
    for _ in range(2):
        sim.add_account("a")
    dag.default_args = {"max_delete": 1, "alias": "b"}
    with dag:
        plain = DeleteSubAccountsOperator(task_id="plain", alias="a", max_delete=None, dry_run=True)
        mapped = DeleteSubAccountsOperator.partial(task_id="mapped", max_delete=None, dry_run=True)
        plain >> mapped.expand(alias=["a"])
        ListSubAccountsOperator.partial(task_id="listed", alias=None).expand(sub_accounts=[[1]])
    done = run(dag)
    assert [done.states(task_id) for task_id in ("plain", "mapped", "listed")] == [["success"]] * 3


def test_a_generator_is_kept_as_a_list_in_a_mapped_operator(dag: Any) -> None:
    with dag:
        DeleteSubAccountsOperator.partial(task_id="t", sub_accounts=iter([1])).expand(max_delete=[1])
    assert " at 0x" not in serialized(dag)


@pytest.mark.parametrize("given", [{"closeai_conn_id": None}, {"missing": None}], ids=repr)
def test_none_in_place_of_something_is_no_default(sim: Simulator, dag: Any, given: dict[str, Any]) -> None:
    """As of a variable that is not there: what it stands for would be another connection, or another way."""
    sim.add_account("a")
    with dag:
        DeleteSubAccountsOperator.partial(task_id="delete", **given).expand(alias=["a"])
    assert run(dag).states("delete") == ["failed"]
    assert len(sim.accounts()) == 1


def test_a_field_of_a_subclass_may_be_none(sim: Simulator, dag: Any) -> None:
    class Mine(ListSubAccountsOperator):
        template_fields = (*ListSubAccountsOperator.template_fields, "region")

        def __init__(self, *, region: Any = None, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.region = region

    dag.render_template_as_native_obj = True
    with dag:
        Mine(task_id="plain", region="{{ none }}")
        Mine.partial(task_id="mapped").expand(region=of_a_task([None]))
    done = run(dag)
    assert done.states("plain") + done.states("mapped") == ["success", "success"]


def test_an_id_with_white_space_is_the_same_connection_everywhere(dag: Any) -> None:
    with dag:
        listed = ListSubAccountsOperator(task_id="list", closeai_conn_id="closeai_default\n")
    assert listed.closeai_conn_id == "closeai_default"
    assert HealthTrigger(" closeai_default").serialize()[1]["closeai_conn_id"] == "closeai_default"
    assert accounts_asset("closeai_default ") == accounts_asset("closeai_default")
