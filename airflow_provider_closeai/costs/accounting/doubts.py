"""States the doubts about a month's turns, and what would settle them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from airflow_provider_closeai.costs.accounting.money import format_amount, total
from airflow_provider_closeai.costs.accounting.months import format_ids, format_local
from airflow_provider_closeai.costs.accounting.report_model import OPEN, AccountCosts, Report
from airflow_provider_closeai.costs.accounting.turns import (
    AGAIN,
    CLOSED,
    HIDDEN,
    PARTS,
    REFUND,
    STILL,
    UNSEEN,
    WAITING,
    Turn,
)

_WHY = {
    UNSEEN: "its counter was first seen after the turn, and nobody knows what it showed before",
    WAITING: "its counter has not started again yet as far as anybody looked",
    HIDDEN: "its counter only grew, and its start from 0 may hide between two values",
    AGAIN: "its counter fell more than once around the turn, or rose from below 0",
    PARTS: "its counter fell once, and another part of its start from 0 may hide in growth beside that",
    STILL: "its counter stood still all month, and the use at which it then started again may be of either "
    "month",
    CLOSED: "the month was closed while it was in doubt, and what was settled since is not booked yet",
    REFUND: "its counter fell, and its balance does not show that this was its start from 0, or it was below "
    "0: that may be a refund",
}


def doubts(report: Report, *, of_start: bool = True) -> list[str]:
    """
    Return the doubts about a month's two turns: a sentence for each kind.

    :param of_start: include its first turn.
    """
    found = []
    lasting = lasting_doubts(report)
    for is_start in (True, False) if of_start else (False,):
        by_kind: defaultdict[tuple[str, bool], list[AccountCosts]] = defaultdict(list)
        for line in report.accounts:
            kind = line.start_doubt if is_start else line.end_doubt
            if kind and (kind != UNSEEN or report.status != OPEN):  # else an opening balance shows it
                is_lasting = line.state != "live" if is_start else line.sub_account_id in lasting
                by_kind[kind, is_lasting].append(line)
        name = report.month.name if is_start else report.month.step(1).name
        for (kind, is_lasting), lines in by_kind.items():
            numbers = [line.sub_account_id for line in lines]
            found.append(
                f"In doubt at the turn to {name}: {format_ids(numbers)}: {_WHY[kind]}. {_least(lines)}"
                f"{_settles(report, kind, is_start=is_start, is_lasting=is_lasting)}"
            )
    return [*found, *_suggestions(report)]


def lasting_doubts(report: Report) -> set[int]:
    """Return the accounts whose doubt at the month's end no later value can settle."""
    return {
        line.sub_account_id
        for line in report.accounts
        if line.end_doubt not in ("", CLOSED) and line.history and not line.history.end_may_settle
    }


def _least(lines: Sequence[AccountCosts]) -> str:
    doubtful = total(line.doubtful for line in lines)
    if not doubtful:
        return "What is reported is a lower bound."
    return f"Of what is reported {format_amount(doubtful)} may be another month's; the rest is a lower bound."


def _settles(report: Report, kind: str, *, is_start: bool, is_lasting: bool) -> str:
    if kind == CLOSED:
        return " Closing the month again books the difference."
    if is_start:
        return " Its next use settles it." if kind == WAITING and not is_lasting else ""
    if is_lasting:
        return " No later snapshot settles it."
    if kind != WAITING:
        return " A later snapshot may settle it."
    closes = format_local(Turn(report.month.end).closes, report.month.zone)
    return f" A snapshot after {closes} settles it; where the counter stands still until then, its next use."


def _suggestions(report: Report) -> Iterator[str]:
    """Report when counters started again, if not at the assumed turn."""
    month, zone = report.month, report.month.zone
    histories = [line.history for line in report.accounts if line.history]
    starts, ends = [one.started for one in histories], [one.fell for one in histories]
    for turn, name, spans in ((month.start, month.name, starts), (month.end, month.step(1).name, ends)):
        fell = [span for span in spans if span]
        closes = Turn(turn).closes  # a later start is a first use, which says nothing of the zone
        elsewhere = [span for span in fell if not span[0] <= turn <= span[1] and span[0] < closes]
        if elsewhere:
            [(most, _)] = Counter(elsewhere).most_common(1)
            first, last = (format_local(at, zone) for at in most)
            yield (
                f"At the turn to {name} {len(elsewhere)} of {len(fell)} counters started again at another "
                f"time than midnight in {zone}, most of them between {first} and {last}. If the platform's "
                "month turns elsewhere, begin a ledger with that zone as time_zone: this one's months are "
                f"those of {zone}."
            )
