"""Defaults of the cost requests and operators, each once. DAG files import this, not costs/."""

from __future__ import annotations

from datetime import timedelta

#: The platform does not state where its billing month turns; it writes its times in +08:00.
TIME_ZONE = "Asia/Shanghai"
FILE_FORMAT = "csv"
#: How long after its due time a snapshot may still be recorded.
MAX_LAG = timedelta(hours=6)
FORMATS = ("html", "csv", "json")
#: Shares of a budget at which to alert.
THRESHOLDS = ("80%", "100%", "forecast 100%")
#: How close to the month's end the last snapshot must be for final figures.
FINAL_WITHIN = timedelta(minutes=15)
ACCOUNT = "CloseAI"
BILLED_COST = "effective"
#: When to call notifiers: ``alerts`` or ``report``.
NOTIFY_ON = "alerts"
