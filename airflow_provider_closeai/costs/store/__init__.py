"""The ledger's files: names, formats, reading and writing. Internal; uses accounting's structs."""
