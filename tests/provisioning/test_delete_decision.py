"""What a delete refuses, in which parts it is sent, and what it says."""

from __future__ import annotations

from decimal import Decimal

import pytest

from airflow_provider_closeai.client.models import SecretToken, SubAccount
from airflow_provider_closeai.provisioning.delete import batches, closing_line, last_state, refuse
from airflow_provider_closeai.provisioning.errors import NotASubAccount, TooManySelected


def account(number: int, kind: str = "slave") -> SubAccount:
    return SubAccount(
        id=number,
        token=SecretToken("sk-123456789-last"),
        alias="a",
        token_type=kind,
        monthly_cost=Decimal("1.50"),
    )


@pytest.mark.parametrize(
    ("kinds", "max_delete", "error"),
    [
        ([], 0, None),
        (["slave"], None, None),
        (["slave"], 1, None),
        (["slave", "slave"], 1, TooManySelected),
        (["slave"], 0, TooManySelected),
        (["slave", "master"], None, NotASubAccount),
        ([""], None, NotASubAccount),
        (["master", "slave"], 0, NotASubAccount),
    ],
)
def test_what_is_refused(kinds: list[str], max_delete: int | None, error: type[Exception] | None) -> None:
    accounts = [account(number, kind) for number, kind in enumerate(kinds, 1)]
    if error is None:
        refuse(accounts, max_delete)
    else:
        with pytest.raises(error, match="Nothing was deleted"):
            refuse(accounts, max_delete)


@pytest.mark.parametrize(("number", "size", "parts"), [(0, 2, []), (5, 2, [2, 2, 1]), (2, 2, [2])])
def test_the_parts(number: int, size: int, parts: list[int]) -> None:
    accounts = [account(each) for each in range(number)]
    sent = batches(accounts, size)
    assert [len(part) for part in sent] == parts
    assert [each for part in sent for each in part] == accounts


def test_what_is_said() -> None:
    assert last_state(account(1), dry_run=False) == (
        "Sub-account 1 ('a', sk-…last) is to be deleted, last seen with: monthly_cost 1.50, balance None."
    )
    assert "would be deleted" in last_state(account(1), dry_run=True)
    assert closing_line([], dry_run=False).startswith("Nothing to delete")
    assert closing_line([account(1)], dry_run=False) == "Deleted 1 sub-account, not listed any more: ids [1]."
    assert "nothing was changed" in closing_line([account(1)], dry_run=True)
