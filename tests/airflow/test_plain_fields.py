"""What authors of DAGs hand in: members of an Enum, generators, words that a template left."""

from __future__ import annotations

import collections
import enum
import json
from typing import Any

import pytest
from airflow_cell import connect, run, serialized

from airflow_provider_closeai.hooks.closeai import CloseAIHook
from airflow_provider_closeai.operators.costs import CostReportOperator, SnapshotCostsOperator
from airflow_provider_closeai.operators.roster import SyncSubAccountsOperator
from airflow_provider_closeai.operators.sub_accounts import (
    CreateSubAccountsOperator,
    DeleteSubAccountsOperator,
    ListSubAccountsOperator,
    UpdatePricingOperator,
)
from airflow_provider_closeai.sensors.health import HealthSensor
from airflow_provider_closeai.simulator import Simulator


class Text(str, enum.Enum):  # noqa: UP042  # as many have it: its str() is its name, not its text
    TEAM = "team-search"
    MODEL = "gpt-4"
    REPLACE = "replace"
    FAIL = "fail"
    PRIMARY = "primary"
    CSV = "csv"


def test_a_member_of_an_enum_is_its_text_in_a_task(
    sim: Simulator, dag: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(monkeypatch, sim, "closeai_default")
    with dag:
        HealthSensor(task_id="up", require=Text.PRIMARY)
        create = CreateSubAccountsOperator(
            task_id="create",
            alias=Text.TEAM,
            model_pricing=[
                {"model": Text.MODEL, "pricing_factor": 1},
                {"model": "gpt-4o", "pricing_factor": 2},
            ],
            balance=1,
        )
        reprice = UpdatePricingOperator(
            task_id="reprice", alias=Text.TEAM, model_pricing={Text.MODEL: 3}, mode=Text.REPLACE
        )
        mapped = ListSubAccountsOperator.partial(task_id="listed").expand(alias=[Text.TEAM])
        create >> reprice >> mapped
    done = run(dag)
    assert [done.task(name) for name in ("up", "create", "reprice")] == ["success 1"] * 3
    [account] = sim.accounts()
    assert account["alias"] == "team-search"
    assert account["model_pricing"] == [{"model": "gpt-4", "pricing_factor": 3}]
    assert "Text." not in serialized(dag)


def test_a_member_of_an_enum_is_its_text_from_python(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, sim, "closeai_default")
    hook = CloseAIHook()
    for _ in range(2):
        hook.create_sub_accounts(Text.TEAM, {"gpt-4": 1}, 1, 2)
    assert [each["alias"] for each in sim.accounts()] == ["team-search"] * 2
    assert len(list(hook.iter_sub_accounts(alias=Text.TEAM))) == 2
    with pytest.raises(Exception, match="is not listed"):
        hook.delete_sub_accounts(sub_accounts=[99], missing=Text.FAIL)
    assert len(hook.delete_sub_accounts(alias=Text.TEAM)) == 2


def test_a_member_of_an_enum_names_a_format(
    sim: Simulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    connect(monkeypatch, sim, "closeai_default")
    operator = SnapshotCostsOperator(task_id="t", ledger=tmp_path, file_format=Text.CSV)
    assert operator.execute({})["file"].endswith(".csv")


def test_a_generator_is_read_once_and_kept(dag: Any) -> None:
    with dag:
        operator = UpdatePricingOperator(
            task_id="t", model_pricing={"gpt-4": 1}, sub_accounts=(number for number in (1, 2))
        )
        ListSubAccountsOperator(task_id="l", sub_accounts={1: "a", 2: "b"}.keys())
    assert operator.sub_accounts == [1, 2]
    assert " at 0x" not in serialized(dag)


@pytest.mark.parametrize("kind", [ListSubAccountsOperator, DeleteSubAccountsOperator])
def test_what_a_template_left_selects_nothing(
    sim: Simulator, dag: Any, monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    connect(monkeypatch, sim, "closeai_default")
    with dag:
        kind(task_id="t", alias="{{ dag_run.conf.get('alias') }}")
    assert run(dag).task("t") == "failed 1"


def test_an_alias_none_that_is_there_is_found(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, sim, "closeai_default")
    sim.add_account("None")
    assert len(ListSubAccountsOperator(task_id="t", alias="None").execute({})) == 1


def test_the_class_of_a_notifier_is_none(tmp_path: Any) -> None:
    class Notifier:
        def notify(self, context: Any) -> None: ...

    given: Any = Notifier
    with pytest.raises(Exception, match="the class Notifier is not a notifier"):
        CostReportOperator(
            task_id="t", month="current", ledger=tmp_path, output=tmp_path, currency="CNY", notifiers=given
        ).execute({})


@pytest.mark.parametrize("account_id", [1, "1", 1.0])
def test_an_account_by_its_id_however_it_is_written(
    sim: Simulator, monkeypatch: pytest.MonkeyPatch, account_id: Any
) -> None:
    connect(monkeypatch, sim, "closeai_default")
    account = sim.add_account("a")
    hook = CloseAIHook()
    found = hook.get_sub_account(account_id)
    assert found is not None
    assert found.alias == "a"
    assert [each.id for each in hook.iter_sub_accounts(sk=account["token"] + "\n")] == [1]
    with pytest.raises(ValueError, match="account_id is"):
        hook.get_sub_account(json)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="alias is 7"):
        list(hook.iter_sub_accounts(alias=7))  # type: ignore[arg-type]


# --- What was given and is None when the task runs ----------------------------------------------------------


@pytest.mark.parametrize("is_mapped", [False, True])
def test_a_bound_that_becomes_none_deletes_nothing(
    sim: Simulator, dag: Any, monkeypatch: pytest.MonkeyPatch, is_mapped: bool
) -> None:
    for _ in range(3):
        sim.add_account("a")
    from airflow.providers.common.compat.sdk import task

    connect(monkeypatch, sim, "closeai_default")
    with dag:
        given: dict[str, Any] = {"task_id": "delete", "max_delete": task(task_id="limit")(lambda: None)()}
        if is_mapped:
            DeleteSubAccountsOperator.partial(**given).expand(alias=["a"])
        else:
            DeleteSubAccountsOperator(alias="a", **given)
    assert run(dag).task("delete") == "failed 1"
    assert len(sim.accounts()) == 3


@pytest.mark.parametrize("name", ["max_delete", "ledger", "sks"])
def test_a_variable_that_is_not_there_is_no_missing_parameter(
    sim: Simulator, dag: Any, monkeypatch: pytest.MonkeyPatch, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    connect(monkeypatch, sim, "closeai_default")
    sim.add_account("a")
    dag.render_template_as_native_obj = True
    with dag:
        given: dict[str, Any] = {name: "{{ var.value.get('limit', None) }}"}
        DeleteSubAccountsOperator(task_id="t", alias="a", **given)
    assert run(dag).task("t") == "failed 1"
    assert f"{name}: what was given, or a part of it, is None" in caplog.text
    assert len(sim.accounts()) == 1


def test_a_bound_of_a_roster_that_becomes_none_creates_nothing(
    sim: Simulator, dag: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(monkeypatch, sim, "closeai_default")
    sim.add_account("other")
    roster = {"version": 1, "accounts": [{"alias": "a", "balance": 1, "model_pricing": {"m": 1}}]}
    dag.render_template_as_native_obj = True
    with dag:
        SyncSubAccountsOperator(task_id="t", roster=roster, max_create="{{ none }}")
    assert run(dag).task("t") == "failed 1"
    assert len(sim.accounts()) == 1


@pytest.mark.parametrize("field", ["budget", "expires", "count"])
def test_a_field_of_a_roster_that_becomes_none_changes_nothing(
    sim: Simulator, dag: Any, monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    connect(monkeypatch, sim, "closeai_default")
    entry = {"alias": "a", "balance": 1, "model_pricing": {"m": 1}, field: "{{ var.value.get('x', None) }}"}
    dag.render_template_as_native_obj = True
    with dag:
        SyncSubAccountsOperator(task_id="t", roster={"version": 1, "accounts": [entry]}, max_create=1)
    assert run(dag).task("t") == "failed 1"
    assert sim.accounts() == []


def test_a_report_without_the_budgets_that_were_given_is_none(dag: Any, tmp_path: Any) -> None:
    dag.render_template_as_native_obj = True
    with dag:
        CostReportOperator(
            task_id="t",
            ledger=tmp_path,
            month="previous",
            output=tmp_path,
            currency="CNY",
            budgets="{{ var.value.get('budgets', None) }}",
        )
    assert run(dag).task("t") == "failed 1"


def test_members_of_an_enum_in_any_kind_of_list_or_mapping(sim: Simulator, dag: Any) -> None:
    ordered = collections.OrderedDict
    entry = ordered(alias=Text.TEAM, balance=1, model_pricing={"gpt-4": 1})
    with dag:
        CreateSubAccountsOperator(
            task_id="create",
            alias="a",
            model_pricing=(ordered(model=Text.MODEL, pricing_factor=1),),  # type: ignore[arg-type]
            balance=1,
        )
        SyncSubAccountsOperator(task_id="sync", max_create=1, roster=ordered(version=1, accounts=(entry,)))
    assert run(dag).state == "success"
    assert {account["alias"] for account in sim.accounts()} == {"a", "team-search"}
    assert {price["model"] for account in sim.accounts() for price in account["model_pricing"]} == {"gpt-4"}


def test_an_author_may_change_a_field(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, sim, "closeai_default")
    sim.add_account("a")
    operator = ListSubAccountsOperator(task_id="t", alias="{{ x }}")
    operator.alias = None
    operator.alias = "a"
    assert len(operator.execute({})) == 1
