"""The simulator as a program: ``python -m airflow_provider_closeai.simulator``."""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import sys
from collections.abc import Sequence
from datetime import datetime

from airflow_provider_closeai.simulator.core import Simulator
from airflow_provider_closeai.simulator.values import ZONE

_HELP = """\
The CloseAI platform, offline. Paste the line above into a shell that runs Airflow.

  discovery  {discovery}
  bases      {bases}
  clock      {clock}, {speed}
  state      {state}

Which bases are there?
  curl -H 'Authorization: Bearer {key}' {discovery}/api/v1/links
Create two sub-accounts:
  curl {base}/api/v1/account/sub-account/token \\
    -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' \\
    -d '{{"alias":"team-a","balance":10,"count":2,"model_pricing":[{{"model":"gpt-4o","pricing_factor":1}}]}}'
Let the next create be done, but its answer be lost:
  curl -d '{{"call":"create","kind":"cut_after"}}' {discovery}/_simulator/faults
What else can be done to it?
  curl {discovery}/_simulator/

Ctrl-C ends it.
"""


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_closeai.simulator", description="The CloseAI platform, offline."
    )
    parser.add_argument("--bases", type=int, default=2, help="how many bases (default: 2)")
    parser.add_argument(
        "--port",
        type=int,
        default=0,
        help="the discovery host's port; the bases take the next ones (default: any free ones, or those that "
        "the state file remembers)",
    )
    parser.add_argument(
        "--state", metavar="FILE", help="keep accounts, money, ids, keys, ports and the clock in this file"
    )
    parser.add_argument(
        "--speed", type=float, default=1, help="simulated seconds per second (default: 1, from now on)"
    )
    parser.add_argument("--seed", type=int, help="make keys, tokens and costs of a new state repeatable")
    parser.add_argument("--accounts", type=int, default=0, help="sub-accounts that a new state has")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C or SIGTERM.

    :param arguments: The command line; None is the process's own.
    """
    options = _options(arguments)
    ends = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)  # they stay pending until sigwait
    try:
        simulator = Simulator(
            options.bases,
            options.seed,
            start=datetime.now(ZONE),
            speed=options.speed,
            port=options.port,
            state=options.state,
        )
        if not simulator.restored:
            for number in range(options.accounts):
                simulator.add_account(f"account-{number + 1:05d}")
        simulator.start()
    except (OSError, ValueError) as error:
        print(f"cannot start: {error}", file=sys.stderr)
        return 1
    with simulator:
        connection = shlex.quote(json.dumps(simulator.connection()))
        print(f"export AIRFLOW_CONN_CLOSEAI_DEFAULT={connection}", flush=True)
        print(_help(simulator, options), file=sys.stderr, flush=True)
        signal.sigwait(ends)
    return 0


def _help(simulator: Simulator, options: argparse.Namespace) -> str:
    speed = f"{options.speed:g} times as fast as yours"
    state = "only in memory: --state FILE keeps it over restarts"
    if options.state:
        state = f"{options.state}, {len(simulator.accounts())} accounts"
    return _HELP.format(
        discovery=simulator.discovery_url,
        bases=" ".join(simulator.base_urls),
        base=simulator.base_urls[0],
        clock=f"{simulator.clock.now():%Y-%m-%d %H:%M} +08:00",
        speed={0: "stands still", 1: "runs as yours does"}.get(options.speed, speed),
        state=state,
        key=simulator.key,
    )


if __name__ == "__main__":
    sys.exit(main())
