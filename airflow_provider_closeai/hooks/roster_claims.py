"""Which roster of this deployment speaks for which aliases: no two of them may own the same one."""

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

#: Seconds for which a roster is remembered after its last run.
_KEPT = 7 * 24 * 3600.0
_RENEWED = 3600.0
_ALL = "all rosters\n"  # that are claimed like an alias; no alias has a line break
_DATE = r"(?:19|20)\d\d(?P<dash>[-_]?)(?:0[1-9]|1[0-2])(?P=dash)(?:0[1-9]|[12]\d|3[01])"
_HOUR, _SIXTIETH = r"(?:[01]\d|2[0-3])", r"[0-5]\d"
#: A time of day behind a date: with all its digits at once, else apart from it.
_TIME = (
    rf"(?:{_HOUR}{_SIXTIETH}{_SIXTIETH}|"
    rf"[-_.T]{_HOUR}(?P<colon>[-_.:]?){_SIXTIETH}(?:(?P=colon){_SIXTIETH}(?:[.,]\d+)?)?)"
    rf"(?:Z|[-+]{_HOUR}:?{_SIXTIETH})?"
)
#: A folder whose name is another with each edit, and only that: a commit's whole id (git-sync 2 writes
#: ``rev-`` before it), a date, with a time of day or without, also a ConfigMap's in Kubernetes. What may be a
#: name or a number of somebody's stays: of two rosters that are taken for one, each could delete the other's
#: accounts.
_MOVING = re.compile(
    r"(?<!/)/(?:rev-[0-9a-f]{7,64}|(?!\d+/)(?:[0-9a-f]{40}|[0-9a-f]{64})|"
    rf"(?:\.\.)?{_DATE}(?:{_TIME})?)(?=/)"
)
#: Where Airflow keeps a DAG bundle: one folder for each version, and one of the newest.
_IN_BUNDLE = r"/([^/]+)/(?:versions/[^/]+|tracking(?:_repo)?)(?=/)"


def register(client: CloseAIClient, roster: Roster, task: str = "", names: NameStore | None = None) -> None:
    """
    Note that a roster speaks for its aliases, and refuse one that speaks for another's.

    A file is known by its path, without what changes in it with each edit, a mapping by the task that has
    it. Two tasks may have the same roster; when it is edited, the first of them is refused until the other
    has run, too.

    :param task: names the task over all its tries; without one, a mapping is not compared.
    :param names: that all hosts of the deployment share, where there is such a store.
    :raises RosterConflict: naming the other roster. Nothing was changed.
    """
    name = _name_of(roster, task)
    if not name:
        return
    key = f"closeai_rosters_{client.cache.name}"
    news, conflict = _compare(client, roster, name, key)
    if news is not None:
        with _alone(
            client, names_to_lock_with(client, names)
        ):  # of two that register at once neither would see the other
            news, conflict = _compare(client, roster, name, key)
            if news is not None:
                _write(key, news)
    if conflict is not None:
        raise conflict


def _compare(
    client: CloseAIClient, roster: Roster, name: str, key: str
) -> tuple[dict[str, Any] | None, RosterConflict | None]:
    """Compare a roster with all others; return what is to be written, if anything, and the conflict."""
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
            if mine not in (held, one.get("wants")):  # the same roster may be in several places
                _check(roster, name, other, tuple(one["owns"]), one["aliases"], key)
    except RosterConflict as conflict:
        is_known = not before or before.get("wants") == mine
        return (None if is_known else {**others, name: {**before, "wants": mine}}), conflict
    is_known = before == {**mine, "at": before.get("at")} and now - before["at"] <= _RENEWED
    return (None if is_known else {**others, name: {**mine, "at": now}}), None


@contextlib.contextmanager
def _alone(client: CloseAIClient, names: NameStore | None) -> Iterator[None]:
    """Be the only one of the deployment, as far as that can be had."""
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
    """Return what a roster is known by, over all its edits; nothing where it has no such name."""
    name = roster.name.removeprefix("roster ")
    if name == "roster":  # a mapping
        dag, *_, task_id, index = task.split("/") if task.count("/") >= 3 else ("", "", "")
        # Ids have dots, and no slashes.
        return f"of the task {dag}/{task_id}{f'[{index}]' if index.isdecimal() else ''}" if dag else ""
    path = re.sub("^file:(//(localhost)?)?(?=/)", "", name)
    return _steady(path if "://" in path else os.path.realpath(os.path.expanduser(path)))


def _steady(path: str) -> str:
    """Return a path or an address without what changes in it with each edit."""
    root = conf.get("dag_processor", "dag_bundle_storage_path", fallback=None)
    roots = "|".join(["/dag_bundles", *([re.escape(os.path.realpath(root))] if root else [])])
    return _MOVING.sub("", re.sub(f"({roots}){_IN_BUNDLE}", r"\1/\2", path))


def _write(key: str, known: dict[str, Any]) -> None:
    with contextlib.suppress(Exception):  # unwritten, the next run tries again
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
    """Return what is written; ``None`` where nobody can say, so that nothing is written over it."""
    try:
        text = read_variable(key)
    except Exception:  # outside of Airflow, or in an outage
        return None
    try:
        found = json.loads(text or "{}")
        return {name: one for name, one in found.items() if {"owns", "aliases", "digest", "at"} <= one.keys()}
    except (ValueError, AttributeError):  # not what was written here
        return {}
