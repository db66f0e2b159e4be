"""A plan for people: Markdown for Airflow's approval form, and log lines."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Any

from airflow_provider_closeai.client.models import amount_text
from airflow_provider_closeai.provisioning.rotate import time_text
from airflow_provider_closeai.provisioning.texts import pricing_text
from airflow_provider_closeai.roster.plan import CREATE, DELETE, REPRICE, VALID_FOR, Action, Note, Plan

#: With more changes than this, the Markdown shows counts, and deletions only up to this many.
MOST_LINES = 200
_MOST_NOTES = 50
_MOST_PUBLISHED = 20  # the database keeps every event
_UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")


def markdown(plan: Plan) -> str:
    """Write a plan as Markdown for the approval form. Aliases are shown as text, whatever they contain."""
    parts = [f"**{summary(plan)}**", _about(plan)]
    if len(plan.actions) > MOST_LINES:
        parts.append(_counts(plan))
    elif plan.actions:
        parts.append(_table(plan.actions))
    if plan.notes:
        shown = [_note(note) for note in plan.notes[:_MOST_NOTES]]
        more = len(plan.notes) - len(shown)
        shown += [f"- ... and {more} more; the plan's result has all."] * (more > 0)
        parts.append("Nothing is done about:\n\n" + "\n".join(shown))
    return "\n\n".join(parts) + "\n"


def summary(plan: Plan) -> str:
    """Summarise the changes in one line."""
    if not plan.actions:
        return "Nothing to change"
    counts = plan.counts
    return f"{counts['create']} to create, {counts['reprice']} to reprice, {counts['delete']} to delete"


def published(plan: Plan) -> dict[str, Any]:
    """Return what of a plan is published, as plain JSON, with only the first of many changes."""
    lines = log_lines(plan)
    return {
        "roster": plan.roster,
        "digest": plan.digest,
        "summary": summary(plan),
        "has_changes": bool(plan.actions),
        "lines": lines[:_MOST_PUBLISHED],
        "more_lines": max(len(lines) - _MOST_PUBLISHED, 0),
    }


def log_lines(plan: Plan) -> list[str]:
    """Write one line for each change and each note."""
    return [*map(line_of, plan.actions), *note_lines(plan)]


def note_lines(plan: Plan) -> list[str]:
    """Write a line for each note, or for the first of many."""
    more = len(plan.notes) - _MOST_NOTES
    lines = [
        f"Note{f' on {note.alias!r}' if note.alias else ''}: {note.text}" for note in plan.notes[:_MOST_NOTES]
    ]
    return lines + [f"... and {more} more notes; the plan's result has all."] * (more > 0)


def line_of(action: Action) -> str:
    """Write a change in one line."""
    what = f": {_what(action)}" if _what(action) else ""
    which = f" {action.id}" if action.id is not None else f" {action.number}"
    return f"{action.kind}{which} of {action.alias!r}{what} ({_why(action)})."


def code(text: str) -> str:
    """Write text so that Markdown shows it as it is, even in a table."""
    seen = "".join(
        f"\\u{ord(char):04x}" if unicodedata.category(char) in _UNSEEN else char for char in text
    ).replace("\\|", "\\u005c|")
    longest = max((len(run) for run in re.findall("`+", seen)), default=0)
    fence, pad = "`" * (longest + 1), " " * (longest > 0 or seen != seen.strip())
    return f"{fence}{pad}{seen or ' '}{pad}{fence}".replace("|", "\\|")


def _about(plan: Plan) -> str:
    account = "" if plan.main_account is None else f" of main account {plan.main_account}"
    hours = f"{VALID_FOR.total_seconds() / 3600:g} h"
    undelivered = (
        f" {len(plan.deliver)} keys are not in the sink as they should be; they are delivered anyway."
    )
    return (
        f"Plan {code(plan.digest)} of the roster {code(plan.roster)}, with {len(plan.entries)} aliases, made "
        f"at {time_text(plan.made_at)}, valid for {hours}. {plan.listed} sub-accounts{account} are listed, "
        f"{plan.owned} are owned.{undelivered if plan.deliver else ''}"
    )


def _counts(plan: Plan) -> str:
    accounts: Counter[tuple[str, str]] = Counter()
    aliases: dict[tuple[str, str], set[str]] = {}
    for action in plan.actions:
        accounts[action.kind, action.reason] += action.accounts
        aliases.setdefault((action.kind, action.reason), set()).add(action.alias)
    rows = ["| | why | sub-accounts | aliases |", "|---|---|---:|---:|"]
    rows += [
        f"| {kind} | {reason} | {accounts[kind, reason]} | {len(aliases[kind, reason])} |"
        for kind, reason in sorted(aliases)
    ]
    text = "\n".join(rows) + (
        f"\n\nThese are {len(plan.actions)} changes, more than {MOST_LINES}: each has a line in the plan's "
        "log, and in its result."
    )
    deletions = [action for action in plan.actions if action.kind == DELETE]
    return f"{text} Deleted are:\n\n{_table(deletions)}" if 0 < len(deletions) <= MOST_LINES else text


def _table(actions: Sequence[Action]) -> str:
    rows = ["| | alias | account | what | why |", "|---|---|---|---|---|"]
    return "\n".join(rows + [_row(action) for action in actions])


def _row(action: Action) -> str:
    which = f"{action.number} new" if action.kind == CREATE else str(action.id)
    what = code(_what(action)) if _what(action) else ""
    kind = f"**{DELETE}**" if action.kind == DELETE else action.kind
    return f"| {kind} | {code(action.alias)} | {which} | {what} | {_why(action)} |"


def _note(note: Note) -> str:
    return f"- {code(note.alias)}: {_plain(note.text)}" if note.alias else f"- {_plain(note.text)}"


def _plain(text: str) -> str:
    """Escape Markdown in a note, which may quote the platform."""
    return re.sub(r"([\\`*_\[\]<>|~#!&])", r"\\\1", text)


def _what(action: Action) -> str:
    if action.kind == REPRICE:
        return f"{pricing_text(action.before or {})} -> {pricing_text(action.after or {})}"
    if action.kind == CREATE:
        return f"{pricing_text(action.after or {})}; balance {amount_text(action.balance)}"
    return ""


def _why(action: Action) -> str:
    return f"{action.reason}: {action.detail}" if action.detail else action.reason
