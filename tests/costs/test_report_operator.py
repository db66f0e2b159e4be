"""The report's operator: parameters, refusals, notifiers, second runs. Whole months: test_three_months.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException, BaseNotifier
from books import Book, Clock, local
from tasks import context_of, report_operator, snapshot

from airflow_provider_closeai.simulator import Simulator


def test_a_report_that_comes_after_the_turn(sim: Simulator, clock: Clock, tmp_path: Path) -> None:
    clock.at = local("11-30 23:58")
    snapshot(tmp_path)
    clock.at = local("12-01 00:01")
    with pytest.raises(AirflowFailException, match="no usable snapshot of 2026-12"):
        report_operator(tmp_path).execute(context_of())
    record = report_operator(tmp_path, month=" latest ").execute(context_of())
    assert (record["billing_month"], record["status"]) == ("2026-11", "estimated")


def test_a_snapshot_of_a_host_whose_clock_is_ahead_stops_no_report(
    sim: Simulator, clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for at in ("11-24 09:00", "12-24 09:00", "11-25 09:00"):
        clock.at = local(at)
        snapshot(tmp_path, context_of(at))
    record = report_operator(tmp_path, month="latest").execute(context_of())
    assert record["billing_month"] == "2026-11"
    assert "is of 2026-12, which has not begun" in caplog.text


def test_a_run_that_is_cleared_later_closes_its_own_month(
    sim: Simulator, clock: Clock, tmp_path: Path
) -> None:
    for at in ("11-30 23:58", "12-31 23:58"):
        clock.at = local(at)
        snapshot(tmp_path, context_of(at))
    close = report_operator(tmp_path, month="previous", close="even if uncertain")
    record = close.execute(context_of(data_interval_end=local("12-01 00:05")))
    assert (record["billing_month"], record["closed"]) == ("2026-11", True)


def test_owners_and_budgets_from_files(sim: Simulator, clock: Clock, tmp_path: Path) -> None:
    snapshot(tmp_path)
    (tmp_path / "owners.csv").write_text("alias,team,cost_center\nsearch.*,Search,CC-1\n")
    (tmp_path / "budgets.yaml").write_text("Search: 12.00000001\n")
    operator = report_operator(
        tmp_path, owners=str(tmp_path / "owners.csv"), budgets=str(tmp_path / "budgets.yaml")
    )
    result = operator.execute(context_of())
    assert [alert["threshold"] for alert in result["alerts"]] == ["80%", "100%"]
    assert result["files"] == {"json": str(tmp_path / "out/closeai-costs-2026-11.json")}
    found = json.loads(Path(result["files"]["json"]).read_text())
    assert found["owners"][0]["cost_center"] == "CC-1"
    assert json.loads(json.dumps(result)) == result
    operator.owners = str(tmp_path / "gone.csv")
    with pytest.raises(AirflowFailException, match=r"owners: the file .*gone.csv cannot be read"):
        operator.execute(context_of())


class Notifier(BaseNotifier):
    template_fields = ("text",)

    def __init__(
        self,
        text: str = "{{ closeai_alerts | length }} alerts of {{ closeai_report.billing_month }}",
        *,
        is_broken: bool = False,
    ) -> None:
        super().__init__()
        self.text = text
        self.is_broken = is_broken
        self.told: list[str] = []

    def notify(self, context: Any) -> None:
        if self.is_broken:
            raise OSError("no mail server")
        self.told.append(self.text)


def test_notifiers_are_told_once(sim: Simulator, clock: Clock, tmp_path: Path) -> None:
    snapshot(tmp_path)
    notifier = Notifier()
    operator = report_operator(tmp_path, owners={"*": "A"}, budgets={"A": 10}, notifiers=notifier)
    operator.execute(context_of("first"))
    operator.execute(context_of("second"))
    assert notifier.told == ["2 alerts of 2026-11"]


def test_notifiers_may_get_every_report(sim: Simulator, clock: Clock, tmp_path: Path) -> None:
    snapshot(tmp_path)
    notifier = Notifier("{{ closeai_alerts | length }} alerts; {{ closeai_digest }}")
    operator = report_operator(tmp_path, notifiers=notifier, notify_on="report")
    for run_id in ("a", "b"):
        operator.execute(context_of(run_id))
    assert len(notifier.told) == 2
    assert notifier.told[0].startswith("0 alerts; CloseAI costs, November 2026 (open)\n")
    assert "cost 12.0000 CNY" in notifier.told[0]
    with pytest.raises(AirflowFailException, match="notify_on: 'never' is not one of alerts, report"):
        report_operator(tmp_path, notify_on="never").execute(context_of())


def test_a_broken_notifier_keeps_no_other_from_being_told(
    sim: Simulator, clock: Clock, tmp_path: Path
) -> None:
    snapshot(tmp_path)
    good, broken = Notifier(), Notifier(is_broken=True)
    operator = report_operator(tmp_path, owners={"*": "A"}, budgets={"A": 10}, notifiers=[broken, good])
    told = r"Notifier: no mail server.*a retry, or the next report, sends them again"
    with pytest.raises(RuntimeError, match=told):
        operator.execute(context_of())
    assert good.told == ["2 alerts of 2026-11"]
    assert (tmp_path / "out/closeai-costs-2026-11.json").exists()
    broken.is_broken = False
    for run_id in ("next", "after"):
        operator.execute(context_of(run_id))
    assert broken.told == ["2 alerts of 2026-11"], "what could not be told is told by the next run, once"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"month": "2027-05"}, "month: 2027-05 is in the future"),
        ({"month": "2026-09"}, "holds no usable snapshot of 2026-09"),
        ({"currency": "RMB"}, "For the renminbi that is CNY"),
        ({"formats": "pdf"}, "formats: 'pdf'"),
        ({"time_zone": "Mars"}, "there is no zone 'Mars'"),
        ({"thresholds": ["much"]}, "thresholds: 'much'"),
        ({"ledger": None}, "ledger: it is empty"),
        ({"formats": 5}, "formats: none given"),
        ({"final_within": "soon"}, "final_within: 'soon' is neither a timedelta"),
        ({"final_within": -15}, "final_within: -15 is neither a timedelta"),
        ({"final_within": "inf"}, "final_within: 'inf' is neither a timedelta"),
        ({"close": "perhaps"}, "close is 'perhaps'"),
        ({"ledger": ""}, "ledger: it is empty"),
        ({"close": True}, "2026-11 is not over"),
        ({"budgets": [{"team": "A", "budget": 1, "currency": "USD"}]}, "is in USD"),
        ({"billed_cost": "half"}, "billed_cost: 'half'"),
    ],
)
def test_wrong_parameters_are_not_tried_again(
    sim: Simulator, clock: Clock, tmp_path: Path, options: dict[str, Any], told: str
) -> None:
    snapshot(tmp_path)
    operator = report_operator(tmp_path)
    for name, value in options.items():
        setattr(operator, name, value)
    with pytest.raises(AirflowFailException, match=told):
        operator.execute(context_of())


def test_object_storage(sim: Simulator, clock: Clock, book: Book, tmp_path: Path) -> None:
    """A file:// ledger is the same as its folder."""
    snapshot(tmp_path)
    operator = report_operator(
        tmp_path, output=(tmp_path / "out").as_uri(), formats="html,csv,json,focus,focus-csv", statements=True
    )
    operator.ledger = (tmp_path / "ledger").as_uri()
    files = operator.execute(context_of())["files"]
    written = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(written) == len(files) == 10


def test_a_second_run_gives_the_same_result(sim: Simulator, clock: Clock, tmp_path: Path) -> None:
    """Clear and re-run, two reports, a close run twice: the same JSON where nothing changed."""
    clock.at = local("11-24 09:00")
    snapshot(tmp_path)
    options = {"owners": {"*": "A", "old.*": "B"}, "budgets": {"A": 10}, "formats": "html,csv,json,focus"}
    report = report_operator(tmp_path, **options)
    first = report.execute(context_of())
    clock.at = local("11-24 10:00")
    assert report.execute(context_of()) == first
    assert {**report.execute(context_of("other")), "alerts": first["alerts"]} == first
    assert report.execute(context_of("other"))["alerts"] == [], "told by the first run"
    clock.at = local("12-01 00:05")
    close = report_operator(
        tmp_path, month="previous", close="even if uncertain", **{**options, "thresholds": ()}
    )
    due: dict[str, Any] = {"data_interval_end": local("12-01 00:05")}
    first = close.execute(context_of("close", **due))
    clock.at = local("12-20 00:05")
    for run_id in ("close", "backfilled"):
        assert close.execute(context_of(run_id, **due)) == first
    assert len(list((tmp_path / "ledger/closed").rglob("*.csv"))) == 1
    assert not (tmp_path / "ledger/adjustments").exists()


def test_a_month_of_which_nothing_is_known_is_not_closed(
    sim: Simulator, clock: Clock, tmp_path: Path
) -> None:
    """The first unpause of a close in the middle of a month."""
    clock.at = local("11-24 09:00")
    snapshot(tmp_path)
    close = report_operator(tmp_path, month="previous", close="even if uncertain")
    with pytest.raises(AirflowSkipException, match="has nothing of 2026-10: there is nothing to close"):
        close.execute(context_of(data_interval_end=local("11-01 00:05")))
    assert not (tmp_path / "out").exists()
    close.month = "2026-10"
    with pytest.raises(AirflowFailException, match="no usable snapshot of 2026-10"):
        close.execute(context_of())


def test_a_report_that_a_snapshot_started_must_find_it(sim: Simulator, clock: Clock, tmp_path: Path) -> None:
    with pytest.raises(AirflowFailException, match="holds no usable snapshot"):
        report_operator(tmp_path, month="latest").execute(context_of(kind="asset_triggered"))
