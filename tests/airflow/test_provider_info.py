"""What Airflow and its users see of the provider: metadata, connection type, form, commands."""

from __future__ import annotations

import importlib
import json
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from airflow_cell import AIRFLOW, ON_3, airflow_command, python

from airflow_provider_closeai.client.config import ClientConfig
from airflow_provider_closeai.get_provider_info import CONNECTION_FIELDS, get_provider_info

DECLARATIVE = AIRFLOW >= (3, 2)
NAME = "airflow-provider-closeai"
HOOK = "airflow_provider_closeai.hooks.closeai.CloseAIHook"


def schema(name: str) -> dict[str, Any]:
    import airflow

    found: dict[str, Any] = json.loads(Path(airflow.__path__[0], f"{name}.schema.json").read_text())
    return found


def child(code: str) -> Any:
    done = python("-c", code)
    lines = [line for line in done.stdout.splitlines() if line.startswith("found ")]
    assert lines, done.stdout + done.stderr
    return json.loads(lines[-1].removeprefix("found "))


def test_it_is_valid_for_this_airflow() -> None:
    import jsonschema

    jsonschema.validate(get_provider_info(), schema("provider_info"))
    json.dumps(get_provider_info())


def test_each_part_is_valid_by_the_strict_schema() -> None:
    """The schema of a provider's source, which knows the form's fields since Airflow 3.2."""
    import jsonschema

    strict = schema("provider.yaml")
    info = get_provider_info()
    keys = [
        "connection-types",
        "hooks",
        "operators",
        "sensors",
        "triggers",
        "name",
        "package-name",
        "description",
    ]
    for key in keys:
        part = {**strict["properties"][key], "definitions": strict.get("definitions", {})}
        jsonschema.validate(info[key], part)
    (connection,) = info["connection-types"]
    if DECLARATIVE:
        known = strict["properties"]["connection-types"]["items"]["properties"]
        assert set(connection) <= set(known)
        broken = [{**connection, "ui-field-behaviour": {"hidden_fields": []}}]
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, strict["properties"]["connection-types"])


def test_what_it_names_exists() -> None:
    info = get_provider_info()
    for key in ("hooks", "operators", "sensors", "triggers"):
        for entry in info[key]:
            for module in entry["python-modules"]:
                importlib.import_module(module)
    listed = {module for entry in info["operators"] for module in entry["python-modules"]}
    folder = Path(__file__).parents[2] / "airflow_provider_closeai" / "operators"
    written = {path.stem for path in folder.glob("[!_]*.py")} - {"base"}
    assert listed == {f"airflow_provider_closeai.operators.{name}" for name in written}
    (connection,) = info["connection-types"]
    module, name = connection["hook-class-name"].rsplit(".", 1)
    hook = getattr(importlib.import_module(module), name)
    assert (hook.conn_type, hook.hook_name) == (connection["connection-type"], connection["hook-name"])
    assert (hook.conn_name_attr, hook.default_conn_name) == ("closeai_conn_id", "closeai_default")


def test_the_form_has_exactly_the_settings_that_are_read() -> None:
    assert set(CONNECTION_FIELDS) == set(ClientConfig.__struct_fields__) - {"key", "origin"}
    for field in CONNECTION_FIELDS.values():
        assert field["description"]
        assert "null" in field["schema"]["type"]  # none must be given


def test_the_entry_point_is_found_once_and_loads_nothing() -> None:
    found = [point for point in entry_points(group="apache_airflow_provider") if "closeai" in point.value]
    assert len({point.value for point in found}) == 1
    assert found[0].load()()["package-name"] == NAME
    code = (
        "import json, sys; before = set(sys.modules);"
        "from airflow_provider_closeai.get_provider_info import get_provider_info as g; g();"
        "print('found', json.dumps(sorted({n.split('.')[0] for n in set(sys.modules) - before})))"
    )
    loaded = set(child(code))
    assert not loaded & {"airflow", "requests", "tenacity", "msgspec", "urllib3", "flask", "wtforms"}


# --- ProvidersManager and the form --------------------------------------------------------------------------

COMMON = """
import json, sys, warnings
told = []
def note(message, category, filename, lineno, file=None, line=None):
    if "closeai" in f"{filename} {message}".lower():
        told.append(f"{category.__name__}: {message}")
warnings.showwarning = note
warnings.simplefilter("always")
from airflow.providers_manager import ProvidersManager
manager = ProvidersManager()
info = manager.providers["airflow-provider-closeai"]
"""

LEGACY_MANAGER = (
    COMMON
    + """
hook = manager.hooks["closeai"]
widgets = {name: widget for name, widget in manager.connection_form_widgets.items() if "closeai" in name}
fields = {name: [widget.field.field_class.__name__, str(widget.field.args[0]) if widget.field.args else None]
          for name, widget in widgets.items()}
print("found", json.dumps({
    "told": told, "fields": fields, "behaviour": manager.field_behaviours["closeai"],
    "hook": [hook.hook_class_name, hook.connection_id_attribute_name, hook.connection_type, hook.hook_name,
             hook.package_name, hook.connection_testable]}))
"""
)

SERVICE = (
    COMMON
    + """
from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService
(meta,) = [meta for meta in HookMetaService.hook_meta_data() if meta.connection_type == "closeai"]
loaded = [name for name in sys.modules if name.startswith(("airflow_provider_closeai.", "requests."))]
print("found", json.dumps({"told": told, "loaded": loaded,
                           "meta": meta.model_dump(mode="json")}))
"""
)


@pytest.mark.skipif(ON_3, reason="Airflow 3 has no Flask form")
def test_airflow_2_makes_the_form_of_the_hooks_widgets() -> None:
    found = child(LEGACY_MANAGER)
    assert found["told"] == []
    assert found["hook"] == [HOOK, "closeai_conn_id", "closeai", "CloseAI", NAME, True]
    names = [f"extra__closeai__{name}" for name in CONNECTION_FIELDS]
    assert list(found["fields"]) == names
    assert {fields[0] for fields in found["fields"].values()} == {
        "StringField",
        "IntegerField",
        "PasswordField",
    }
    assert found["behaviour"]["hidden_fields"] == ["login"]
    assert found["behaviour"]["relabeling"]["password"] == "API key"
    assert "shadowai" in found["behaviour"]["placeholders"]["host"]


@pytest.mark.skipif(ON_3, reason="Airflow 3 has no Flask form")
def test_airflow_2_renders_and_checks_the_form() -> None:
    from flask import Flask
    from flask_babel import Babel
    from werkzeug.datastructures import MultiDict
    from wtforms import Form

    from airflow_provider_closeai.hooks.closeai import CloseAIHook

    app = Flask("form")
    Babel(app)
    with app.test_request_context():
        made = type("MadeForm", (Form,), CloseAIHook.get_connection_form_widgets())
        form = made()
        assert [field.name for field in form] == list(CONNECTION_FIELDS)
        for field in form:
            assert str(field.label.text) == CONNECTION_FIELDS[field.name]["label"]
            assert field.description == CONNECTION_FIELDS[field.name]["description"]
            assert f'name="{field.name}"' in field()
        assert 'type="password"' in form.proxies()
        assert made(MultiDict()).validate()
        good = made(MultiDict({"health_ttl": "30", "page_size": "-1", "cache": "variable"}))
        assert good.validate()
        assert good.health_ttl.data == 30
        bad = made(MultiDict({"health_ttl": "0", "deadline": "soon"}))
        assert not bad.validate()
        assert set(bad.errors) == {"health_ttl", "deadline"}


@pytest.mark.skipif(not ON_3, reason="of Airflow 3's API server")
def test_the_api_servers_form(database: None) -> None:
    """Up to Airflow 3.1 through the hook's methods; later from the metadata alone."""
    found = child(SERVICE)
    assert found["told"] == []
    meta = found["meta"]
    assert (meta["hook_class_name"], meta["hook_name"]) == (HOOK, "CloseAI")
    standard = meta["standard_fields"]
    assert standard["login"]["hidden"] is True
    assert standard["password"]["title"] == "API key"
    assert standard["host"]["placeholder"] == "https://api.shadowai.xyz"
    extra = meta["extra_fields"]
    assert list(extra) == list(CONNECTION_FIELDS)
    for name, field in extra.items():
        wanted = CONNECTION_FIELDS[name]
        assert field["schema"]["title"] == wanted["label"]
        assert field["description"] == wanted["description"]
        assert field["schema"]["type"] == wanted["schema"]["type"]
        assert field["schema"].get("format") == wanted["schema"].get("format")
        assert field["value"] is None
    if DECLARATIVE:
        assert extra["health_ttl"]["schema"]["minimum"] == 1
        assert extra["cache"]["schema"]["enum"] == ["file", "variable"]
        assert found["loaded"] == ["airflow_provider_closeai.get_provider_info"]


# --- Commands -----------------------------------------------------------------------------------------------


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    capsys.readouterr()
    assert airflow_command(*arguments, "--output", "json") == 0
    printed = capsys.readouterr().out
    return json.JSONDecoder().raw_decode(printed[printed.index("[{") :])[0]


def test_airflow_providers_get(database: None, capsys: pytest.CaptureFixture[str]) -> None:
    (shown,) = told(capsys, "providers", "get", NAME, "--full")
    wanted = get_provider_info()
    for key in ("package-name", "name", "integrations", "hooks", "operators", "sensors", "triggers"):
        assert shown[key] == wanted[key]
    (connection,) = shown["connection-types"]
    assert (connection["connection-type"], connection["hook-class-name"]) == ("closeai", HOOK)


def test_airflow_providers_list(database: None, capsys: pytest.CaptureFixture[str]) -> None:
    from airflow_provider_closeai import __version__

    (row,) = [row for row in told(capsys, "providers", "list") if row["package_name"] == NAME]
    assert row["version"] == __version__


def test_airflow_providers_hooks(database: None, capsys: pytest.CaptureFixture[str]) -> None:
    rows = told(capsys, "providers", "hooks")
    assert [row for row in rows if row["connection_type"] == "closeai"] == [
        {
            "connection_type": "closeai",
            "class": HOOK,
            "conn_id_attribute_name": "closeai_conn_id",
            "package_name": NAME,
            "hook_name": "CloseAI",
        }
    ]
