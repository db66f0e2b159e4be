"""The kinds of files in a ledger, and their columns, declared once for writing and reading."""

from __future__ import annotations

from datetime import datetime

from airflow_provider_closeai.costs.tables import Column, Constant

#: Complete listings. ``DELETED``: accounts just before they were deleted, with the same columns.
SNAPSHOTS, DELETED = "snapshots", "deleted"
#: The main account's use, as the platform reported it.
CONTROL = "control"
#: Figures of closed months, lines appended to months, and reported alerts.
CLOSED, ADJUSTMENTS, ALERTS = "closed", "adjustments", "alerts"

_OBSERVATION = (
    Column("sub_account_id", "integer"),
    Column("alias"),
    Column("enabled", "flag"),
    Column("balance", "amount", is_required=False),
    Column("monthly_cost", "amount"),
    Column("model_pricing"),
    Column("created_at"),
    Column("user_id", "integer", is_required=False),
)
#: By kind: the name of the column with the file's time, and the other columns.
_KINDS: dict[str, tuple[str, tuple[Column, ...]]] = {
    SNAPSHOTS: ("observed_at", _OBSERVATION),
    DELETED: ("observed_at", _OBSERVATION),
    CONTROL: ("observed_at", (Column("total_used", "amount", "used"),)),
    CLOSED: (
        "closed_at",
        (
            Column("currency"),
            Column("sub_account_id", "integer"),
            Column("alias"),
            Column("team"),
            Column("cost_center"),
            Column("amount", "amount"),
            Column("status"),
            Column("certainty", is_required=False),
            Column("unseen_minutes", "integer", is_required=False),
            Column("shares", is_required=False),
        ),
    ),
    ADJUSTMENTS: (
        "recorded_at",
        (
            Column("currency"),
            Column("sub_account_id", "integer"),
            Column("alias"),
            Column("amount", "amount"),
            Column("source"),
            Column("reason"),
            Column("certainty", is_required=False),
        ),
    ),
    ALERTS: ("raised_at", (Column("team"), Column("threshold"))),
}


def columns_of(kind: str, at: datetime | None = None, month: str = "") -> tuple[Column, ...]:
    """
    Return the columns of a kind of files.

    :param at: the time of the file to write.
    :param month: its billing month.
    """
    time_column, columns = _KINDS[kind]
    return (
        Column(time_column, "time", Constant(at)),
        Column("billing_month", "text", Constant(month)),
        *columns,
    )
