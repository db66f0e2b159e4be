"""What the documents claim holds: messages, names and parameters are those of the code."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from doc_blocks import DOCUMENTS, ROOT

from airflow_provider_closeai import operators, sensors
from airflow_provider_closeai.operators.costs import CostReportOperator, SnapshotCostsOperator
from airflow_provider_closeai.operators.roster import PlanSubAccountsOperator, SyncSubAccountsOperator
from airflow_provider_closeai.operators.rotate import RotateSubAccountsOperator
from airflow_provider_closeai.operators.sub_accounts import (
    CreateSubAccountsOperator,
    DeleteSubAccountsOperator,
    ListSubAccountsOperator,
    UpdatePricingOperator,
)
from airflow_provider_closeai.sensors.health import HealthSensor

SOURCE = "\n".join(path.read_text() for path in sorted((ROOT / "airflow_provider_closeai").rglob("*.py")))


def test_the_dag_to_copy_parses() -> None:
    from airflow.providers.common.compat.sdk import DAG

    (block,) = [
        block
        for block in re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
        if "DAG(" in block
    ]
    names: dict[str, object] = {}
    exec(compile(block, "README.md", "exec"), names)  # noqa: S102
    (dag,) = [value for value in names.values() if isinstance(value, DAG)]
    assert set(dag.task_ids) == {"api_is_up", "create"}


def squeezed(text: str) -> str:
    """Take out what differs between a message and the code that makes it: quotes and white space."""
    return re.sub(r"[\s\"'\\]", "", text)


def test_every_message_of_troubleshooting_is_in_the_code() -> None:
    text = (ROOT / "docs/troubleshooting.md").read_text()
    ours = re.sub(r"^## Said by Airflow itself\n.*?(?=^## )", "", text, flags=re.MULTILINE | re.DOTALL)
    assert len(ours) < len(text)
    cells = re.findall(r"^\| (`.*?`) \|", ours, re.MULTILINE)
    assert len(cells) > 80
    code = squeezed(re.sub(r"\"\s*\n\s*f?\"", "", SOURCE))
    messages = [message for cell in cells for message in cell.strip("`").split("` or `")]
    strange = {}
    for message in messages:
        fixed = re.split(r"<[^>]*>|\.\.\.|: |[{}()\[\]]", message)
        pieces = [piece for piece in (squeezed(each).strip(".,;:") for each in fixed) if len(piece) > 8]
        strange[message] = (
            [piece for piece in pieces if piece not in code] if pieces else ["too short to tell"]
        )
    assert not {message: pieces for message, pieces in strange.items() if pieces}


PUBLIC_MODULES = {
    "operators.sub_accounts",
    "operators.roster",
    "operators.rotate",
    "operators.costs",
    "sensors.health",
    "triggers.events",
    "hooks.closeai",
}
ROOMS = ("client", "costs", "provisioning", "roster", "simulator", "sinks")


def public_names(module: str) -> set[str]:
    """Name what may be imported from a module of the package; nothing from one that is internal."""
    found = importlib.import_module(f"airflow_provider_closeai.{module}") if module else None
    if module in ROOMS:
        return set(getattr(found, "__all__", ()))
    return {name for name in vars(found) if not name.startswith("_")} if module in PUBLIC_MODULES else set()


@pytest.mark.parametrize(
    "document",
    [*DOCUMENTS, *sorted((ROOT / "example_dags").glob("*.py"))],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_only_public_names_are_imported_in_documents(document: Path) -> None:
    text = document.read_text()
    imported = re.findall(
        r"from airflow_provider_closeai\.?([\w.]*) import (\([^)]*\)|\w+(?:, \w+)*)", text, re.DOTALL
    )
    for module, names in imported:
        for name in re.findall(r"\w+", names):
            assert name in public_names(module), f"{document.name}: {module}.{name}"
    for module, name in re.findall(r"`airflow_provider_closeai\.([\w.]+)\.([A-Za-z]\w*)`", text):
        assert name in public_names(module), f"{document.name}: {module}.{name}"


def test_classes_named_in_documents_are_public() -> None:
    ours = {name for module in (*ROOMS, *PUBLIC_MODULES) for name in public_names(module)}
    classes = set(re.findall(r"^class ([A-Z]\w+)", SOURCE, re.MULTILINE))
    for document in DOCUMENTS:
        if document.name not in (
            "CONTRIBUTING.md",
            "architecture.md",
            "decisions.md",
        ):  # of those who change the code
            named = set(re.findall(r"`([A-Z][a-z]+[A-Z]\w+)[`(]", document.read_text()))
            assert named & classes <= ours | {"HealthTrigger"}, document.name


def test_the_architecture_names_files_that_exist_and_is_short() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    paths = set(re.findall(r"`([\w/]+/(?:\w+\.\w+)?|\w+\.toml)`", text))
    paths |= {word for line in re.findall(r"^(?:\w+/ +)+", text, re.MULTILINE) for word in line.split()}
    assert len(paths) > 40
    roots = (ROOT, ROOT / "airflow_provider_closeai")
    assert [path for path in sorted(paths) if not any((root / path).exists() for root in roots)] == []
    way = text[: text.index("## Where to change what")]
    assert len(way.splitlines()) <= 60


PAGES = {
    "operators/create.md": CreateSubAccountsOperator,
    "operators/pricing.md": UpdatePricingOperator,
    "operators/delete.md": DeleteSubAccountsOperator,
    "operators/plan.md": PlanSubAccountsOperator,
    "operators/rotate.md": RotateSubAccountsOperator,
    "operators/sync.md": SyncSubAccountsOperator,
    "operators/list.md": ListSubAccountsOperator,
    "operators/snapshot_costs.md": SnapshotCostsOperator,
    "operators/cost_report.md": CostReportOperator,
    "sensors/health.md": HealthSensor,
}


def test_every_operator_has_a_page() -> None:
    modules = [operators.roster, operators.rotate, operators.sub_accounts, operators.costs, sensors.health]
    public = {
        name
        for module in modules
        for name, thing in vars(module).items()
        if inspect.isclass(thing) and thing.__module__ == module.__name__ and not name.startswith("_")
    }
    assert {operator.__name__ for operator in PAGES.values()} == public
    on_disk = {
        str(page.relative_to(ROOT / "docs"))
        for folder in ("operators", "sensors")
        for page in (ROOT / "docs" / folder).glob("*.md")
    }
    assert set(PAGES) == on_disk


@pytest.mark.parametrize("page", PAGES)
def test_every_parameter_has_a_row(page: str) -> None:
    operator: Any = PAGES[page]
    text = (ROOT / "docs" / page).read_text()
    (table,) = re.findall(r"^\| parameter \|.*?\n\n", text, re.MULTILINE | re.DOTALL)
    rows = dict(re.findall(r"^\| `(\w+)`( \*)? \|", table, re.MULTILINE))
    parameters = set(inspect.signature(operator.__init__).parameters) - {"self", "kwargs"}
    parameters |= {"closeai_conn_id"} & set(operator.template_fields)  # of the base class
    assert set(rows) == parameters
    fields = {field.removeprefix("is_").removesuffix("_folder") for field in operator.template_fields}
    assert {name for name, star in rows.items() if star} == fields


def parameters_of(method: Any) -> set[str]:
    """Name the parameters, those in ``**options: Unpack[...]`` too."""
    from airflow_provider_closeai.hooks import rosters
    from airflow_provider_closeai.provisioning import requests

    found = dict(inspect.signature(method).parameters)
    for name, parameter in list(found.items()):
        options = str(parameter.annotation)
        if parameter.kind is parameter.VAR_KEYWORD and options.startswith("Unpack["):
            del found[name]
            name = options[len("Unpack[") : -1]
            found |= getattr(requests, name, getattr(rosters, name, None)).__annotations__
    return set(found)


def test_every_method_of_the_hook_is_documented_with_its_parameters() -> None:
    from airflow_provider_closeai.hooks.closeai import CloseAIHook

    text = (ROOT / "docs/hook.md").read_text()
    methods = {
        name: method
        for name, method in vars(CloseAIHook).items()
        if inspect.isfunction(method) and not name.startswith("_")
    }
    assert len(methods) >= 10
    assert all(f"`{name}`" in text for name in set(inspect.signature(CloseAIHook).parameters) - {"kwargs"})
    for name, method in methods.items():
        assert f"| `{name}` |" in text
        (section,) = re.findall(rf"^### `{name}`\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL)
        assert "```python" in section
        for parameter in parameters_of(method) - {"self"}:
            assert re.search(rf"\b{parameter}\b", section), f"{name}: {parameter}"


def test_connection_settings_are_documented() -> None:
    from airflow_provider_closeai.client.config import ClientConfig
    from airflow_provider_closeai.get_provider_info import CONNECTION_FIELDS

    text = (ROOT / "docs/connection.md").read_text()
    for name in CONNECTION_FIELDS:
        assert f"`{name}`" in text
        assert re.search(rf"^\| `(\w+` / `)?{name}`", text, re.MULTILINE)
        assert name in ClientConfig.__struct_fields__
