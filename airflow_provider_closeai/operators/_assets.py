"""The assets that tasks publish. A folder's asset is valid in every Airflow version and database."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.providers.common.compat.sdk import Asset, AssetAlias, BaseOperator
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from airflow_provider_closeai.asset_names import CONNECTION_URI, COSTS_TITLE
from airflow_provider_closeai.paths import is_template, path_text, plain_path

if TYPE_CHECKING:
    from airflow.providers.common.compat.openlineage.facet import Dataset
    from airflow.providers.openlineage.extractors import OperatorLineage

_LONGEST_URI = 1500  # the database column's length
_LONGEST_NAME = 160  # people read it
_DIGEST = 8
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/]*)(.*)", re.DOTALL)
_SAFE = "/~@!$&'()*+,;=:"  # not quoted in a URI's path


def ledger_asset(ledger: str | os.PathLike[str]) -> Asset:
    """
    Return the asset of a ledger or a report's folder: the operators' outlet, and a possible DAG schedule.

    It has the same name and URI in every process and database: ASCII, at most 1500 characters, without the
    connection's id.

    :param ledger: the folder, as the operators take it.
    :raises ValueError: it is empty, or a template.
    """
    text = path_text(ledger)
    if is_template(text) or not text.strip():
        raise ValueError(
            f"ledger_asset: {text!r} is not a folder. Give the folder itself, as text or as a path: an asset "
            "must be known when the DAG file is parsed."
        )
    plain = _plain(text)
    uri = _uri(plain)
    if len(uri) > _LONGEST_URI:
        uri = f"{uri[: _LONGEST_URI - 65]}~{hashlib.sha256(uri.encode()).hexdigest()}"
    return _asset(_name(plain, uri), uri)


def set_outlet(operator: BaseOperator, folder: Any, kwargs: dict[str, Any]) -> None:
    """Make a folder the operator's outlet if it is known now and the user gave no outlets."""
    if operator.outlets or "outlets" in kwargs:
        return
    if isinstance(folder, str) and folder.strip() and not is_template(folder):
        try:
            operator.outlets = [ledger_asset(folder)]
        except Exception as error:  # from the handler of a scheme: the DAG parses without an outlet
            operator.log.warning("%s has no outlet: %r makes no asset (%s).", operator.task_id, folder, error)


def describe_outlets(operator: BaseOperator, context: Any, record: dict[str, Any]) -> None:
    """Attach a result to the events of the operator's assets."""
    for outlet in operator.outlets if "outlet_events" in context else ():
        if isinstance(outlet, Asset):
            context["outlet_events"][outlet].extra = record


def lineage(*, inputs: Sequence[str] = (), outputs: Sequence[str] = ()) -> OperatorLineage[Any, Any]:
    """
    Return folders as OpenLineage datasets: a ledger is one dataset, however many files it has.

    Only the OpenLineage provider asks for this.
    """
    from airflow.providers.openlineage.extractors import OperatorLineage

    return OperatorLineage(inputs=_datasets(inputs), outputs=_datasets(outputs))


def _datasets(folders: Sequence[str]) -> list[Dataset]:
    """Return the datasets of folders; a task that failed may not have rendered them."""
    texts = [path_text(each) for each in folders]
    return [_dataset(text) for text in texts if not is_template(text) and text.strip()]


def _dataset(folder: str) -> Dataset:
    """Name a folder by OpenLineage's rules: ``s3://bucket`` and ``path``; ``file`` and ``/path``."""
    from airflow.providers.common.compat.openlineage.facet import Dataset

    plain = _plain(folder)
    address = _ADDRESS.fullmatch(plain)
    if address is None:
        return Dataset(namespace="file", name=os.path.abspath(os.path.expanduser(plain)))
    scheme, host, path = address.groups()
    return Dataset(namespace=f"{scheme}://{host}", name=path.lstrip("/") or "/")


def connection_asset(closeai_conn_id: str, what: str, title: str) -> Asset:
    """
    Return a connection's asset.

    :param what: one of :mod:`airflow_provider_closeai.asset_names`.
    :param title: the start of its name, for people.
    """
    plain = closeai_conn_id.strip()
    uri = CONNECTION_URI.format(closeai_conn_id=quote(plain, safe=""), what=what)
    return _asset(f"{title} of {plain}", uri)


def set_alias(operator: BaseOperator, alias: str, kwargs: dict[str, Any]) -> None:
    """Make an alias the operator's outlet, for :func:`publish`, unless the user gave outlets."""
    # Not on Airflow 2: there `airflow dags test` stores no alias, and fails if an outlet is one.
    if AIRFLOW_V_3_0_PLUS and not operator.outlets and "outlets" not in kwargs:
        operator.outlets = [AssetAlias(alias)]


def can_publish(operator: BaseOperator, context: Any) -> bool:
    """Return whether :func:`publish` has any effect."""
    has_alias = any(isinstance(outlet, AssetAlias) for outlet in operator.outlets)
    return has_alias and context.get("outlet_events") is not None


def publish(operator: BaseOperator, context: Any, asset: Asset, extra: dict[str, Any]) -> None:
    """Update an asset once the task has succeeded, through the aliases among the operator's outlets."""
    if can_publish(operator, context):
        for outlet in operator.outlets:
            if isinstance(outlet, AssetAlias):
                context["outlet_events"][outlet].add(asset, extra=extra)


def _asset(name: str, uri: str) -> Asset:
    try:
        return Asset(name=name, uri=uri)
    except TypeError:  # Airflow 2's assets have no names
        return Asset(uri)


def _plain(text: str) -> str:
    """Normalise a folder's address: ``/data/x``, ``data/x``, ``s3://bucket/x``."""
    text = plain_path(text)
    address = _ADDRESS.fullmatch(text)
    scheme, host, path = address.groups() if address else ("file", "", text)
    if not address and text.lower().startswith("file:/"):
        path = text[len("file:") :]
    if scheme.lower() in ("file", "local"):
        start = "/" * path.startswith("/")
        return start + "/".join(part for part in path.split("/") if part not in ("", "."))
    return f"{scheme.lower()}://{host.rpartition('@')[2]}{path.rstrip('/')}"


def _uri(plain: str) -> str:
    address = _ADDRESS.fullmatch(plain)
    if address:
        scheme, host, path = address.groups()
        return f"{scheme}://{quote(host, safe=':')}{quote(path, safe=_SAFE)}"
    path = quote(plain, safe=_SAFE)
    return f"file://{path}" if path.startswith("/") else path.replace(":", "%3A")


def _name(plain: str, uri: str) -> str:
    """Return the name of a folder's asset; if characters or length must be cut, a digest is added."""
    text = re.sub(r"[^ -~]+", "...", plain)
    if len(text) > _LONGEST_NAME:
        text = f"...{text[-_LONGEST_NAME:]}"
    if text != plain:
        text = f"{text} #{hashlib.sha256(uri.encode()).hexdigest()[:_DIGEST]}"
    return COSTS_TITLE + text
