"""Keeps the processes of one Airflow, and ends all of them when whoever started it goes, however it goes.

Usage: keeper.py FILE [--restart]     FILE is JSON: a list of {"name", "command"}. Closing standard input is
the end. With --restart a process that exits is started again.

Airflow's task processes have process groups of their own, so that a signal to one group does not reach them
all. They do share this process's session, and orphans become its children.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import psutil

PR_SET_CHILD_SUBREAPER = 36
GRACE = 3  # seconds between SIGTERM and SIGKILL


def ours() -> list[psutil.Process]:
    me, session = os.getpid(), os.getsid(0)
    found = set(psutil.Process().children(recursive=True))
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if process.pid != me and os.getsid(process.pid) == session:
                found.add(process)
    return list(found)


def end() -> None:
    for each in (signal.SIGTERM, signal.SIGKILL):
        processes = ours()
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(each)
        psutil.wait_procs(processes, timeout=GRACE)


def bury_orphans(but: set[int]) -> None:
    """Take leave of adopted processes that have ended."""
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if child.pid not in but and child.status() == psutil.STATUS_ZOMBIE:
                os.waitpid(child.pid, os.WNOHANG)


def start(name: str, command: list[str]) -> subprocess.Popen[bytes]:
    with open(f"{name}.log", "ab") as output:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)


def main() -> None:
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for pytest, which then closes the pipe
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    try:
        plan = {part["name"]: part["command"] for part in json.loads(Path(sys.argv[1]).read_text())}
        running = {name: start(name, command) for name, command in plan.items()}
        while not select.select([sys.stdin], [], [], 0.5)[0]:
            if "--restart" in sys.argv:
                for name, process in running.items():
                    if process.poll() is not None:
                        running[name] = start(name, plan[name])
            bury_orphans({process.pid for process in running.values()})
    finally:
        end()


if __name__ == "__main__":
    main()
