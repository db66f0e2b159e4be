"""Gives every pytest process an Airflow home of its own, before anything can import Airflow.

Nothing of the machine's own Airflow gets in: neither its settings nor its connections. This file must not
import Airflow, which reads its settings once, at import.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

if "airflow" in sys.modules:
    raise RuntimeError("Airflow was imported before tests/conftest.py could give it a home of its own")

worker = os.environ.get("PYTEST_XDIST_WORKER")
if worker:
    home = Path(os.environ["AIRFLOW_HOME"], worker)  # inside the main process's home, which removes it
    home.mkdir(exist_ok=True)
else:
    home = Path(tempfile.mkdtemp(prefix="closeai-tests-"))

    def remove_home(owner: int = os.getpid()) -> None:
        if os.getpid() == owner:  # a forked task runs this too when it ends
            shutil.rmtree(home, ignore_errors=True)

    atexit.register(remove_home)

for name in [name for name in os.environ if name.startswith(("AIRFLOW_", "_AIRFLOW_"))]:
    del os.environ[name]
os.environ["AIRFLOW_HOME"] = str(home)
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
