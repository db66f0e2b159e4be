"""What a person sees of a task: the failure in short lines, the link to the documentation, the map label."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import pytest
from airflow_cell import AIRFLOW, ON_3, run, serialized

from airflow_provider_closeai.client.errors import CloseAIError, ConfigError, RateLimited, Rejected
from airflow_provider_closeai.operators.base import CloseAIOperator, DocsLink, translate_errors
from airflow_provider_closeai.operators.costs import CostReportOperator, SnapshotCostsOperator
from airflow_provider_closeai.simulator import Simulator

LONG = (
    "The key 'a' is refused by https://a.example/. Put the main account's sk into the connection's field, "
    "which is in the form of the connection, where Airflow asks for a password, or where the environment "
    "of the worker has it. Then run it again!"
)


class Alias(CloseAIOperator):
    """Returns what it is given, or raises it."""

    template_fields = ("alias",)
    operator_extra_links = (DocsLink("operators/list.md"),)

    def __init__(self, *, alias: Any = None, error: Exception | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.alias = alias
        self.error = error

    def execute(self, context: Any) -> Any:
        with self.hook():
            if self.error is not None:
                raise self.error
            return self.alias


def failure() -> type[BaseException]:
    from airflow.providers.common.compat.sdk import AirflowFailException

    return AirflowFailException


def test_a_permanent_error_is_told_in_short_lines(caplog: pytest.LogCaptureFixture) -> None:
    error = Rejected(LONG)
    error.__cause__ = OSError("inside")
    with pytest.raises(failure()) as caught, translate_errors():
        raise error
    assert str(caught.value) == "The key 'a' is refused by https://a.example/."
    assert (caught.value.__cause__, caught.value.__suppress_context__) == (None, True)
    lines = [record.getMessage() for record in caplog.records]
    assert {record.levelno for record in caplog.records} == {logging.ERROR}
    assert not [record for record in caplog.records if record.exc_info]
    assert max(map(len, lines)) <= 100
    assert " ".join(lines[:-1]) == LONG
    assert lines[0] == "The key 'a' is refused by https://a.example/."
    assert lines[-2] == "Then run it again!"
    assert "docs/troubleshooting.md, https://" in lines[-1]


def test_a_wrong_setting_keeps_its_cure() -> None:
    with pytest.raises(failure(), match="run it again!"), translate_errors():
        raise ConfigError(LONG)


def test_an_error_that_may_pass_leaves_as_itself(caplog: pytest.LogCaptureFixture) -> None:
    error = RateLimited("Too often. Wait.", retry_after=7)
    with pytest.raises(CloseAIError) as caught, translate_errors():
        raise error
    assert caught.value is error
    assert str(error) == "Too often. Wait."
    assert caught.value.retry_after == 7
    assert [record.getMessage() for record in caplog.records][:2] == ["Too often.", "Wait."]


def test_lines_stay_short_whatever_is_in_them(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(CloseAIError), translate_errors():
        raise CloseAIError("alias is '" + 300 * "字" + "'.\nSay\tit\n\nshorter. " + 99 * "x. ")
    assert max(len(record.getMessage()) for record in caplog.records) <= 100
    assert not [record for record in caplog.records if "\n" in record.getMessage()]


def test_what_is_not_ours_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(KeyError), translate_errors():
        raise KeyError("x")
    assert caplog.records == []


def stored(done: Any, column: str, table: str, more: str = "") -> list[Any]:
    import sqlalchemy
    from airflow.utils.session import create_session

    where = {"dag": done.run.dag_id, "run": done.run.run_id}
    query = f"select {column} from {table} where dag_id=:dag and run_id=:run {more} order by map_index"  # noqa: S608
    with create_session() as session:
        return [row[0] for row in session.execute(sqlalchemy.text(query), where)]


def test_mapped_tasks_are_labelled_by_their_alias(sim: Simulator, dag: Any) -> None:
    long = "ab" * 200
    with dag:
        Alias.partial(task_id="mapped").expand(alias=["a", "{{ 1 }}-b", "{% raw %}{{ x }}{% endraw %}", long])
        Alias.partial(task_id="own", map_index_template="own-{{ task.alias }}").expand(alias=["a"])
        Alias.partial(task_id="none").expand(error=[None])
        Alias.partial(task_id="failed", error=ConfigError("no")).expand(alias=["a"])
        Alias(task_id="plain", alias="a")
    done = run(dag)

    def labels(task: str) -> list[Any]:
        return stored(done, "rendered_map_index", "task_instance", f"and task_id='{task}'")

    assert labels("mapped") == ["a", "1-b", "{{ x }}", long[:100]]
    assert labels("own") == ["own-a"]
    assert labels("none") == [None]
    assert labels("plain") == [None]
    assert labels("failed") == ["a"]


def test_a_link_leads_to_the_documentation(sim: Simulator, dag: Any) -> None:
    with dag:
        task = Alias(task_id="task", alias="a")
        Alias.partial(task_id="mapped").expand(alias=["a"])
    text = serialized(dag)
    assert "DocsLink" in text
    if ON_3:
        done = run(dag)
        links = stored(done, "value", "xcom", "and xcom.key like '_link_%'")
        assert len(links) == 2
        assert all("https://" in link for link in links)
    else:
        from airflow.serialization.serialized_objects import SerializedDAG

        airflow2: Any = SerializedDAG
        read = airflow2.from_dict(airflow2.to_dict(dag)).get_task("task")
        (link,) = read.operator_extra_links
        assert link == task.operator_extra_links[0]
    assert task.operator_extra_links[0].get_link(task, ti_key=None).startswith("https://")


def test_a_link_leads_to_the_page_that_was_written(sim: Simulator, dag: Any, tmp_path: Path) -> None:
    with dag:
        snapshot = SnapshotCostsOperator(task_id="snapshot", ledger=str(tmp_path / "ledger"))
        report = CostReportOperator(
            task_id="task",
            ledger=str(tmp_path / "ledger"),
            month="current",
            output=str(tmp_path / "reports"),
            currency="CNY",
            public_url="https://costs.example.com/{{ dag.dag_id }}",
        )
        snapshot >> report
    wanted = rf"https://costs\.example\.com/{dag.dag_id}/closeai-costs-\d{{4}}-\d\d\.html"
    done = run(dag)
    if ON_3:
        links = stored(done, "value", "xcom", "and xcom.key = '_link_ReportLink'")
        assert [link for link in links if re.fullmatch(f'"?{wanted}"?', link)] == links != []
    else:  # the webserver has the serialized operator, and the result
        from airflow.serialization.serialized_objects import SerializedDAG

        airflow2: Any = SerializedDAG
        read = airflow2.from_dict(airflow2.to_dict(dag)).get_task("task")
        link = next(link for link in read.operator_extra_links if link.name == "Cost report")
        key = done.run.get_task_instance("task").key
        assert re.fullmatch(wanted, link.get_link(read, ti_key=key))
        assert link.get_link(read, ti_key=key._replace(task_id="none")) == ""


@pytest.mark.skipif(AIRFLOW < (3, 3), reason="Airflow 3.3 brought retry policies")
def test_a_mapped_task_waits_as_the_platform_says(sim: Simulator, dag: Any) -> None:
    """Airflow gives a mapped task every argument, ``retry_policy=None`` too."""
    with dag:
        Alias.partial(task_id="mapped", retries=1, retry_delay=3600).expand(
            error=[RateLimited("Wait.", retry_after=0.01)]
        )
    done = run(dag)
    assert done.states("mapped") == ["failed"]
    assert stored(done, "try_number", "task_instance") == [2]
