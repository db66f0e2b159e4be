"""What the documents claim holds: code compiles, links lead somewhere, messages and names exist."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
SOURCE = "\n".join(path.read_text() for path in sorted((ROOT / "airflow_provider_closeai").rglob("*.py")))


def test_there_are_documents() -> None:
    assert len(DOCUMENTS) > 8


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text()):
        if "://" not in target:
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_python_in_documents_compiles(document: Path) -> None:
    for block in re.findall(r"```python\n(.*?)```", document.read_text(), re.DOTALL):
        compile(block, str(document), "exec")


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
    assert set(dag.task_ids) == {"api_is_up", "create", "reprice"}


def squeezed(text: str) -> str:
    """Take out what differs between a message and the code that makes it: quotes and white space."""
    return re.sub(r"[\s\"'\\]", "", text)


def test_every_message_of_troubleshooting_is_in_the_code() -> None:
    rows = re.findall(r"^\| `(.*?)` \|", (ROOT / "docs/troubleshooting.md").read_text(), re.MULTILINE)
    assert len(rows) > 20
    code = squeezed(re.sub(r"\"\s*\n\s*f?\"", "", SOURCE))
    for row in rows:
        pieces = [
            squeezed(piece).strip(".,;:") for piece in re.split(r"<[^>]*>|\.\.\.|\{|\}|\[|\]|\(|\)", row)
        ]
        strange = [piece for piece in pieces if len(piece) > 12 and piece not in code]
        assert not strange, f"{row!r}: this is in no message of the code"


@pytest.mark.parametrize(
    ("document", "module", "name"),
    [
        ("operators/create.md", "operators.sub_accounts", "CreateSubAccountsOperator"),
        ("operators/pricing.md", "operators.sub_accounts", "UpdatePricingOperator"),
        ("operators/delete.md", "operators.sub_accounts", "DeleteSubAccountsOperator"),
        ("operators/snapshot_costs.md", "operators.costs", "SnapshotCostsOperator"),
        ("operators/cost_report.md", "operators.costs", "CostReportOperator"),
        ("sensors/health.md", "sensors.health", "HealthSensor"),
    ],
)
def test_every_parameter_is_documented(document: str, module: str, name: str) -> None:
    operator = getattr(__import__(f"airflow_provider_closeai.{module}", fromlist=[name]), name)
    text = (ROOT / "docs" / document).read_text()
    parameters = set(inspect.signature(operator.__init__).parameters) - {"self", "kwargs"}
    assert parameters
    missing = [parameter for parameter in parameters if f"`{parameter}`" not in text]
    assert not missing
    templated = set(re.findall(r"^\| `(\w+)` \* \|", text, re.MULTILINE))
    fields = {field.removeprefix("is_").removesuffix("_folder") for field in operator.template_fields}
    assert templated | {"closeai_conn_id"} == fields | {"closeai_conn_id"}


def test_every_method_of_the_hook_is_documented_with_its_parameters() -> None:
    from airflow_provider_closeai.hooks.closeai import CloseAIHook

    text = (ROOT / "docs/hook.md").read_text()
    methods = {
        name: method
        for name, method in vars(CloseAIHook).items()
        if inspect.isfunction(method) and not name.startswith("_")
    }
    assert len(methods) >= 10
    for name, method in methods.items():
        assert f"| `{name}` |" in text
        (section,) = re.findall(rf"^### `{name}`\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL)
        assert "```python" in section
        for parameter in set(inspect.signature(method).parameters) - {"self"}:
            assert re.search(rf"\b{parameter}\b", section), f"{name}: {parameter}"


def test_connection_settings_are_documented() -> None:
    from airflow_provider_closeai.client.config import EXTRA_LABELS, ClientConfig
    from airflow_provider_closeai.get_provider_info import CONNECTION_FIELDS

    text = (ROOT / "docs/connection.md").read_text()
    assert list(EXTRA_LABELS) == list(CONNECTION_FIELDS)
    for name, label in EXTRA_LABELS.items():
        assert f"`{name}`" in text
        assert CONNECTION_FIELDS[name]["label"] == label
        assert re.search(rf"^\| `(\w+` / `)?{name}`", text, re.MULTILINE)
        assert name in ClientConfig.__struct_fields__
