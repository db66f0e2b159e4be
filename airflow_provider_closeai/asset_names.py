"""Names of this package's assets, by which the page in Airflow's UI finds what tasks have published."""

from __future__ import annotations

#: A connection's assets: the accounts that a roster changed, the bases' health, the plan that was made.
CONNECTION_URI = "closeai://{closeai_conn_id}/{what}"
ACCOUNTS, HEALTH, PLAN = "accounts", "health", "plan"
#: The start of the name of a cost folder's asset.
COSTS_TITLE = "CloseAI costs: "
