"""The operators on an object store: S3 of moto over HTTP, by way of ObjectStoragePath and s3fs."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aws_standin import Aws
from books import Clock, local

from airflow_provider_closeai.costs import Ledger
from airflow_provider_closeai.costs.errors import NotWritten
from airflow_provider_closeai.costs.store.files import atomic_write
from airflow_provider_closeai.costs.store.kinds import SNAPSHOTS
from airflow_provider_closeai.operators.costs import CostReportOperator, SnapshotCostsOperator
from airflow_provider_closeai.operators.sub_accounts import DeleteSubAccountsOperator
from airflow_provider_closeai.simulator import Simulator

ROOT = "s3://aws_default@finance/closeai"


@pytest.fixture(scope="module")
def aws() -> Iterator[Aws]:
    """One for all tests: Airflow keeps its file systems, each with the address it began with."""
    aws = Aws("us-east-1")
    aws.start()
    yield aws
    aws.stop()


@pytest.fixture
def s3(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> Any:
    aws.reset()
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", aws.connection())
    return aws.client("s3")


@pytest.fixture
def sim(
    closeai_connection: Simulator, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Simulator:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    clock.at = local("11-29 23:55")
    closeai_connection.add_account("search.web", monthly_cost="12.00000001")
    closeai_connection.add_account("ads.bids", monthly_cost="3.5")
    return closeai_connection


def context_of(run_id: str) -> Any:
    ti = SimpleNamespace(dag_id="d", run_id=run_id, task_id="t", map_index=-1, try_number=1)
    return {"ti": ti, "dag_run": SimpleNamespace(run_type="manual", run_after=None)}


def snapshot(run_id: str) -> Any:
    return SnapshotCostsOperator(task_id="t", ledger=f"{ROOT}/ledger").execute(context_of(run_id))


def names(s3: Any, prefix: str) -> list[str]:
    found = s3.list_objects_v2(Bucket="finance", Prefix=f"closeai/{prefix}")
    return [item["Key"].removeprefix("closeai/") for item in found.get("Contents", ())]


def test_a_month_on_s3(s3: Any, sim: Simulator, clock: Clock) -> None:
    s3.create_bucket(Bucket="finance")
    owners = b"alias,team,cost_center\nsearch.*,Search,CC-1\nads.*,Ads,CC-2\n"
    s3.put_object(Bucket="finance", Key="closeai/owners.csv", Body=owners)
    snapshot("evening")
    clock.at = local("11-29 23:57")
    retried = snapshot("evening")
    assert names(s3, "ledger/snapshots/") == [f"ledger/{retried['file']}"], "a retry replaces its own file"

    delete = DeleteSubAccountsOperator(task_id="t", sub_accounts=[2], ledger=f"{ROOT}/ledger")
    delete.execute(context_of("delete"))
    assert len(names(s3, "ledger/deleted/")) == 1
    clock.at = local("11-30 23:55")
    snapshot("last")

    clock.at = local("12-01 00:05")
    report = CostReportOperator(
        task_id="t",
        ledger=f"{ROOT}/ledger",
        month="previous",
        output=f"{ROOT}/reports",
        currency="CNY",
        formats=["csv", "focus", "html", "json", "parquet"],
        owners=f"{ROOT}/owners.csv",
        close="even if uncertain",
    )
    record = report.execute(context_of("close"))
    assert (record["total"], record["status"]) == ("15.50000001", "estimated")  # nobody saw its turns
    assert record["closed"]
    assert len(names(s3, "ledger/closed/")) == 1
    assert sorted(record["files"].values()) == [f"{ROOT}/{name}" for name in names(s3, "reports/")]
    read = s3.get_object(Bucket="finance", Key="closeai/reports/closeai-costs-2026-11.json")["Body"].read()
    assert {line["team"]: line["month_to_date"] for line in json.loads(read)["owners"]} == {
        "Search": "12.00000001",
        "Ads": "3.5",
    }


def test_a_bucket_that_is_not_there_is_not_made(s3: Any, sim: Simulator) -> None:
    with pytest.raises(NotWritten, match=r"s3://aws_default@finance/closeai/ledger/snapshots/.* bucket"):
        snapshot("evening")
    assert s3.list_buckets()["Buckets"] == []


def test_an_error_leaves_no_half_object(s3: Any) -> None:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    s3.create_bucket(Bucket="finance")
    with (
        contextlib.suppress(ZeroDivisionError),
        atomic_write(ObjectStoragePath(f"{ROOT}/report.csv")) as file,
    ):
        file.write(b"half of it")
        raise ZeroDivisionError
    assert names(s3, "") == []


def test_a_part_that_fails_leaves_no_object(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.providers.common.compat.sdk import ObjectStoragePath
    from s3fs import S3FileSystem

    s3.create_bucket(Bucket="finance")
    call, parts = S3FileSystem._call_s3, []

    async def second_part_fails(self: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        if method == "upload_part":
            parts.append(method)
            if len(parts) == 2:
                raise ConnectionResetError("in the middle")
        return await call(self, method, *args, **kwargs)

    monkeypatch.setattr(S3FileSystem, "_call_s3", second_part_fails)
    with (
        pytest.raises(NotWritten, match="in the middle"),
        atomic_write(ObjectStoragePath(f"{ROOT}/x.csv")) as file,
    ):
        file.write(bytes(120 << 20))
    assert len(parts) >= 2
    assert names(s3, "") == []


def test_what_another_host_wrote_is_seen(s3: Any, sim: Simulator) -> None:
    """s3fs keeps what it listed for as long as the process lives."""
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    s3.create_bucket(Bucket="finance")
    snapshot("evening")
    ledger = Ledger(ObjectStoragePath(f"{ROOT}/ledger"))
    [file] = ledger.files(SNAPSHOTS, "2026-11")
    key = f"closeai/ledger/{file.name}"
    other = key.replace(f"-{file.run}-", f"-{'b' * 12}-")
    s3.copy_object(Bucket="finance", Key=other, CopySource={"Bucket": "finance", "Key": key})
    assert [each.run for each in ledger.files(SNAPSHOTS, "2026-11")].count("b" * 12) == 1
