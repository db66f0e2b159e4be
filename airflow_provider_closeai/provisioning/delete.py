"""Decides what a delete refuses, and divides it into calls. No I/O here."""

from __future__ import annotations

from collections.abc import Sequence

from airflow_provider_closeai.client.models import SubAccount, amount_text
from airflow_provider_closeai.provisioning.errors import NotASubAccount, TooManySelected
from airflow_provider_closeai.provisioning.texts import count_of, ids_of

_SHOWN = 20


def refuse(accounts: Sequence[SubAccount], max_delete: int | None) -> None:
    """Refuse accounts that are not sub-accounts, and more than ``max_delete``."""
    others = [account for account in accounts if not account.is_sub_account]
    if others:
        shown = ", ".join(f"{account.id} ({account.token_type!r})" for account in others[:_SHOWN])
        raise NotASubAccount(
            f"Selected for deletion, but not sub-accounts: {shown}. Nothing was deleted. Select sub-accounts "
            "only, by id.",
            call="delete",
        )
    if max_delete is not None and len(accounts) > max_delete:
        raise TooManySelected(
            f"{len(accounts)} sub-accounts are selected, and max_delete is {max_delete}: ids "
            f"{ids_of(accounts)}. Nothing was deleted. Look at them with dry_run=True; raise max_delete if "
            "they are meant.",
            call="delete",
        )


def batches(accounts: Sequence[SubAccount], size: int) -> list[Sequence[SubAccount]]:
    """Divide accounts into calls."""
    return [accounts[start : start + size] for start in range(0, len(accounts), size)]


def last_state(account: SubAccount, dry_run: bool) -> str:
    """Write an account's last state, with its costs, for the log."""
    return (
        f"Sub-account {account.id} ({account.alias!r}, {account.token.hint}) "
        f"{'would be deleted' if dry_run else 'is to be deleted, last seen with'}: "
        f"monthly_cost {amount_text(account.monthly_cost)}, balance {amount_text(account.balance)}."
    )


def closing_line(accounts: Sequence[SubAccount], dry_run: bool) -> str:
    """Return the result in one line, for the log."""
    if not accounts:
        return "Nothing to delete: none of the selected sub-accounts is listed."
    if dry_run:
        would = f"{count_of(accounts)} would be deleted (dry run, nothing was changed)"
        return f"{would}: ids {ids_of(accounts)}."
    return f"Deleted {count_of(accounts)}, not listed any more: ids {ids_of(accounts)}."
