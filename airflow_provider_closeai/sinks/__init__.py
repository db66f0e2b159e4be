"""Where new keys go: ``CreateSubAccountsOperator(deliver_to=...)``. Imports nothing at parse time."""
