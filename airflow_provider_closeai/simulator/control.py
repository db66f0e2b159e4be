"""The control interface of the discovery host, for other processes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow_provider_closeai.simulator.answers import Answer, Refusal, encode
from airflow_provider_closeai.simulator.values import dumps, hide, stamp

if TYPE_CHECKING:
    from airflow_provider_closeai.simulator.core import Simulator

PREFIX = "/_simulator/"


class Control:
    """Does over HTTP what a test does in Python.

    :param simulator: The simulator.
    """

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self._actions: dict[tuple[str, str], Callable[[dict[str, Any]], Any]] = {
            ("GET", "state"): self._state,
            ("GET", "requests"): self._requests,
            ("POST", "faults"): self._fault,
            ("DELETE", "faults"): self._clear,
            ("POST", "clock"): self._clock,
            ("POST", "bases"): self._bases,
            ("POST", "settings"): self._settings,
        }

    def answer(self, method: str, path: str, body: bytes) -> Answer:
        """Do what a control request asks.

        :param method: The HTTP method.
        :param path: The path.
        :param body: A JSON object, or nothing.
        """
        action = self._actions.get((method, path.removeprefix(PREFIX)))
        if action is None:
            known = ", ".join(f"{verb} {PREFIX}{name}" for verb, name in self._actions)
            return Refusal(404, "not_found", f"the controls are {known}").answer()
        try:
            result = action(dict(json.loads(body or b"{}")))
        except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
            return Refusal(400, "invalid_control", hide(str(error))).answer()
        return Answer(200, encode(hide(dumps(result))))

    def _state(self, fields: dict[str, Any]) -> Any:
        accounts = self._simulator.accounts()
        for account in accounts:
            del account["token"]
        return {
            "accounts": accounts,
            "counts": self._simulator.counts(),
            "clock": stamp(self._simulator.clock.now()),
        }

    def _requests(self, fields: dict[str, Any]) -> Any:
        return [dataclasses.asdict(request) for request in self._simulator.requests]

    def _fault(self, fields: dict[str, Any]) -> Any:
        self._simulator.fault(**fields)
        return {"success": True}

    def _clear(self, fields: dict[str, Any]) -> Any:
        self._simulator.clear_faults()
        return {"success": True}

    def _clock(self, fields: dict[str, Any]) -> Any:
        self._simulator.clock.advance(seconds=fields.pop("advance_seconds"))
        _nothing_else(fields)
        return {"clock": stamp(self._simulator.clock.now())}

    def _bases(self, fields: dict[str, Any]) -> Any:
        index, up = fields.pop("index"), fields.pop("up")
        _nothing_else(fields)
        if up:
            self._simulator.start_base(index)
        else:
            self._simulator.stop_base(index)
        return {"success": True}

    def _settings(self, fields: dict[str, Any]) -> Any:
        trial = dataclasses.replace(self._simulator.settings)
        for target in (trial, self._simulator.settings):  # all or nothing
            for name, value in fields.items():
                setattr(target, name, value)
        return {"success": True}


def _nothing_else(fields: dict[str, Any]) -> None:
    if fields:
        raise ValueError(f"unknown: {', '.join(fields)}")
