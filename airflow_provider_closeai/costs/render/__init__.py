"""A report as files: page, tables, JSON, FOCUS. The caller opens the files. Internal."""
