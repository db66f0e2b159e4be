"""The control interface of the discovery host, for other processes and for curl."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from airflow_provider_closeai.simulator.answers import Answer, Refusal, encode
from airflow_provider_closeai.simulator.clock import Clock
from airflow_provider_closeai.simulator.log import Request
from airflow_provider_closeai.simulator.options import Check, checked, flag, maybe, span, text, whole_number
from airflow_provider_closeai.simulator.settings import Settings
from airflow_provider_closeai.simulator.values import dumps, hide, stamp

PREFIX = "/_simulator/"
_DONE = {"success": True}


class Simulator(Protocol):
    """What is controlled; :class:`.core.Simulator` imports this module, not vice versa."""

    clock: Clock
    settings: Settings

    @property
    def requests(self) -> list[Request]: ...
    def accounts(self) -> list[dict[str, Any]]: ...
    def counts(self) -> dict[str, int]: ...
    def fault(self, call: str, kind: str, **options: Any) -> object: ...
    def clear_faults(self) -> None: ...
    def start_base(self, index: int) -> None: ...
    def stop_base(self, index: int) -> None: ...
    def swallow_base(self, index: int) -> None: ...
    def move_bases(self) -> None: ...
    def spoil(self, account_id: int, field: str, raw: str | None) -> None: ...


Fields = dict[str, Any]


def _read(body: bytes) -> Fields:
    try:
        found = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        raise ValueError("the body is not JSON") from None
    if not isinstance(found, dict):
        raise ValueError("the body must be a JSON object")  # noqa: TRY004
    return found


def _taken(fields: Fields, **checks: Check) -> list[Any]:
    """Return the values of all fields, in the order of their checks."""
    for name in checks:
        if name not in fields:
            raise ValueError(f"{name} is missing")
    if unknown := [name for name in fields if name not in checks]:
        raise ValueError(f"there is no field {', '.join(unknown)}")
    return [checked(name, check, fields[name]) for name, check in checks.items()]


class Control:
    """Does over HTTP what tests do in Python."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator

    def answer(self, method: str, path: str, body: bytes) -> Answer:
        """Execute a control request.

        :param body: A JSON object, or nothing.
        """
        actions = [action for action in ACTIONS if action.path.rstrip("/") == path.rstrip("/")]
        if not actions:
            known = ", ".join(dict.fromkeys(action.path for action in ACTIONS))
            return Refusal(404, "not_found", f"there is no {path}; the controls are {known}").answer()
        action = next((each for each in actions if each.method == method), None)
        if action is None:
            allowed = ", ".join(each.method for each in actions)
            refusal = Refusal(405, "method_not_allowed", f"use {allowed} here", {"Allow": allowed})
            return refusal.answer()
        try:
            fields = _read(body)
            if not action.body:
                _taken(fields)
            result = action.do(self._simulator, fields)
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            message = f"{str(error.args[0]).rstrip('.')}. {action}"
            return Refusal(400, "invalid_control", hide(message)).answer()
        return Answer(200, encode(hide(dumps(_DONE if result is None else result))))


@dataclass(frozen=True)
class Action:
    """One control: ``body`` shows its fields, ``does`` says what it does."""

    method: str
    path: str
    body: str
    does: str
    do: Callable[[Simulator, Fields], Any]

    def __str__(self) -> str:
        return f"{self.method} {self.path} takes {self.body or 'no body'}"


def _help(simulator: Simulator, fields: Fields) -> Any:
    return [
        {name: getattr(action, name) for name in ("method", "path", "body", "does")} for action in ACTIONS
    ]


def _state(simulator: Simulator, fields: Fields) -> Any:
    accounts = simulator.accounts()
    for account in accounts:
        del account["token"]
    return {"accounts": accounts, "counts": simulator.counts(), "clock": stamp(simulator.clock.now())}


def _requests(simulator: Simulator, fields: Fields) -> Any:
    return [dataclasses.asdict(request) for request in simulator.requests]


def _fault(simulator: Simulator, fields: Fields) -> None:
    named: Fields = {name: fields.pop(name) for name in ("call", "kind") if name in fields}
    call, kind = _taken(named, call=text, kind=text)
    simulator.fault(call, kind, **fields)


def _clear(simulator: Simulator, fields: Fields) -> None:
    simulator.clear_faults()


def _clock(simulator: Simulator, fields: Fields) -> Any:
    [seconds] = _taken(fields, advance_seconds=span)
    simulator.clock.advance(seconds=seconds)
    return {"clock": stamp(simulator.clock.now())}


def _bases(simulator: Simulator, fields: Fields) -> None:
    if "move" in fields:
        _taken(fields, move=_true)
        simulator.move_bases()
    elif "swallow" in fields:
        index, _ = _taken(fields, index=whole_number(0), swallow=_true)
        simulator.swallow_base(index)
    else:
        index, up = _taken(fields, index=whole_number(0), up=flag)
        (simulator.start_base if up else simulator.stop_base)(index)


def _spoil(simulator: Simulator, fields: Fields) -> None:
    account_id, field, raw = _taken(fields, account_id=whole_number(), field=text, raw=maybe(text))
    simulator.spoil(account_id, field, raw)


def _settings(simulator: Simulator, fields: Fields) -> None:
    trial = dataclasses.replace(simulator.settings)
    for target in (trial, simulator.settings):  # all or nothing
        for name, value in fields.items():
            setattr(target, name, value)


def _true(value: Any) -> bool:
    if value is not True:
        raise ValueError("must be true")
    return value


ACTIONS = (
    Action("GET", PREFIX, "", "lists the controls", _help),
    Action("GET", f"{PREFIX}state", "", "shows accounts without keys, requests per call, the clock", _state),
    Action("GET", f"{PREFIX}requests", "", "shows every request so far and what became of it", _requests),
    Action(
        "POST",
        f"{PREFIX}faults",
        '{"call": "create", "kind": "cut_after", "base": null, "times": 1, "skip": 0}, options of the kind',
        "plans a fault",
        _fault,
    ),
    Action("DELETE", f"{PREFIX}faults", "", "forgets all planned faults", _clear),
    Action("POST", f"{PREFIX}clock", '{"advance_seconds": 86400}', "moves the clock forward", _clock),
    Action(
        "POST",
        f"{PREFIX}bases",
        '{"index": 0, "up": false}, {"index": 0, "swallow": true} or {"move": true}',
        "closes or opens a base, lets it swallow connections, or moves all bases to new ports",
        _bases,
    ),
    Action(
        "POST",
        f"{PREFIX}spoil",
        '{"account_id": 1, "field": "token", "raw": "null"}',
        "lists a field as this JSON text; raw null mends it",
        _spoil,
    ),
    Action(
        "POST", f"{PREFIX}settings", '{"list_lag": 2, "mask_tokens": true}', "changes settings", _settings
    ),
)
"""All controls."""
