"""Which room may import what: the client and provisioning need no Airflow and no simulator."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROBE = """
import importlib, pkgutil, sys
sys.modules["airflow"] = None
sys.modules["airflow_provider_closeai.simulator"] = None
room = importlib.import_module("airflow_provider_closeai." + sys.argv[1])
for module in pkgutil.walk_packages(room.__path__, room.__name__ + "."):
    importlib.import_module(module.name)
others = sys.argv[2].split(",")
start = tuple("airflow_provider_closeai." + other for other in others)
print([name for name in sys.modules if name.startswith(start)])
"""


@pytest.mark.parametrize(
    ("room", "others"),
    [
        ("local_state", "client,provisioning,costs,hooks,operators,sensors,triggers"),
        ("client", "provisioning,costs,hooks,operators"),
        ("provisioning", "costs,hooks,operators,sensors,triggers"),
    ],
)
def test_no_airflow_and_only_arrows_that_point_one_way(room: str, others: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROBE, room, others], capture_output=True, text=True, check=False
    )
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
