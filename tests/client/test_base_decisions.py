"""The decisions about bases, as tables."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_closeai.client.bases import (
    base_to_use,
    decode_links,
    discovery_wait,
    ordered,
    ranked,
    usable,
)
from airflow_provider_closeai.client.cache import HealthCheckResult
from airflow_provider_closeai.client.models import ApiBase, BaseHealth


@pytest.mark.parametrize(
    ("address", "globs", "admitted"),
    [
        ("https://api.good.example", ["*.good.example"], True),
        ("https://API.Good.Example", ["*.GOOD.example"], True),
        ("https://good.example", ["*.good.example"], False),
        ("https://evilgood.example", ["*.good.example"], False),
        ("https://good.example.evil.example", ["good.example"], False),
        ("https://evil.example/.good.example", ["*.good.example"], False),
        ("https://evil.example?.good.example", ["*.good.example"], False),
        ("https://evil.example#.good.example", ["*.good.example"], False),
        ("https://evil.example\\.good.example", ["*.good.example"], False),
        ("https://evil.example\\@api.good.example", ["*.good.example"], False),
        ("https://evil.example%2f.good.example", ["*.good.example"], False),
        ("https://evil.example .good.example", ["*.good.example"], False),
        ("https://anything.example", [], True),
    ],
)
def test_allowed_hosts(address: str, globs: list[str], admitted: bool) -> None:
    assert bool(usable([ApiBase(address)], globs)) is admitted


@pytest.mark.parametrize(
    "address", ["https://a.example/v1", "https://a.example/api/v1/", "https://a.example"]
)
def test_a_base_that_is_listed_for_openai_clients_is_used_without_v1(address: str) -> None:
    (base,) = usable([ApiBase(address), ApiBase("https://a.example/")], ["a.example"])
    assert base.api == "https://a.example"


@pytest.mark.parametrize("shown", ["sk-MAIN/key", "SK-main%2fKEY", "sk-MA\tIN/key", "sk%252DMAIN%252fkey"])
def test_a_base_that_shows_the_key_is_dropped_however_it_is_written(shown: str) -> None:
    entries = [{"api": f"https://h.example/{shown}"}, {"api": "https://g.example", "desc": shown}]
    kept = [{"api": "https://i.example", "desc": "100%"}]
    content = json.dumps([*entries, *kept]).encode()
    assert [base.api for base in decode_links(content, "sk-MAIN/key")] == ["https://i.example"]


def test_order() -> None:
    bases = [
        ApiBase("https://down", priority=99, status="down"),
        ApiBase("https://low", priority=1),
        ApiBase("https://high", priority=10),
        ApiBase("https://odd", priority=50, status="OK?"),
        ApiBase("https://high2", priority=10),
    ]
    assert [base.api[8:] for base in ranked(bases)] == ["high", "high2", "low", "down", "odd"]
    bad = {"https://high": HealthCheckResult(False, 0, ""), "https://low": HealthCheckResult(True, 0, "")}
    assert [base.api[8:] for base in ordered(bases, bad)] == ["high2", "low", "down", "odd", "high"]
    all_bad = {base.api: HealthCheckResult(False, 0, "") for base in bases}
    assert ordered(bases, all_bad) == ranked(bases)


@pytest.mark.parametrize(
    ("failures", "retry_after", "wait"),
    [
        (1, None, 60),
        (2, None, 120),
        (5, None, 900),
        (500, None, 900),
        (1, 7, 7),
        (9, 0, 900),
        (1, 1e9, 86_400),
    ],
)
def test_discovery_wait(failures: int, retry_after: float | None, wait: float) -> None:
    assert discovery_wait(failures, retry_after) == wait


@pytest.mark.parametrize(
    ("healthy", "require", "use"),
    [
        ("", "any", None),
        ("", "all", None),
        ("10", "any", 0),
        ("01", "any", 1),
        ("00", "any", None),
        ("10", "primary", 0),
        ("01", "primary", None),
        ("00", "primary", None),
        ("11", "all", 0),
        ("10", "all", None),
        ("01", "all", None),
        ("011", "any", 1),
    ],
)
def test_base_to_use(healthy: str, require: Any, use: int | None) -> None:
    healths = [
        BaseHealth(ApiBase(f"https://{rank}"), seen == "1", 0, "") for rank, seen in enumerate(healthy)
    ]
    assert base_to_use(healths, require) == (None if use is None else f"https://{use}")


def test_an_address_that_is_quoted_without_an_end_takes_no_time(caplog: pytest.LogCaptureFixture) -> None:
    """Each layer was taken off by itself: with their number squared, this would take hours."""
    address = "https://x/%" + "25" * 300_000
    content = json.dumps([{"api": address}, {"api": "https://one"}]).encode()
    assert [link.api for link in decode_links(content, "sk-key")] == ["https://one"]
    assert "key in its address" in caplog.text


def test_of_many_entries_that_are_dropped_some_are_told(caplog: pytest.LogCaptureFixture) -> None:
    links = [*({"api": f"ftp://{number}"} for number in range(500)), *[0] * 500, {"api": "https://one"}]
    found = usable(decode_links(json.dumps(links).encode()), [])
    assert [link.api for link in found] == ["https://one"]
    assert len(caplog.messages) == 22
    assert caplog.text.count("490 more like these: dropped") == 2
