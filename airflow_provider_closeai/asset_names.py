"""What assets of ours are called: the page in Airflow's UI finds by it what tasks have published."""

from __future__ import annotations

#: Of a connection: the sub-accounts that a roster changed, the bases that were seen, the plan that was made.
CONNECTION_URI = "closeai://{closeai_conn_id}/{what}"
ACCOUNTS, HEALTH, PLAN = "accounts", "health", "plan"
#: Begins the name of a cost folder's asset.
COSTS_TITLE = "CloseAI costs: "
