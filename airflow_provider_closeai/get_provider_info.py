"""Metadata for Airflow's provider discovery. Loaded in every Airflow process, so it imports nothing."""

from __future__ import annotations

from typing import Any

from airflow_provider_closeai import DOCS_URL

_TEXT = {"type": ["string", "null"]}
_WHOLE = {"type": ["integer", "null"], "minimum": 1}


def _field(label: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"label": label, "description": description, "schema": schema}


def _modules(*names: str) -> list[dict[str, Any]]:
    modules = [f"airflow_provider_closeai.{name}" for name in names]
    return [{"integration-name": "CloseAI", "python-modules": modules}]


#: The form's extra fields, in order. client/config.py names their labels in errors and checks their choices.
CONNECTION_FIELDS: dict[str, dict[str, Any]] = {
    "api_bases": _field(
        "API bases",
        "A fixed list of bases, best first, separated by commas: no discovery at all. Default: discovery.",
        _TEXT,
    ),
    "allowed_hosts": _field(
        "Allowed hosts",
        "Globs, separated by commas, that a discovered base's host must match. Default: any.",
        _TEXT,
    ),
    "cache": _field(
        "Cache",
        "file: what is known of the bases is shared by one host's processes. variable: by the whole "
        "deployment, in an Airflow Variable (for pods and many workers). Default: file.",
        {"type": ["string", "null"], "enum": ["file", "variable"]},
    ),
    "lock": _field(
        "Lock",
        "Among whom a create or a reprice is alone. deployment: all hosts (Airflow 3.3 and later). host: one "
        "host. Default: auto, the deployment where Airflow can.",
        {"type": ["string", "null"], "enum": ["auto", "host", "deployment"]},
    ),
    "discovery_ttl": _field(
        "Discovery TTL (s)", "Seconds for which discovery's answer is used. Default: 3600.", _WHOLE
    ),
    "health_ttl": _field(
        "Health TTL (s)",
        "Seconds for which a health verdict is used; the platform suggests 300. Default: 300.",
        _WHOLE,
    ),
    "connect_timeout": _field("Connect timeout (s)", "Per attempt. Default: 5.", _WHOLE),
    "read_timeout": _field("Read timeout (s)", "Per attempt. Default: 60.", _WHOLE),
    "max_attempts": _field("Max attempts", "Per call, over all bases. Default: 5.", _WHOLE),
    "deadline": _field("Deadline (s)", "Per call, over all attempts and waits. Default: 120.", _WHOLE),
    "max_late": _field(
        "Max late (s)",
        "How long after a request was sent the platform may still execute it. Default: 60.",
        _WHOLE,
    ),
    "page_size": _field(
        "Page size",
        "Accounts per page of a listing; -1: everything in one answer. Default: 500.",
        {"type": ["integer", "null"], "minimum": -1},
    ),
    "verify": _field(
        "Verify TLS",
        "true, false, or the path of a CA bundle. Default: true.",
        _TEXT,
    ),
    "proxies": _field(
        "Proxies",
        'JSON such as {"https": "http://proxy.example:3128"}. Default: the environment\'s.',
        {"type": ["string", "null"], "format": "password"},  # a proxy's address may hold a password
    ),
}

HIDDEN_FIELDS = ["login"]
RELABELING = {"password": "API key", "host": "Discovery host"}
PLACEHOLDERS = {
    "password": "the main account's sk (a sub-account's sk has no access)",
    "host": "https://api.shadowai.xyz",
    "schema": "https",
    "port": "443",
}


def get_provider_info() -> dict[str, Any]:
    """Return the provider's metadata, as Airflow's ``provider_info.schema.json`` describes it."""
    return {
        "package-name": "airflow-provider-closeai",
        "name": "CloseAI",
        "description": "Sub-accounts, prices, health and monthly costs of the CloseAI platform.",
        "integrations": [
            {
                "integration-name": "CloseAI",
                "external-doc-url": DOCS_URL.format(page=""),
                "tags": ["service"],
            }
        ],
        "hooks": _modules("hooks.closeai"),
        "operators": _modules(
            "operators.roster", "operators.rotate", "operators.sub_accounts", "operators.costs"
        ),
        "sensors": _modules("sensors.health"),
        "triggers": _modules("triggers.events", "triggers.health"),
        "extra-links": [  # used by Airflow 2 only
            "airflow_provider_closeai.operators.base.DocsLink",
            "airflow_provider_closeai.operators.base.ReportLink",
        ],
        "connection-types": [
            {
                "connection-type": "closeai",
                "hook-class-name": "airflow_provider_closeai.hooks.closeai.CloseAIHook",
                "hook-name": "CloseAI",
                "ui-field-behaviour": {
                    "hidden-fields": HIDDEN_FIELDS,
                    "relabeling": RELABELING,
                    "placeholders": PLACEHOLDERS,
                },
                "conn-fields": CONNECTION_FIELDS,
            }
        ],
    }
