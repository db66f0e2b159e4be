"""Collects a plan's contents while it is decided."""

from __future__ import annotations

from collections.abc import Sequence

from airflow_provider_closeai.client.models import SubAccount
from airflow_provider_closeai.provisioning.texts import count_of, ids_of
from airflow_provider_closeai.roster.plan import DELETE, Action, Note

#: The most items that a note lists.
FEW = 5


class Changes:
    """A plan's contents so far."""

    def __init__(self) -> None:
        self.actions: list[Action] = []
        self.notes: list[Note] = []
        self.undelivered: list[int] = []
        self.poorer: list[SubAccount] = []

    def note(self, alias: str, text: str) -> None:
        self.notes.append(Note(alias, text))

    def note_poorer(self) -> None:
        """Add one note on all balances that are lower than this month's costs explain."""
        if not self.poorer:
            return
        aliases = sorted({each.alias or "" for each in self.poorer})
        more = f" and {len(aliases) - FEW} more aliases" if len(aliases) > FEW else ""
        have = "has" if len(self.poorer) == 1 else "have"
        self.note(
            aliases[0] if len(aliases) == 1 else "",
            f"{count_of(self.poorer)} of {', '.join(map(repr, aliases[:FEW]))}{more} {have} a lower balance "
            f"than is wanted: ids {ids_of(self.poorer)}. It was spent in earlier months, or the roster's "
            "balance was raised since. The API cannot change it.",
        )

    def delete(self, alias: str, accounts: Sequence[SubAccount], reason: str) -> None:
        """Delete the accounts that are known to be sub-accounts; note the others."""
        self.actions += [
            Action(kind=DELETE, alias=alias, id=account.id, reason=reason)
            for account in accounts
            if account.is_sub_account
        ]
        others = [account for account in accounts if not account.is_sub_account]
        if others:
            self.note(
                alias, f"{ids_of(others)} do not say that they are sub-accounts: not deleted ({reason})."
            )
