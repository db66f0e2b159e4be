"""The platform's own page, executed: every command by the real curl, every answer compared in shape."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_closeai.simulator import Simulator

PAGE = Path(__file__).parents[2] / "docs/platform-api.md"
COMMAND = re.compile(r"^curl .*?(?:[^\\]$)", re.MULTILINE | re.DOTALL)
ANSWER = re.compile(r"\n(?:响应|返回)\n(.+?)(?=\n###|\Z)", re.DOTALL)


def examples() -> Iterator[tuple[str, str]]:
    text = PAGE.read_text(encoding="utf-8")
    for command in COMMAND.finditer(text):
        answer = ANSWER.match(text, command.end())
        assert answer, f"no answer follows {command.group()}"
        yield command.group(), answer.group(1).strip()


EXAMPLES = list(examples())


def shape(value: Any) -> Any:
    """Keys and JSON types; a list is the set of its items' shapes."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return sorted({json.dumps(shape(item), sort_keys=True) for item in value})
    if isinstance(value, bool):
        return "boolean"
    return "number" if isinstance(value, int | float) else type(value).__name__


def run(command: str, sim: Simulator) -> str:
    """Replace hosts and keys by the simulator's, and run it."""
    command = command.replace("{API Base}", sim.base_urls[0])
    command = command.replace("https://api.shadowai.xyz", sim.discovery_url)
    command = command.replace("Bearer sk-xxxx", f"Bearer {sim.key}")
    for name in sorted(set(re.findall(r'"(sk-\w+)"', command))):
        command = command.replace(f'"{name}"', f'"{sim.add_account(name)["token"]}"')
    assert "xxxx" not in command
    assert "sk-123" not in command
    done = subprocess.run(
        ["bash", "-c", f"{command} --silent --show-error --fail --noproxy '*' --max-time 20"],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_page_has_six_commands() -> None:
    assert len(EXAMPLES) == 6
    assert PAGE.read_text(encoding="utf-8").count("curl ") == 6


@pytest.mark.parametrize(
    ("command", "answer"), EXAMPLES, ids=["links", "healthy", "list", "create", "update", "delete"]
)
def test_command(command: str, answer: str, sim: Simulator, request: pytest.FixtureRequest) -> None:
    sim.add_account("test", [{"model": "gpt-3.5-turbo", "pricing_factor": 1}], "100", "0.44000013")
    found = run(command, sim)
    [seen] = sim.requests
    assert (seen.status, seen.executed) == (200, True)
    assert seen.call == request.node.callspec.id
    if answer == "healthy":
        assert found == answer
    else:
        assert shape(json.loads(found)) == shape(json.loads(answer))


def test_the_values_of_the_pages_create(sim: Simulator) -> None:
    command, answer = EXAMPLES[3]
    [found], [shown] = json.loads(run(command, sim))["items"], json.loads(answer)["items"]
    for name in ("token_type", "alias", "enabled", "model_pricing", "balance", "monthly_cost"):
        assert found[name] == shown[name], name
    time = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+08:00"
    for name in ("created_at", "updated_at"):
        assert re.fullmatch(time, found[name])
        assert re.fullmatch(time, shown[name])


def test_the_pages_update_and_delete_do_it(sim: Simulator) -> None:
    run(EXAMPLES[4][0], sim)
    assert [account["alias"] for account in sim.accounts()] == ["ee4"]
    run(EXAMPLES[5][0], sim)
    assert [account["alias"] for account in sim.accounts()] == ["ee4"]
    assert sim.count("delete") == 1


def test_shape_tells_differences_apart() -> None:
    assert shape({"a": "1"}) != shape({"a": 1})
    assert shape({"a": True}) != shape({"a": 1})
    assert shape([{"a": 1}]) != shape([{"a": 1}, {"b": 1}])
    assert shape([{"a": 1}]) == shape([{"a": 1}, {"a": 2.5}])
