"""Runs Python as in a pod: a root that is read-only, nothing shared in /tmp, a home that is not there.

Usage: unshare --mount python pod.py FOLDER KEPT PYTHON_ARGUMENT...

FOLDER is where the pod's own /tmp is made. Folders in KEPT (separated by colons) stay what they are, as
volumes do; the first is read-only, too.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TMP = Path("/tmp")  # noqa: S108


def mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *arguments], check=True)


def enter(folder: Path, kept: list[Path]) -> None:
    """Make this process's mounts those of a pod."""
    mount("--make-rprivate", "/")
    mount("-t", "tmpfs", "pod", folder)
    for path in kept:
        if path.is_relative_to(TMP):
            place = folder / path.relative_to(TMP)
            place.mkdir(parents=True, exist_ok=True)
            mount("--bind", path, place)
    mount("--rbind", folder, TMP)
    for path in (Path("/"), kept[0]):
        if path.is_mount():
            mount("-o", "remount,bind,ro", path)


def main() -> None:
    folder, kept, *arguments = sys.argv[1:]
    paths = [Path(path) for path in kept.split(":")]
    enter(Path(folder), paths)
    os.chdir(paths[0])
    environment = {**os.environ, "HOME": "/nobody/has/this", "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("TMPDIR", None)
    os.execve(sys.executable, [sys.executable, *arguments], environment)  # noqa: S606


if __name__ == "__main__":
    main()
