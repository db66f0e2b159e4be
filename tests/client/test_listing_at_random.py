"""Accounts appear and vanish at random between the pages of a listing, on platforms of every kind."""

from __future__ import annotations

import contextlib
import itertools
import random
from typing import Any

import pytest
from support import Asked, fixed_client, item, platform

from airflow_provider_closeai.client.errors import ListingUnstable


@pytest.mark.parametrize("seed", range(40))
def test_random_changes_between_pages_lose_no_account(seed: int) -> None:
    """Every account that was there throughout comes, and none twice, or else the listing is not believed."""
    chance = random.Random(seed)
    ids = itertools.count(1)
    accounts = [item(next(ids)) for _ in range(chance.randint(0, 12))]
    throughout = {account["id"] for account in accounts}
    cap, newest, total, says_size = (
        chance.choice([2, 3, 5, 50]),
        chance.random() < 0.5,
        chance.choice(["filtered", "page", None]),
        chance.random() < 0.7,
    )
    changes = [chance.randint(0, 3) for _ in range(chance.choice([1, 3, 30]))]

    def reply(asked: Asked) -> tuple[int, Any]:
        for _ in range(changes.pop() if changes else 0):
            if accounts and chance.random() < 0.6:
                throughout.discard(accounts.pop(chance.choice([0, -1]))["id"])
            else:
                accounts.append(item(next(ids)))
        size = int(asked.query["page_size"])
        size = cap if size == -1 else min(cap, size)
        end = int(asked.query["page"]) * size
        shown = (accounts[::-1] if newest else accounts)[end - size : end]
        answer: dict[str, Any] = {"items": shown}
        if total:
            answer["total"] = len(shown if total == "page" else accounts)
        if says_size:
            answer["pageSize"] = size
        return 200, answer

    with platform(reply) as (origin, _):
        found: list[int] = []
        with contextlib.suppress(ListingUnstable):
            found = [
                account.id
                for account in fixed_client(origin, page_size=chance.choice([2, 5, -1])).iter_sub_accounts()
            ]
            assert throughout <= set(found)
        assert len(found) == len(set(found))
