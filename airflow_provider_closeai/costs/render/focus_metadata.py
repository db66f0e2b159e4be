"""What FOCUS calls metadata: who made the rows, by which versions, with which columns, and how fresh."""

from __future__ import annotations

import json
import uuid
from typing import IO, Any

from airflow_provider_closeai import __version__
from airflow_provider_closeai.costs.accounting.report_model import OPEN
from airflow_provider_closeai.costs.render.focus import Dataset, columns_of
from airflow_provider_closeai.costs.tables import Column, utc_text

FOCUS_VERSION = "1.2"
_GENERATOR = "airflow-provider-closeai"
_TYPES = {"text": "STRING", "amount": "DECIMAL", "time": "DATETIME", "integer": "INTEGER"}
#: A schema's id is made of its columns: the same columns have the same one, in every deployment.
_NAMESPACE = uuid.UUID("6f1a0f1e-6d3c-5f0e-9b7d-0c9b0f6a2d11")


def write_metadata(file: IO[bytes], dataset: Dataset) -> None:
    """Write the metadata of a month's rows as JSON."""
    file.write(json.dumps(metadata(dataset), indent=1).encode() + b"\n")


def metadata(dataset: Dataset) -> dict[str, Any]:
    """Return the metadata of a month's rows, in the collections of FOCUS 1.3."""
    report = dataset.report
    columns = [_definition(column) for column in columns_of(dataset)]
    schema = uuid.uuid5(_NAMESPACE, json.dumps(columns))
    instance = uuid.uuid5(_NAMESPACE, dataset.account)
    updated = utc_text(report.generated_at)
    return {
        "DataGenerator": {"DataGenerator": _GENERATOR, "DataGeneratorVersion": __version__},
        "DatasetInstance": {
            "DatasetInstanceId": str(instance),
            "DatasetInstanceName": f"CloseAI costs of {dataset.account}",
            "FocusDatasetId": "CostAndUsage",
        },
        "Recency": {
            "DatasetInstanceId": str(instance),
            "DatasetInstanceLastUpdated": updated,
            "TimeSectors": [
                {
                    "TimeSectorStart": utc_text(report.month.start),
                    "TimeSectorEnd": utc_text(report.month.end),
                    "TimeSectorComplete": report.status != OPEN,
                    "TimeSectorLastUpdated": updated,
                }
            ],
        },
        "Schema": {
            "SchemaId": str(schema),
            "FocusVersion": FOCUS_VERSION,
            "DataGeneratorVersion": __version__,
            "DatasetInstanceId": str(instance),
            "CreationDate": updated,
            "ColumnDefinition": columns,
        },
    }


def _definition(column: Column) -> dict[str, Any]:
    found: dict[str, Any] = {"ColumnName": column.name}
    found["DataType"] = "JSON" if column.name == "Tags" else _TYPES[column.kind]
    if column.kind == "text":
        found["StringEncoding"] = "UTF-8"
    return found
