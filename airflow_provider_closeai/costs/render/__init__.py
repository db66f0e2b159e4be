"""A report as files: page, tables, JSON, FOCUS. It writes into files that it is given. Internal."""
