"""The question of Airflow's own approval, as a person answers it, over REST."""

from __future__ import annotations

import re
from typing import Any

from deployment import Run, wait_until

WAITING = ("awaiting_input", "deferred")


class Question:
    """What one run asks, again where its approval is cleared."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._path = f"{run.path}/taskInstances/approve/-1/hitlDetails"
        self._passes = 0

    def wait(self) -> None:
        """Wait until it is asked."""
        wait_until(lambda: self.run.task("approve")["state"] in WAITING, "the question")
        # A person is slower than the scheduler: it takes what it learns after the answer for a failure.
        self._passes += 1
        wait_until(lambda: self._seen_ends() >= self._passes, "the scheduler knows")

    def text(self) -> str:
        detail: dict[str, Any] = self.run.airflow.get(self._path)
        return str(detail["body"])

    def answer(self, option: str = "Approve") -> int:
        """Answer it; gives the status."""
        body = {"chosen_options": [option], "params_input": {}}
        status = self.run.airflow.call("PATCH", self._path, body).status_code
        self._passes += status == 200
        return status

    def _seen_ends(self) -> int:
        """Count how often the scheduler has seen a process of the approval end."""
        log = (self.run.airflow.home / "scheduler.log").read_text(errors="replace")
        event = r"Received executor event with state success for task instance .*?task_id='approve', run_id='"
        return len(re.findall(event + re.escape(self.run.run_id), log))
