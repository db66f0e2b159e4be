"""The lock over hosts: every interleaving of its protocol, and its runner against a store that fails."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from bakery_model import Model, explore, following, start

from airflow_provider_closeai.local_state import Clock
from airflow_provider_closeai.local_state.bakery import Contender, contender, read_names
from airflow_provider_closeai.local_state.claims import Claim, ClaimLost, StoreFailed

SAME = [{"aa"}, {"aa"}]
CHAIN = [{"aa"}, {"aa", "bb"}, {"bb"}]

# --- The protocol, in every interleaving ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sets", "faults", "ticks"),
    [pytest.param(SAME, 0, 2, id="slow", marks=pytest.mark.slow), pytest.param(SAME, 1, 0, id="a fault")],
)
def test_two_are_never_in_at_the_same_time(sets: list[set[str]], faults: int, ticks: int) -> None:
    number, bad = explore(start(sets, faults), until=ticks)
    assert bad is None
    assert number > 10_000, "it goes through next to nothing"


@pytest.mark.deep
@pytest.mark.parametrize(
    ("sets", "faults", "ticks"),
    [
        (SAME, 1, 1),
        (SAME, 1, 2),
        (SAME, 2, 0),
        (SAME, 3, 0),
        (SAME, 0, 3),
        (CHAIN, 0, 0),
        ([{"aa"}] * 3, 0, 0),
    ],
    ids=lambda each: "".join(map(str, map(sorted, each))) if isinstance(each, list) else None,
)
def test_none_are_in_at_the_same_time_in_deeper_searches(
    sets: list[set[str]], faults: int, ticks: int
) -> None:
    _, bad = explore(start(sets, faults), until=ticks, most=2_000_000)
    assert bad is None


def _without_waiting_for_choosers(self: Contender, claimant: str, seen: object) -> bool:
    ticket: int = seen.ticket  # type: ignore[attr-defined]
    return bool(ticket) and (ticket, claimant) < (self.ticket, self.claimant)


def test_it_finds_a_bakery_that_does_not_wait_for_choosers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Contender, "_is_before", _without_waiting_for_choosers)
    assert explore(start(SAME, 0), until=0)[1]


@pytest.mark.slow
def test_it_finds_a_death_that_is_told_from_an_old_listing(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = Contender.looked
    monkeypatch.setattr(
        Contender, "looked", lambda self, names, began, ended: looked(self, names, ended, ended)
    )
    assert explore(start(SAME, 0, lease=2), until=3, most=100_000)[1]


def _fair(model: Model) -> Model:
    """Go on fairly, and without further trouble, until all have ended."""
    for round_ in range(400):
        if all(agent.end for agent in model.agents):
            return model
        for number in range(len(model.agents)):
            if not model.agents[number].end:
                own = [
                    each
                    for each in following(msgspec.structs.replace(model, faults=0), until=0)
                    if each.agents[number] is not model.agents[number]
                ]
                model = own[0] if own else model
        if round_ % 8 == 7:
            model = msgspec.structs.replace(model, now=model.now + 1)
    return model


@pytest.mark.parametrize("dead", [0, 1])
def test_whoever_is_not_killed_gets_in(dead: int) -> None:
    """From every state in which one of them was killed."""
    seen: set[object] = set()
    todo, tried = [start(SAME, 1, lease=3)], 0
    while todo:
        model = todo.pop()
        if model.agents[dead].end == "crashed":
            other = _fair(model).agents[1 - dead]
            assert other.was_in or other.state.is_lost, "it waits for ever"
            tried += 1
            continue
        for each in following(model, until=0):
            if each.key not in seen and not each.late:
                seen.add(each.key)
                todo.append(each)
    assert tried > 100


# --- Names ------------------------------------------------------------------------------------------------


def test_names_are_short_enough_and_of_letters_that_airflow_takes() -> None:
    made = contender("0123456789abcdef", [f"{number:016x}" for number in range(400)], 30)
    for name in made.unwritten:
        assert len("closeai_lock." + "a" * 24 + "." + name) <= 250
        assert set(name) <= set("0123456789abcdefopt.")
    whole = read_names(made.unwritten)["0123456789abcdef"]
    assert whole.elements == made.elements
    assert read_names(made.unwritten[1:])["0123456789abcdef"].elements is None


def test_names_of_somebody_else_are_no_claim() -> None:
    assert read_names(["", "x", "ab.p1of1.", "ab.t", "AB.t1", "ab.p1of1.zz", "ab.q1"]) == {}


# --- The runner -------------------------------------------------------------------------------------------


class Names:
    def __init__(self) -> None:
        self.names: set[str] = set()
        self.broken: tuple[str, ...] = ()

    def list(self, prefix: str) -> Sequence[str]:
        if "list" in self.broken:
            raise OSError("down")
        return [name for name in self.names if name.startswith(prefix)]

    def add(self, name: str) -> None:
        if "add" in self.broken:
            raise OSError("down")
        self.names.add(name)

    def remove(self, name: str) -> None:
        if "remove" in self.broken:
            raise OSError("down")
        self.names.discard(name)


class Time:
    def __init__(self) -> None:
        self.now = 100.0

    def clock(self) -> Clock:
        return Clock(now=lambda: 1_800_000_000 + self.now, monotonic=lambda: self.now, sleep=self.sleep)

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_one_is_in_and_the_other_waits_until_it_has_gone() -> None:
    names, time = Names(), Time()
    first = Claim(names, "p.", ["aa"], time.clock())
    second = Claim(names, "p.", ["aa", "bb"], time.clock())
    assert first.acquire(0)
    assert not second.acquire(1)
    second.release()
    first.release()
    assert names.names == set()
    third = Claim(names, "p.", ["aa"], time.clock())
    assert third.acquire(0)
    third.release()


def test_sets_that_do_not_overlap_do_not_wait() -> None:
    names, time = Names(), Time()
    claims = [Claim(names, "p.", [element], time.clock()) for element in ("aa", "bb", "cc")]
    assert all(claim.acquire(0) for claim in claims)


def test_whoever_beats_is_not_dead_and_whoever_does_not_is_passed_over_and_cleaned_up() -> None:
    names, time = Names(), Time()
    first = Claim(names, "p.", ["aa"], time.clock())
    assert first.acquire(0)
    second = Claim(names, "p.", ["aa"], time.clock())
    for _ in range(10):
        time.now += 9
        first.keep()
        assert not second.acquire(0)
    assert second.acquire(40)  # the first says nothing any more
    with pytest.raises(ClaimLost):
        first.keep()
    with pytest.raises(ClaimLost):
        first.check()
    second.release()
    assert names.names == set()


def test_a_claim_that_was_removed_is_found_out_before_the_post() -> None:
    names, time = Names(), Time()
    claim = Claim(names, "p.", ["aa"], time.clock())
    assert claim.acquire(0)
    assert claim.check() > time.now
    names.names.clear()
    with pytest.raises(ClaimLost):
        claim.check()


@pytest.mark.parametrize("broken", ["list", "add"])
def test_a_store_that_does_not_work_is_told(broken: str) -> None:
    names, time = Names(), Time()
    names.broken = (broken,)
    claim = Claim(names, "p.", ["aa"], time.clock())
    with pytest.raises(StoreFailed):
        claim.acquire(10)
    claim.release()


def test_what_cannot_be_removed_costs_the_next_one_a_lease_only() -> None:
    names, time = Names(), Time()
    first = Claim(names, "p.", ["aa"], time.clock())
    assert first.acquire(0)
    names.broken = ("remove",)
    first.release()
    names.broken = ()
    second = Claim(names, "p.", ["aa"], time.clock())
    assert second.acquire(60)
    assert time.now < 100 + 35


def test_fifty_killed_holders_of_one_thing_leave_nothing() -> None:
    names, time = Names(), Time()
    for number in range(50):
        began = time.now
        assert Claim(names, "p.", ["aa"], time.clock()).acquire(60)
        assert time.now - began < 35, number
    last = Claim(names, "p.", ["aa"], time.clock())
    assert last.acquire(60)
    last.release()
    assert names.names == set()


@pytest.mark.slow
def test_killed_holders_that_nobody_waits_for_do_not_add_up() -> None:
    names, time = Names(), Time()
    for number in range(400):
        assert Claim(names, "p.", [f"{number:04x}"], time.clock()).acquire(0)
    assert len(names.names) == 800
    time.now += 15 * 3600
    assert Claim(names, "p.", ["ffff"], time.clock()).acquire(0)
    assert len(names.names) == 802
    time.now += 2 * 3600
    late = Claim(names, "p.", ["eeee"], time.clock())
    assert late.acquire(0)
    assert len(names.names) == 4


@pytest.mark.parametrize("seconds", [2, 9])
def test_a_store_that_is_slow_only_takes_its_time(seconds: float) -> None:
    time = Time()

    class Slow(Names):
        def list(self, prefix: str) -> Sequence[str]:
            time.sleep(seconds)
            return super().list(prefix)

        def add(self, name: str) -> None:
            time.sleep(seconds)
            super().add(name)

        def remove(self, name: str) -> None:
            time.sleep(seconds)
            super().remove(name)

    names = Slow()
    for _ in range(3):
        claim = Claim(names, "p.", [f"{number:04x}" for number in range(30)], time.clock())
        assert claim.acquire(0)
        assert claim.check() > time.now
        claim.release()
    assert names.names == set()


@pytest.mark.parametrize("seconds", [10, 12, 19, 30, 100])
def test_a_store_that_is_too_slow_to_keep_a_claim_ends_it(seconds: float) -> None:
    """Each beat would be due again by the time that the last one is written."""
    time = Time()

    class Slow(Names):
        def add(self, name: str) -> None:
            assert len(self.names) < 10, "it beats for ever"
            time.sleep(seconds)
            super().add(name)

    names = Slow()
    claim = Claim(names, "p.", ["aa"], time.clock())
    with pytest.raises(ClaimLost):
        claim.acquire(900)
    claim.release()
    assert names.names == set()


def test_a_claim_whose_store_becomes_slow_is_lost() -> None:
    time, seconds = Time(), [0.0]

    class Slow(Names):
        def add(self, name: str) -> None:
            assert len(self.names) < 10, "it beats for ever"
            time.sleep(seconds[0])
            super().add(name)

    claim = Claim(Slow(), "p.", ["aa"], time.clock())
    assert claim.acquire(0)
    time.now += 11
    seconds[0] = 12.0
    with pytest.raises(ClaimLost):
        claim.keep()


def test_a_page_that_is_nearly_full_is_a_look_and_a_full_one_is_not() -> None:
    names, time = Names(), Time()
    names.names = {f"p.x{number}" for number in range(997)}
    assert Claim(names, "p.", ["aa"], time.clock()).acquire(0)
    with pytest.raises(StoreFailed, match="too many"):
        Claim(names, "p.", ["bb"], time.clock()).acquire(0)


def test_a_thousand_names_are_too_many() -> None:
    names, time = Names(), Time()
    names.names = {f"p.x{number}" for number in range(1000)}
    with pytest.raises(StoreFailed, match="too many"):
        Claim(names, "p.", ["aa"], time.clock()).acquire(0)
