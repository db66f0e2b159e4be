"""The ledger's files: names, formats, reading and writing. Internal; it knows the structs of accounting."""
