"""``python -m airflow_provider_closeai.roster export`` and ``check``, for people, before any DAG."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from airflow_provider_closeai.client.errors import CloseAIError, ConfigError
from airflow_provider_closeai.client.models import SubAccount, UnreadableItem
from airflow_provider_closeai.roster.export import export
from airflow_provider_closeai.roster.reading import read_roster


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run a command.

    :returns: the exit status.
    """
    parser = argparse.ArgumentParser(prog="python -m airflow_provider_closeai.roster", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    writing = commands.add_parser(
        "export", help="write a roster of the accounts that are there, without keys"
    )
    writing.add_argument("--conn-id", default="closeai_default", help="the Airflow connection")
    writing.add_argument("--output", "-o", type=Path, help="a new file; default: standard output")
    checking = commands.add_parser("check", help="check a file; nothing is asked of the platform")
    checking.add_argument("file")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    try:
        return _check(given.file) if given.command == "check" else _export(given.conn_id, given.output)
    except CloseAIError as error:
        print(error, file=sys.stderr)
    except FileExistsError as error:
        print(
            f"{error.filename} is there already: give another --output. Nothing was written.", file=sys.stderr
        )
    except OSError as error:
        print(f"--output cannot be written: {error}.", file=sys.stderr)
    return 1


def _check(file: str) -> int:
    roster = read_roster(file)
    now = datetime.now(UTC)
    wanted = sum(0 if entry.is_expired(now) else entry.count for entry in roster.entries.values())
    print(f"{file}: {len(roster.entries)} aliases, {wanted} sub-accounts wanted.")
    return 0


def _export(conn_id: str, output: Path | None) -> int:
    # As Airflow's own commands do, to find the connections in its database outside of a task.
    os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
    from airflow.providers.common.compat.sdk import AirflowNotFoundException

    from airflow_provider_closeai.hooks.closeai import CloseAIHook

    with contextlib.redirect_stdout(sys.stderr):  # Airflow 2 logs to standard output, where the roster goes
        try:
            client = CloseAIHook(conn_id).get_conn()
        except AirflowNotFoundException as error:
            raise ConfigError(
                f"{error}. Give another --conn-id, or make it: see docs/connection.md."
            ) from None
        items = list(client.iter_listing())
    text = export(
        [item for item in items if isinstance(item, SubAccount)],
        [item for item in items if isinstance(item, UnreadableItem)],
    )
    if output is None:
        print(text, end="")
        return 0
    with output.open("x", encoding="utf-8") as file:
        file.write(text)
    print(f"{output}: {len(items)} sub-accounts.", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
