"""Every block of code in the documents is run: here, by the tutorials' test, or where a list says."""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS
from cryptography.fernet import Fernet
from doc_blocks import DOCUMENTS, ELSEWHERE, ROOT, SHELL, Block, all_blocks, assert_shows, blocks_of

from airflow_provider_closeai.client import config_from
from airflow_provider_closeai.roster import read_roster
from airflow_provider_closeai.simulator import Simulator

LANGUAGES = {*SHELL, "python", "text", "yaml", "csv", "sql", "json", "{toctree}", "{eval-rst}", ""}
COMMANDS = [
    block
    for block in all_blocks(*SHELL)
    if not (block.is_run_elsewhere or "/tutorials/" in block.document or block.first_line == "make demo")
]
SERVES = "airflow_provider_closeai.simulator"
ALL_RUN_BY = {"docs/hook.md": "tests/airflow/test_hook.py"}
WITH_PYTHON = sorted({block.document for block in all_blocks("python")} - set(ALL_RUN_BY))
ROOMS = ("client", "costs", "provisioning", "roster", "simulator", "sinks")
MODULES = (
    *("operators.sub_accounts", "operators.roster", "operators.rotate", "operators.costs"),
    *("sensors.health", "hooks.closeai"),
)


@pytest.fixture
def platform(closeai_connection: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Simulator:
    """Give the platform as the documents suppose it: a connection, some accounts, a place for keys."""
    key = {"conn_type": "generic", "password": Fernet.generate_key().decode()}
    monkeypatch.setenv("AIRFLOW_CONN_KEY_STORE", json.dumps(key))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path / "airflow"))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    closeai_connection.clock.set(datetime.now(UTC))
    for _ in range(3):
        closeai_connection.add_account("team-search", [{"model": "gpt-4o", "pricing_factor": 1}])
    return closeai_connection


def test_no_block_is_of_an_unknown_language() -> None:
    strange = [
        (page.name, b.language) for page in DOCUMENTS for b in blocks_of(page) if b.language not in LANGUAGES
    ]
    assert not strange, "a block of commands is marked bash, what it prints text"


def test_no_block_without_a_language_is_a_command() -> None:
    programs = ("make ", "python", "pip ", "airflow ", "export ", "curl ", "$ ", ".venv/")
    assert not [b for b in all_blocks("", "text") if b.first_line.startswith(programs)]


def test_what_is_run_elsewhere_is_in_the_documents() -> None:
    commands = all_blocks(*SHELL)
    for beginning in ELSEWHERE:
        assert any(block.text.startswith(beginning) for block in commands), f"stale: {beginning}"
    for reason in ELSEWHERE.values():
        assert all((ROOT / path).exists() for path in re.findall(r"tests/\S+\.py", reason)), reason
    for document, test in ALL_RUN_BY.items():
        assert document in (ROOT / test).read_text()
    assert len(COMMANDS) >= 5
    assert len(WITH_PYTHON) >= 12


def test_every_make_target_of_the_documents_exists() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in DOCUMENTS:
        named = set(re.findall(r"(?:`|^)make ([a-z0-9-]+)", page.read_text(), re.MULTILINE))
        assert named <= targets, page.name


@pytest.mark.parametrize("block", COMMANDS, ids=lambda block: f"{block.document}: {block.first_line[:40]}")
def test_the_command_runs(block: Block, platform: Simulator, tmp_path: Path) -> None:
    (tmp_path / "airflow").mkdir()
    folder = tmp_path / "work"
    folder.mkdir()
    if " check " in block.text:
        (folder / "roster.yaml").write_text((ROOT / "example_dags/closeai_roster.yaml").read_text())
    at = ROOT if ".venv/" in block.text else folder
    shell = subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", f"{block.text}\nenv -0 > '{tmp_path}/environment'"],
        cwd=at,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert shell.stdout is not None
    try:
        if SERVES in block.text:
            printed = shell.stdout.readline()
            os.killpg(shell.pid, signal.SIGINT)
            shell.wait(60)
            assert printed.startswith("export AIRFLOW_CONN_CLOSEAI_DEFAULT=")
            return
        printed = shell.communicate(timeout=120)[0]
    finally:
        os.killpg(shell.pid, signal.SIGKILL) if shell.poll() is None else None
    assert shell.returncode == 0, printed
    assert_shows(block, printed)
    environment = dict(
        each.partition("=")[::2] for each in (tmp_path / "environment").read_text().split("\0") if each
    )
    connection = json.loads(environment["AIRFLOW_CONN_CLOSEAI_DEFAULT"])
    assert connection.pop("conn_type") == "closeai"
    config_from(**connection)


@pytest.fixture
def names(platform: Simulator, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Give what a reader of a page has: the public names, and what earlier lines of a DAG made."""
    from airflow.providers.common.compat.sdk import DAG, BaseNotifier, BaseOperator

    found: dict[str, Any] = {
        "DAG": DAG,
        "sim": platform,
        "hand_over": str,
        "ApprovalOperator": approval(BaseOperator),
    }
    found |= dict.fromkeys(("SmtpNotifier", "SlackNotifier"), notifier(BaseNotifier))
    for room in ROOMS:
        module = importlib.import_module(f"airflow_provider_closeai.{room}")
        found |= {name: getattr(module, name) for name in module.__all__}
    for name in MODULES:
        module = importlib.import_module(f"airflow_provider_closeai.{name}")
        found |= {name: thing for name, thing in vars(module).items() if not name.startswith("_")}
    with DAG("document", schedule=None):
        found["create"] = found["CreateSubAccountsOperator"](
            task_id="made", alias="team-search", model_pricing={"gpt-4": 1}, balance=1
        )
        yield found


def approval(base: Any) -> Any:
    """Stand for Airflow's ApprovalOperator, which Airflow before 3.1 does not have."""

    class ApprovalOperator(base):  # type: ignore[misc]
        def __init__(self, *, subject: str, body: str, **kwargs: Any) -> None:
            super().__init__(**kwargs)

    return ApprovalOperator


def notifier(base: Any) -> Any:
    """Stand for a notifier of a provider that is not installed here."""

    class Notifier(base):  # type: ignore[misc]
        def __init__(self, **fields: str) -> None:
            super().__init__()

        def notify(self, context: Any) -> None:
            raise AssertionError

    return Notifier


@pytest.mark.parametrize("document", WITH_PYTHON)
def test_the_python_of_a_document_runs(document: str, names: dict[str, Any], tmp_path: Path) -> None:
    """Each block after the one before it, as on the page; operators and DAGs are made, not run."""
    for block in blocks_of(ROOT / document):
        if block.language == "python" and (AIRFLOW_V_3_0_PLUS or "airflow.sdk" not in block.text):
            text = block.text.replace("/data/closeai", str(tmp_path))
            exec(compile(text, document, "exec"), names)  # noqa: S102


@pytest.mark.parametrize("block", all_blocks("yaml"), ids=lambda block: block.document)
def test_a_roster_in_a_document_is_one(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "roster.yaml"
    file.write_text(block.text)
    assert read_roster(file).entries
