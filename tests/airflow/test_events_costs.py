"""Events of costs: each alert that a report raises is told, and an old one is never news."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from watches import alert, stream_of, told

from airflow_provider_closeai.triggers.events import CostAlertTrigger

pytestmark = pytest.mark.usefixtures("database", "variables")


def test_alerts_are_told_when_a_report_has_raised_them(tmp_path: Path) -> None:
    trigger = CostAlertTrigger(tmp_path / "ledger")
    ledger = tmp_path / "ledger"
    alert(ledger, "1", ("Search", "80%"))

    def more() -> None:
        alert(ledger, "2", ("Search", "100%"), ("Ads", "80%"))
        alert(ledger, "3", ("Ads", "forecast 100%"), month="2026-12")

    seen = stream_of(trigger, 4, lambda: None, more)
    first = [
        {"billing_month": "2026-11", "team": "Search", "threshold": "100%"},
        {"billing_month": "2026-11", "team": "Ads", "threshold": "80%"},
        {"billing_month": "2026-12", "team": "Ads", "threshold": "forecast 100%"},
    ]
    assert told(trigger, seen) == [None, None, {"ledger": str(ledger), "alerts": first}, None]
    assert told(trigger, seen[-1:]) == [None], "not again after a restart"


def test_a_ledger_that_is_out_of_reach_for_a_look_is_no_news(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = tmp_path / "ledger"
    alert(ledger, "1", ("Search", "80%"))
    trigger = CostAlertTrigger(ledger)
    seen = stream_of(
        trigger, 3, lambda: ledger.rename(tmp_path / "away"), lambda: (tmp_path / "away").rename(ledger)
    )
    assert told(trigger, seen) == [None] * 3
    assert caplog.text.count("does this triggerer reach it") == 1


def test_a_folder_that_is_not_there_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    there, missing = tmp_path / "there", tmp_path / "missing"
    there.mkdir()
    for ledger in (there, missing):
        assert told(CostAlertTrigger(ledger), [[], []]) == [None, None]
    assert caplog.text.count("does this triggerer reach it") == 1
    assert str(missing) in caplog.text


def test_an_older_month_is_no_news_when_a_newer_one_vanishes(tmp_path: Path) -> None:
    ledger, away = tmp_path / "ledger", tmp_path / "away"
    for month in ("2026-09", "2026-10", "2026-11"):
        alert(ledger, "1", ("Search", "80%"), month=month)
    newest = ledger / "alerts/billing_month=2026-11"

    def back_with_news() -> None:
        away.rename(newest)
        alert(ledger, "2", ("Ads", "80%"), month="2026-08")
        alert(ledger, "3", ("Ads", "80%"), month="2026-10")

    trigger = CostAlertTrigger(ledger)
    seen = stream_of(trigger, 3, lambda: newest.rename(away), back_with_news)
    assert "2026-09" in str(seen[1])
    news = {"billing_month": "2026-10", "team": "Ads", "threshold": "80%"}
    assert told(trigger, seen) == [None, None, {"ledger": str(ledger), "alerts": [news]}]


def test_an_alert_after_the_very_first_look_is_told_by_the_next_watch(tmp_path: Path) -> None:
    trigger = CostAlertTrigger(tmp_path)
    seen = stream_of(trigger, 2, lambda: alert(tmp_path, "1", ("Search", "100%")))
    assert told(trigger, seen[:1]) == [None]
    assert told(trigger, seen[1:])[0]["alerts"][0]["team"] == "Search"


@pytest.mark.parametrize(("poke_interval", "unsure"), [(1, ["Search", "Ads"]), (300, ["Ads"])])
def test_only_alerts_that_airflow_may_not_have_stored_yet_are_told_again(
    tmp_path: Path, poke_interval: float, unsure: list[str]
) -> None:
    trigger = CostAlertTrigger(tmp_path, poke_interval)
    raised = [partial(alert, tmp_path, run, (team, "80%")) for run, team in (("1", "Search"), ("2", "Ads"))]
    seen = stream_of(trigger, 3, *raised)
    teams = [
        [line["team"] for line in payload["alerts"]] if payload else None for payload in told(trigger, seen)
    ]
    assert teams == [None, ["Search"], ["Ads"]]
    again, *nothing = told(trigger, [seen[2]] * 7)
    assert [line["team"] for line in again["alerts"]] == unsure
    assert nothing == [None] * 6
    assert told(trigger, seen[2:]) == [None]


def test_the_first_alert_of_a_ledger_is_told(tmp_path: Path) -> None:
    trigger = CostAlertTrigger(tmp_path)
    seen = stream_of(trigger, 2, lambda: alert(tmp_path, "1", ("Search", "100%")))
    assert told(trigger, seen)[1]["alerts"][0]["threshold"] == "100%"


def test_a_damaged_file_of_alerts_holds_up_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trigger = CostAlertTrigger(tmp_path)

    def raise_two() -> None:
        alert(tmp_path, "1", ("Search", "100%"))
        alert(tmp_path, "2", ("Ads", "100%"))
        file = min(tmp_path.glob("alerts/*/*"))
        file.write_text(file.read_text() + "more")

    seen = stream_of(trigger, 2, raise_two)
    assert [line["team"] for line in told(trigger, seen)[1]["alerts"]] == ["Ads"]
    assert "damaged" in caplog.text


def test_a_file_that_is_half_copied_is_told_once_it_is_whole(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trigger = CostAlertTrigger(tmp_path)
    alert(tmp_path, "1", ("Search", "80%"))
    first = stream_of(trigger, 1)
    alert(tmp_path, "2", ("Ads", "80%"))
    (path,) = (tmp_path / "alerts/billing_month=2026-11").glob("*-222222222222-*")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    alert(tmp_path, "3", ("Web", "80%"))
    later = stream_of(trigger, 3)

    def seen() -> Iterator[Any]:
        yield from (*first, *later[:2])
        path.write_bytes(whole)
        yield from later[1:]

    teams = [[each["team"] for each in news["alerts"]] if news else [] for news in told(trigger, seen())]
    assert teams == [[], ["Web"], [], ["Ads"], []]
    assert "is damaged" in caplog.text
