"""Which roster of this deployment speaks for which aliases: two files must not own the same one."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import Variable

from airflow_provider_closeai.roster.errors import RosterConflict
from airflow_provider_closeai.roster.models import owner_pattern

if TYPE_CHECKING:
    from airflow_provider_closeai.client.client import CloseAIClient
    from airflow_provider_closeai.roster import Roster

log = logging.getLogger(__name__)

#: Seconds for which a file is remembered after its last run.
_KEPT = 7 * 24 * 3600.0
_RENEWED = 3600.0


def register(client: CloseAIClient, roster: Roster) -> None:
    """
    Note that a file speaks for its aliases, and refuse one that speaks for another's.

    Mappings have no name by which an edit could be told from a second roster: they are not compared.

    :param client: of the main account.
    :param roster: from a file.
    :raises RosterConflict: naming the other file. Nothing was changed.
    """
    name = roster.name.removeprefix("roster ")
    if name == "roster":
        return
    name = name if "://" in name else os.path.realpath(os.path.expanduser(name))
    key, now = f"closeai_rosters_{client.cache.name}", client.clock.now()
    known = _read(key)
    if known is None:
        log.debug("It is not known which rosters there are.")
        return
    others = {each: one for each, one in known.items() if each != name and now - one["at"] < _KEPT}
    for other, one in others.items():
        owns = tuple(one["owns"])
        if owns != roster.owns or one["aliases"] != sorted(roster.entries):  # a copy is the same roster
            _check(roster, name, other, owns, one["aliases"], key)
    mine = {"owns": list(roster.owns), "aliases": sorted(roster.entries), "at": now}
    before = known.get(name)
    if before is None or {**before, "at": now} != mine or now - before["at"] > _RENEWED:
        with contextlib.suppress(Exception):  # unwritten, the next run tries again
            Variable.set(key, json.dumps({**others, name: mine}))


def _check(
    roster: Roster, name: str, other: str, owns: tuple[str, ...], aliases: list[str], key: str
) -> None:
    is_theirs, is_ours = owner_pattern(owns).match, owner_pattern(roster.owns).match
    both = [alias for alias in [*roster.entries, *owns] if is_theirs(alias) and is_ours(alias)]
    both += [alias for alias in [*aliases, *roster.owns] if is_theirs(alias) and is_ours(alias)]
    if both:
        raise RosterConflict(
            f"The rosters {name} and {other} both own {both[0]!r}. Nothing was changed. Narrow owns in one "
            f"of them. If {other} is not used any more, delete the Variable {key}, or wait: it is forgotten "
            "7 days after its last run."
        )


def _read(key: str) -> dict[str, Any] | None:
    """Return what is written; ``None`` where nobody can say, so that nothing is written over it."""
    try:
        text = Variable.get(key, None)
        if text is None and hasattr(Variable, "keys") and key in Variable.keys(key):
            return None  # Airflow calls an outage absence; `keys` asks the database alone, and raises
    except Exception:  # outside of Airflow, or in an outage
        return None
    try:
        found = json.loads(text or "{}")
        return {name: one for name, one in found.items() if {"owns", "aliases", "at"} <= one.keys()}
    except (ValueError, AttributeError):  # not what was written here
        return {}
