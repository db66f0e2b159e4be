"""Registers which roster of this deployment owns which aliases: no two may own the same one."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import Variable, conf

from airflow_provider_closeai.hooks.stores import read_variable
from airflow_provider_closeai.local_state.claims import NameStore
from airflow_provider_closeai.provisioning.errors import AliasBusy, NotNoted
from airflow_provider_closeai.provisioning.runner.deployment_lock import DeploymentLock, names_to_lock_with
from airflow_provider_closeai.roster.errors import RosterConflict
from airflow_provider_closeai.roster.models import owner_pattern

if TYPE_CHECKING:
    from airflow_provider_closeai.client.client import CloseAIClient
    from airflow_provider_closeai.roster import Roster

log = logging.getLogger(__name__)

#: Seconds after its last run until a roster is forgotten.
_KEPT = 7 * 24 * 3600.0
_RENEWED = 3600.0
_ALL = "all rosters\n"  # locked as if it were an alias; no alias has a line break
_DATE = r"(?:19|20)\d\d(?P<dash>[-_]?)(?:0[1-9]|1[0-2])(?P=dash)(?:0[1-9]|[12]\d|3[01])"
_HOUR, _SIXTIETH = r"(?:[01]\d|2[0-3])", r"[0-5]\d"
#: A time of day after a date: six digits directly behind it, or separated from it.
_TIME = (
    rf"(?:{_HOUR}{_SIXTIETH}{_SIXTIETH}|"
    rf"[-_.T]{_HOUR}(?P<colon>[-_.:]?){_SIXTIETH}(?:(?P=colon){_SIXTIETH}(?:[.,]\d+)?)?)"
    rf"(?:Z|[-+]{_HOUR}:?{_SIXTIETH})?"
)
#: A folder whose name surely changes with each edit: a full commit id (after git-sync 2's ``rev-``), a date
#: with or without a time of day, also as a ConfigMap in Kubernetes. Whatever may be somebody's name or number
#: is kept: if two rosters were taken for one, each could delete the other's accounts.
_MOVING = re.compile(
    r"(?<!/)/(?:rev-[0-9a-f]{7,64}|(?!\d+/)(?:[0-9a-f]{40}|[0-9a-f]{64})|"
    rf"(?:\.\.)?{_DATE}(?:{_TIME})?)(?=/)"
)
#: Where Airflow keeps a DAG bundle: a folder for each version, and one for the newest.
_IN_BUNDLE = r"/([^/]+)/(?:versions/[^/]+|tracking(?:_repo)?)(?=/)"


def register(client: CloseAIClient, roster: Roster, task: str = "", names: NameStore | None = None) -> None:
    """
    Register a roster as the owner of its aliases; refuse it if another roster owns one of them.

    A file is identified by its path, without the parts that change with each edit, and a mapping by its
    task. Two tasks may have the same roster; after an edit, the first to run is refused until the other has
    run, too.

    :param task: names the task over all its tries; without one, a mapping is not compared.
    :param names: the names that all hosts of the deployment share, if there is such a store.
    :raises RosterConflict: names the other roster. Nothing was changed.
    """
    name = _name_of(roster, task)
    if not name:
        return
    key = f"closeai_rosters_{client.cache.name}"
    news, conflict = _compare(client, roster, name, key)
    if news is not None:
        with _alone(
            client, names_to_lock_with(client, names)
        ):  # two that register at once would not see each other
            news, conflict = _compare(client, roster, name, key)
            if news is not None:
                _write(key, news)
    if conflict is not None:
        raise conflict


def _compare(
    client: CloseAIClient, roster: Roster, name: str, key: str
) -> tuple[dict[str, Any] | None, RosterConflict | None]:
    """Compare a roster with all others; return what to write, if anything, and the conflict, if any."""
    known, now = _read(key), client.clock.now()
    if known is None:
        log.debug("It is not known which rosters there are.")
        return None, None
    others = {each: one for each, one in known.items() if each != name and now - one["at"] < _KEPT}
    mine = {"owns": list(roster.owns), "aliases": sorted(roster.entries), "digest": roster.digest}
    before: dict[str, Any] = known.get(name, {})
    try:
        for other, one in others.items():
            held = {field: one[field] for field in mine}
            if mine not in (held, one.get("wants")):  # several tasks may have the same roster
                _check(roster, name, other, tuple(one["owns"]), one["aliases"], key)
    except RosterConflict as conflict:
        is_known = not before or before.get("wants") == mine
        return (None if is_known else {**others, name: {**before, "wants": mine}}), conflict
    is_known = before == {**mine, "at": before.get("at")} and now - before["at"] <= _RENEWED
    return (None if is_known else {**others, name: {**mine, "at": now}}), None


@contextlib.contextmanager
def _alone(client: CloseAIClient, names: NameStore | None) -> Iterator[None]:
    """Hold the deployment's lock, if it can be had."""
    if names is None:
        yield
        return
    lock = DeploymentLock(client, names, "update", "closeai_rosters")
    try:
        with contextlib.suppress(AliasBusy, NotNoted):
            lock.acquire([_ALL])
        yield
    finally:
        lock.release()


def _name_of(roster: Roster, task: str) -> str:
    """Return the name that identifies a roster over all its edits; empty if it has none."""
    name = roster.name.removeprefix("roster ")
    if name == "roster":  # a mapping
        dag, *_, task_id, index = task.split("/") if task.count("/") >= 3 else ("", "", "")
        # Ids may contain dots, but no slashes.
        return f"of the task {dag}/{task_id}{f'[{index}]' if index.isdecimal() else ''}" if dag else ""
    path = re.sub("^file:(//(localhost)?)?(?=/)", "", name)
    return _steady(path if "://" in path else os.path.realpath(os.path.expanduser(path)))


def _steady(path: str) -> str:
    """Return a path or URL without the parts that change with each edit."""
    root = conf.get("dag_processor", "dag_bundle_storage_path", fallback=None)
    roots = "|".join(["/dag_bundles", *([re.escape(os.path.realpath(root))] if root else [])])
    return _MOVING.sub("", re.sub(f"({roots}){_IN_BUNDLE}", r"\1/\2", path))


def _write(key: str, known: dict[str, Any]) -> None:
    with contextlib.suppress(Exception):  # the next run tries again
        Variable.set(key, json.dumps(known))


def _check(
    roster: Roster, name: str, other: str, owns: tuple[str, ...], aliases: list[str], key: str
) -> None:
    is_theirs, is_ours = owner_pattern(owns).match, owner_pattern(roster.owns).match
    both = [alias for alias in [*roster.entries, *owns] if is_theirs(alias) and is_ours(alias)]
    both += [alias for alias in [*aliases, *roster.owns] if is_theirs(alias) and is_ours(alias)]
    if both:
        raise RosterConflict(
            f"The rosters {name} and {other} both own {both[0]!r}. Nothing was changed. Narrow owns in one "
            "of them; if both tasks have the same mapping and it was edited, run the other task, or put it "
            f"into a file. If {other} is not used any more, delete the Variable {key}, or wait: it is "
            "forgotten 7 days after its last run."
        )


def _read(key: str) -> dict[str, Any] | None:
    """Return what is stored; ``None`` if it cannot be read, so that it is not overwritten."""
    try:
        text = read_variable(key)
    except Exception:  # outside of Airflow, or in an outage
        return None
    try:
        found = json.loads(text or "{}")
        return {name: one for name, one in found.items() if {"owns", "aliases", "digest", "at"} <= one.keys()}
    except (ValueError, AttributeError):  # not what was written here
        return {}
