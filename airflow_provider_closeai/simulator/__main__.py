"""The simulator as a program: ``python -m airflow_provider_closeai.simulator``."""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Any

from airflow_provider_closeai.simulator.core import Simulator

_HELP = """\
The CloseAI platform, offline. Paste the line above into a shell that runs Airflow.

  discovery  {discovery}
  bases      {bases}

Which bases are there?
  curl -H 'Authorization: Bearer {key}' {discovery}/api/v1/links
Create two sub-accounts:
  curl {base}/api/v1/account/sub-account/token \\
    -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' \\
    -d '{{"alias":"team-a","balance":10,"count":2,"model_pricing":[{{"model":"gpt-4o","pricing_factor":1}}]}}'
Let the next create be done, but its answer be lost:
  curl -d '{{"call":"create","kind":"cut_after"}}' {discovery}/_simulator/faults

Ctrl-C ends it.
"""


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_closeai.simulator", description="The CloseAI platform, offline."
    )
    parser.add_argument("--bases", type=int, default=2, help="how many bases (default: 2)")
    parser.add_argument(
        "--port", type=int, default=0, help="the discovery host's port (default: any free one)"
    )
    parser.add_argument("--seed", type=int, help="make keys, tokens and costs repeatable")
    parser.add_argument(
        "--time-scale", type=float, default=0, help="simulated seconds per second (default: 0)"
    )
    parser.add_argument("--accounts", type=int, default=0, help="sub-accounts that are there at the start")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C or SIGTERM.

    :param arguments: The command line; None is the process's own.
    """
    options = _options(arguments)
    ended = threading.Event()

    def end(*_: Any) -> None:
        ended.set()

    for wanted in (signal.SIGINT, signal.SIGTERM):
        signal.signal(wanted, end)
    try:
        simulator = Simulator(
            options.bases, options.seed, time_scale=options.time_scale, port=options.port
        ).start()
    except (OSError, OverflowError, ValueError) as error:
        print(f"cannot start: {error}", file=sys.stderr)
        return 1
    with simulator:
        for number in range(options.accounts):
            simulator.add_account(f"account-{number + 1:05d}")
        connection = shlex.quote(json.dumps(simulator.connection()))
        print(f"export AIRFLOW_CONN_CLOSEAI_DEFAULT={connection}", flush=True)
        bases = simulator.base_urls
        text = _HELP.format(
            discovery=simulator.discovery_url, bases=" ".join(bases), base=bases[0], key=simulator.key
        )
        print(text, file=sys.stderr, flush=True)
        ended.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
