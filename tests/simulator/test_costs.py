"""The simulated clock and the money: exact to the last decimal, over midnight, month's turn and deletion."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from airflow_provider_closeai.simulator import Simulator

RATE = Decimal("0.01234567")


def rated(sim: Simulator, rate: Decimal = RATE, **options: Any) -> int:
    number: int = sim.add_account("a", **options)["id"]
    sim.set_rate(number, rate)
    return number


def money(sim: Simulator) -> tuple[str, str]:
    [account] = sim.accounts()
    return account["monthly_cost"], account["balance"]


def test_the_clock(sim: Simulator) -> None:
    assert sim.clock.now().isoformat() == "2026-11-24T09:00:00+08:00"
    sim.clock.advance(days=1, seconds=0.5)
    assert sim.clock.now().isoformat() == "2026-11-25T09:00:00.500000+08:00"
    sim.clock.set(datetime(2026, 12, 1, tzinfo=UTC))
    assert sim.clock.now().isoformat() == "2026-12-01T08:00:00+08:00"
    sim.clock.set(datetime(2026, 12, 2))
    assert sim.clock.now().isoformat() == "2026-12-02T00:00:00+08:00"
    with pytest.raises(ValueError, match="back"):
        sim.clock.advance(seconds=-1)
    with pytest.raises(ValueError, match="back"):
        sim.clock.set(datetime(2026, 12, 1))


def test_the_clock_can_run() -> None:
    clock = Simulator(start=datetime(2026, 1, 1), speed=1e6).clock
    first = clock.now()
    end = time.monotonic() + 10
    while clock.now() - first < timedelta(seconds=100):
        assert time.monotonic() < end
    clock.set(datetime(2027, 1, 1))
    assert clock.now() >= datetime.fromisoformat("2027-01-01T00:00:00+08:00")


def test_costs_by_the_hour(ask: Any, sim: Simulator) -> None:
    rated(sim, balance="1")
    assert money(sim) == ("0", "1")
    sim.clock.advance(hours=3)
    assert money(sim) == ("0.03703701", "0.96296299")
    assert ask("list").json()["items"] == sim.accounts()


def test_accounts_cost_something_by_default_unless_disabled(sim: Simulator) -> None:
    sim.add_account("on")
    sim.add_account("off", enabled=False, monthly_cost="2", balance=Decimal("7.5"))
    sim.clock.advance(hours=1)
    on, off = sim.accounts()
    assert Decimal("0.001") <= Decimal(on["monthly_cost"]) < Decimal("0.05")
    assert (off["enabled"], off["monthly_cost"], off["balance"]) == (False, "2", "7.5")
    sim.clock.advance(days=30)
    assert sim.accounts()[1]["monthly_cost"] == "0"


def test_the_balance_may_fall_below_nothing(sim: Simulator) -> None:
    rated(sim, Decimal(1), balance="0.5")
    sim.clock.advance(hours=1)
    assert money(sim) == ("1", "-0.5")


def test_the_months_turn_is_exact(sim: Simulator) -> None:
    number = rated(sim)
    sim.clock.set(datetime(2026, 11, 30, 23, 59, 59, 999999))
    assert money(sim)[0] != "0"
    sim.clock.set(datetime(2026, 12, 1))
    assert money(sim)[0] == "0"
    sim.clock.advance(hours=2)
    assert Decimal(money(sim)[0]) == 2 * RATE
    november = RATE * (15 + 6 * 24)
    assert sim.truth.by_month == {(number, "2026-11"): november, (number, "2026-12"): 2 * RATE}
    assert sim.truth.by_date[number, date(2026, 11, 24)] == RATE * 15
    assert sim.truth.by_date[number, date(2026, 11, 30)] == RATE * 24
    assert sim.truth.by_date[number, date(2026, 12, 1)] == RATE * 2


def test_one_jump_books_as_many_small_steps() -> None:
    def told(steps: int) -> tuple[Any, ...]:
        sim = Simulator(seed=3)
        number = rated(sim)
        for _ in range(steps):
            sim.clock.advance(seconds=40 * 86400 / steps)
            sim.accounts()
        return sim.accounts(), sim.truth.by_date, sim.truth.by_month, number

    assert told(1) == told(640)


def test_days_add_up_to_months(sim: Simulator) -> None:
    number = sim.add_account("a")["id"]
    sim.clock.advance(days=70, microseconds=123_457)
    truth = sim.truth
    for month in ("2026-11", "2026-12", "2027-01", "2027-02"):
        days = [cost for (_, day), cost in truth.by_date.items() if f"{day:%Y-%m}" == month]
        assert sum(days) == truth.by_month[number, month] > 0
    assert Decimal(money(sim)[0]) == truth.by_month[number, "2027-02"]


def test_truth_survives_deletion(ask: Any, sim: Simulator) -> None:
    number = rated(sim)
    sim.clock.advance(hours=1)
    ask("delete", {"sks": [sim.accounts()[0]["token"]]})
    sim.clock.advance(days=40)
    assert sim.truth.by_month == {(number, "2026-11"): RATE}
    assert sim.truth.by_date == {(number, date(2026, 11, 24)): RATE}
    with pytest.raises(KeyError):
        sim.set_rate(number, RATE)


def test_corrections(ask: Any, sim: Simulator) -> None:
    number = rated(sim, Decimal(1), balance="10")
    sim.clock.advance(hours=2)
    sim.correct_cost(number, Decimal("-0.5"))
    assert money(sim) == ("1.5", "8.5")
    assert sim.truth.by_month[number, "2026-11"] == Decimal("1.5")
    sim.delete_account(number)
    sim.correct_cost(number, 1)
    assert sim.truth.by_date[number, date(2026, 11, 24)] == Decimal("2.5")
    with pytest.raises(KeyError):
        sim.correct_cost(99, 1)
    with pytest.raises(ValueError, match="delta has more than 8 decimals"):
        sim.correct_cost(number, "0.000000001")


def test_a_new_rate_counts_from_now(sim: Simulator) -> None:
    number = rated(sim, Decimal(1))
    sim.clock.advance(hours=1)
    sim.set_rate(number, Decimal(10))
    sim.clock.advance(hours=1)
    assert money(sim)[0] == "11"


def test_seeded_costs_count_in_the_month(sim: Simulator) -> None:
    number = rated(sim, Decimal(1), monthly_cost="5.00000001", created_at="2023-05-24T23:13:16.878831+08:00")
    assert sim.accounts()[0]["created_at"] == "2023-05-24T23:13:16.878831+08:00"
    sim.clock.advance(hours=1)
    assert money(sim)[0] == "6.00000001"
    assert sim.truth.by_month[number, "2026-11"] == Decimal("6.00000001")
    assert sim.truth.by_date == {(number, date(2026, 11, 24)): Decimal(1)}


def test_billing(ask: Any, sim: Simulator) -> None:
    first, second = rated(sim, Decimal(1)), rated(sim, Decimal("0.00000001"))
    sim.settings.main_usage = Decimal("2.5")
    sim.clock.advance(hours=1)
    sim.delete_account(first)
    sim.clock.advance(hours=1)
    reply = ask("billing").json(parse_float=Decimal)
    assert reply == {
        "object": "credit_summary",
        "total_granted": 10000,
        "total_used": Decimal("3.50000002"),
        "total_available": Decimal("9996.49999998"),
    }
    sim.clock.set(datetime(2026, 12, 1, 1))
    assert ask("billing").json(parse_float=Decimal)["total_used"] == Decimal("2.50000001")
    assert second in {number for number, _ in sim.truth.by_month}


def test_what_an_update_changes(ask: Any, sim: Simulator) -> None:
    before = sim.add_account("a")
    sim.clock.advance(hours=1)
    ask("update", {"sks": [before["token"]], "model_pricing": []})
    [after] = sim.accounts()
    assert after["created_at"] == before["created_at"] == "2026-11-24T09:00:00.000000+08:00"
    assert after["updated_at"] == "2026-11-24T10:00:00.000000+08:00"
    assert after["model_pricing"] == []
