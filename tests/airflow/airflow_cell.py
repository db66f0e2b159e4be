"""What the tests need of the Airflow installed: running a DAG for real, and reading what was stored."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import sqlalchemy

if TYPE_CHECKING:
    import pytest

    from airflow_provider_closeai.simulator import Simulator

AIRFLOW = tuple(int(part) for part in version("apache-airflow").split(".")[:3])
ON_3 = AIRFLOW >= (3, 0)


def sync(dag: Any) -> None:
    """Write a DAG to the database as the DAG processor would; ``dag.test()`` of Airflow 3 asks for that."""
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.utils.session import create_session

    with create_session() as session:
        if not ON_3:
            SerializedDagModel.write_dag(dag, session=session)  # type: ignore[call-arg]
            return
        from airflow.models.dagbundle import DagBundleModel
        from airflow.serialization.serialized_objects import LazyDeserializedDAG

        try:
            from airflow.serialization.definitions.dag import SerializedDAG
        except ImportError:
            from airflow.serialization.serialized_objects import SerializedDAG
        session.merge(DagBundleModel(name="testing"))
        session.flush()
        SerializedDAG.bulk_write_to_db("testing", None, [dag], session=session)
        lazy = LazyDeserializedDAG.from_dag(dag)
        SerializedDagModel.write_dag(lazy, bundle_name="testing", session=session)


def serialized(dag: Any) -> str:
    """Serialize a DAG as it would be stored, and show that it can be read back."""
    if AIRFLOW >= (3, 2):
        from airflow.serialization.serialized_objects import DagSerialization as Serialization
    else:
        from airflow.serialization.serialized_objects import SerializedDAG as Serialization  # type: ignore[assignment]
    data = Serialization.to_dict(dag)
    assert Serialization.from_dict(json.loads(json.dumps(data))).dag_id == dag.dag_id
    return json.dumps(data)


class Run:
    """A DAG run that has ended."""

    def __init__(self, run: Any) -> None:
        self.run = run
        self.state = str(getattr(run.state, "value", run.state))

    def _rows(self, table: str, columns: str, task_id: str) -> list[Any]:
        from airflow.utils.session import create_session

        query = f"select {columns} from {table} where dag_id=:dag and run_id=:run and task_id=:task"  # noqa: S608
        with create_session() as session:
            found = session.execute(
                sqlalchemy.text(f"{query} order by map_index"),
                {"dag": self.run.dag_id, "run": self.run.run_id, "task": task_id},
            )
            return list(found)

    def states(self, task_id: str) -> list[str]:
        return [row[0] for row in self._rows("task_instance", "state", task_id)]

    def task(self, task_id: str) -> str:
        """Give a task's state and the number of its tries: ``success 1``."""
        ((state, tries),) = self._rows("task_instance", "state, try_number", task_id)
        return f"{state} {tries}"

    def results(self, task_id: str) -> list[Any]:
        rows = self._rows("xcom", "key, value", task_id)
        return [_value(value) for key, value in rows if key == "return_value"]

    def result(self, task_id: str) -> Any:
        (value,) = self.results(task_id)
        return value

    def labels(self, task_id: str) -> list[str | None]:
        """Give what a person sees in place of each map index."""
        return [row[0] for row in self._rows("task_instance", "rendered_map_index", task_id)]

    def rendered(self, task_id: str) -> dict[str, Any]:
        ((fields,),) = self._rows("rendered_task_instance_fields", "rendered_fields", task_id)
        rendered: dict[str, Any] = json.loads(fields) if isinstance(fields, str) else fields
        return rendered


def _value(stored: Any) -> Any:
    value = json.loads(stored)
    return json.loads(value) if ON_3 and isinstance(value, str) and value[:1] in '[{"' else value


def run(dag: Any, conf: dict[str, Any] | None = None) -> Run:
    """Run a DAG in this process with everything that Airflow does around it."""
    sync(dag)
    return Run(dag.test(run_conf=conf))


def everything_stored() -> str:
    """Give all that the database holds, as one text."""
    from airflow.utils.session import create_session

    found = []
    with create_session() as session:
        names = sqlalchemy.inspect(session.get_bind()).get_table_names()
        for name in names:
            for row in session.execute(sqlalchemy.text(f'select * from "{name}"')):  # noqa: S608
                found += [
                    f"{name}: {cell.decode('utf-8', 'replace') if isinstance(cell, bytes) else cell}"
                    for cell in row
                ]
    return "\n".join(found)


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a Python child with this process's Airflow home."""
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "TMPDIR": tempfile.gettempdir(), "COLUMNS": "400", **environment},
        capture_output=True,
        text=True,
        timeout=240,
    )


def airflow_command(*arguments: str) -> int:
    """Run an Airflow command in this process; gives its exit status."""
    from airflow.cli import cli_parser

    parsed = cli_parser.get_parser().parse_args(arguments)
    try:
        parsed.func(parsed)
    except SystemExit as end:
        return int(bool(end.code))
    return 0


@contextlib.contextmanager
def stored_connection(fields: dict[str, Any]) -> Iterator[None]:
    """Keep the connection ``closeai_default`` in the database."""
    from airflow.models.connection import Connection
    from airflow.utils.session import create_session

    fields = {**fields, "extra": json.dumps(fields.get("extra", {}))}
    with create_session() as session:
        session.add(Connection(conn_id="closeai_default", **fields))
    try:
        yield
    finally:
        with create_session() as session:
            session.execute(sqlalchemy.text("delete from connection where conn_id='closeai_default'"))


def connect(monkeypatch: pytest.MonkeyPatch, sim: Simulator, conn_id: str, **fields: Any) -> None:
    """Make one more connection to the simulator, with some fields of its own."""
    connection = {**sim.connection(), **fields}
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(connection))


def prices(account: dict[str, Any]) -> dict[str, float]:
    """Return the prices of an account by model."""
    return {entry["model"]: float(entry["pricing_factor"]) for entry in account["model_pricing"]}
