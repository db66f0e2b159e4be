"""What may go wrong, what it proves, and which cells of the matrix meet it."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass, field
from typing import Any

import pytest


class Proof(enum.Enum):
    """What a failure proves; the value is its row in ``docs/recovery.md``."""

    NOT_SENT = "a base cannot be reached"
    UNKNOWN = "no usable answer, and it was not done"
    DONE = "no usable answer, although it was done"
    SHUT_OUT = "a foreign 401 or 403"
    THROTTLED = "429"
    DECLINED = "200 that says no"
    MOVED = "all bases have moved"
    UNREADABLE = "an account that cannot be read"
    MASKED = "a listing that hides keys"
    HARMLESS = "what fails nothing"


CALLS = ("list", "list in a create", "create", "delivery", "update", "delete", "discovery", "health")
"""What a cell breaks; a delivery is a create whose keys go to a sink."""
_ACCOUNT_CALLS = ("list", "create", "update", "delete")
_WRITES = ("create", "update", "delete")
_EVERY = tuple(call for call in CALLS if call != "delivery")
_LATER = ("list in a create", *_WRITES, "discovery")


@dataclass(frozen=True)
class Fault:
    """
    One failure.

    :param proof: what it proves.
    :param kind: the simulator's fault, or a method of the run that strikes.
    :param options: of the simulator's fault.
    :param calls: which calls meet it.
    :param later: which of them meet it in a later try, too.
    :param places: where: ``one``: on the first base, ``all``: on every base.
    :param from_the_first: whether a later try follows a first one that met it too.
    """

    proof: Proof
    kind: str
    options: dict[str, Any] = field(default_factory=dict)
    calls: tuple[str, ...] = _EVERY
    later: tuple[str, ...] = ()
    places: tuple[str, ...] = ("one", "all")
    from_the_first: bool = False


@dataclass(frozen=True)
class Cell:
    """One combination: a fault, in a call, at a place, in the first try or in a later one."""

    fault: str
    call: str
    place: str
    when: str

    @property
    def name(self) -> str:
        return "-".join(astuple(self)).replace(" ", "_")


FAULTS = {
    "refused": Fault(Proof.NOT_SENT, "refuse", later=_LATER),
    "dns": Fault(Proof.NOT_SENT, "unname", calls=(*_ACCOUNT_CALLS, "discovery", "health")),
    "swallowed": Fault(Proof.NOT_SENT, "swallow", later=_LATER),
    "hang": Fault(Proof.UNKNOWN, "hang", later=_LATER),
    "cut_before": Fault(Proof.UNKNOWN, "cut_before", later=_LATER),
    "parked": Fault(Proof.UNKNOWN, "parked", later=_LATER),
    "cut_after": Fault(Proof.DONE, "cut_after", later=_LATER),
    "error_after": Fault(Proof.DONE, "error_after", later=_WRITES),
    "garbage": Fault(Proof.DONE, "garbage", later=_WRITES),
    "late": Fault(
        Proof.DONE, "late", {"seconds": 6}, calls=("create",), later=("create",), from_the_first=True
    ),
    "rate_limit_after": Fault(Proof.THROTTLED, "rate_limit", {"retry_after": 7}, later=_LATER),
    "rate_limit": Fault(Proof.THROTTLED, "rate_limit", later=_WRITES),
    "rate_limit_page": Fault(Proof.THROTTLED, "rate_limit", {"form": "html"}, places=("one",)),
    "no": Fault(Proof.DECLINED, "decline", {"form": "success"}, later=_WRITES, places=("one",)),
    "error_in_200": Fault(Proof.DECLINED, "decline", {"form": "error"}, later=_WRITES, places=("one",)),
    "no_after_a_part": Fault(
        Proof.DECLINED,
        "decline",
        {"made": 1},
        calls=("create",),
        later=("create",),
        places=("one",),
        from_the_first=True,
    ),
    "moved": Fault(
        Proof.MOVED,
        "move",
        calls=("list", "list in a create", *_WRITES, "health"),
        later=("list", "list in a create", *_WRITES),
        places=("all",),
    ),
    "spoiled": Fault(Proof.UNREADABLE, "spoil", calls=_ACCOUNT_CALLS, places=("all",)),
    "masked": Fault(Proof.MASKED, "mask", calls=(*_ACCOUNT_CALLS, "delivery"), places=("all",)),
    "spoiled_other": Fault(Proof.HARMLESS, "spoil_another", calls=_ACCOUNT_CALLS, places=("all",)),
    "bom": Fault(Proof.HARMLESS, "bom", places=("all",)),
    "cut_reused": Fault(
        Proof.HARMLESS, "cut_reused", calls=("list in a create", *_WRITES), later=_WRITES, places=("all",)
    ),
}
for _form in ("html", "json"):
    for _status in (401, 403, 404):
        FAULTS[f"foreign_{_form}_{_status}"] = Fault(
            Proof.UNKNOWN if _status == 404 else Proof.SHUT_OUT,
            "foreign",
            {"form": _form, "status": _status},
            calls=(*_ACCOUNT_CALLS, "discovery", "health"),
        )


def _cells() -> Iterator[Cell]:
    for name, fault in FAULTS.items():
        for call in CALLS:
            if call not in fault.calls:
                continue
            for place in ("all",) if call == "discovery" else fault.places:  # discovery has one host
                yield Cell(name, call, place, "first")
                if call in fault.later:
                    yield Cell(name, call, place, "later")


CELLS = list(_cells())


def halved(cells: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
    """Mark every second cell as slow."""
    for number, cell in enumerate(cells):
        yield pytest.param(*cell, marks=pytest.mark.slow if number % 2 else ())
