"""The result of applying a roster, for XCom and the log."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from airflow_provider_closeai.client.models import SubAccount
from airflow_provider_closeai.roster import render
from airflow_provider_closeai.roster.matching import Matched, Skipped
from airflow_provider_closeai.roster.plan import Plan


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """
    The result of applying a roster or plan.

    :param plan: what was wanted.
    :param accounts: current accounts of the roster's aliases, by id.
    :param created: new accounts.
    :param repriced: as they are now.
    :param deleted: as they were just before.
    :param references: of delivered keys, by account id.
    :param matched: which part of the plan was done.
    """

    plan: Plan
    accounts: tuple[SubAccount, ...]
    created: tuple[SubAccount, ...]
    repriced: tuple[SubAccount, ...]
    deleted: tuple[SubAccount, ...]
    references: dict[int, str]
    matched: Matched

    @property
    def has_changed(self) -> bool:
        """Whether it changed any account."""
        return bool(self.created or self.repriced or self.deleted)

    @property
    def counts(self) -> dict[str, int]:
        """Counts of accounts and changes."""
        return {
            "aliases": len(self.plan.entries),
            "sub_accounts": len(self.accounts),
            "created": len(self.created),
            "repriced": len(self.repriced),
            "deleted": len(self.deleted),
            "delivered": len(self.references),
        }

    def record(self) -> dict[str, Any]:
        """Return the result as plain JSON, without keys."""
        return {
            "roster": self.plan.roster,
            "digest": self.plan.digest,
            "main_account": self.plan.main_account,
            "counts": self.counts,
            "created": [self._record(account) for account in self.created],
            "repriced": [self._record(account) for account in self.repriced],
            "deleted": [account.record() for account in self.deleted],
            "delivered": {str(key): self.references[key] for key in sorted(self.references)},
            "skipped": [
                skipped.action.record() | {"because": skipped.because} for skipped in self.matched.skipped
            ],
            "not_approved": [action.record() for action in self.matched.unapproved],
            "notes": [{"alias": note.alias, "text": note.text} for note in self.plan.notes],
            "sub_accounts": [{"id": each.id, "alias": each.alias} for each in self.accounts],
        }

    def _record(self, account: SubAccount) -> dict[str, Any]:
        reference = self.references.get(account.id)
        return account.record() | ({} if reference is None else {"delivered_to": reference})


def changes_in(matched: Matched, plan: Plan) -> Iterator[str]:
    """Yield a line for each change, made or not, and for each note."""
    yield from map(render.line_of, matched.todo)
    yield from map(skipped_line, matched.skipped)
    for action in matched.unapproved:
        yield f"Not approved, left: {render.line_of(action)}"
    yield from render.note_lines(plan)


def skipped_line(skipped: Skipped) -> str:
    """Return a line that says why an approved change is not made."""
    return f"Approved, and {skipped.because}: {render.line_of(skipped.action)}"


def closing_line(applied: Applied, dry_run: bool) -> str:
    """Return the result in one line."""
    counts, title = applied.counts, applied.plan.title
    what = ", ".join(f"{counts[name]} {name}" for name in ("created", "repriced", "deleted", "delivered"))
    if dry_run:
        todo = msgspec.structs.replace(applied.plan, actions=applied.matched.todo)
        what = f"{render.summary(todo)} (dry run, nothing was changed)"
    left = len(applied.matched.unapproved)
    return (
        f"{title[0].upper()}{title[1:]}: {counts['aliases']} aliases have "
        f"{counts['sub_accounts']} sub-accounts; "
        f"{what}{f'; {left} changes are not approved' if left else ''}."
    )
