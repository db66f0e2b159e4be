"""
The fault matrix: each cell breaks one call in one way, and must keep the promises that stand here.

What it sends on the way is no promise: it is one line of ``wire_traces.txt``.
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

from fault_kinds import FAULTS, Cell, Proof
from fault_strikes import Strikes
from fault_world import Killed, World

from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.errors import (
    AuthenticationFailed,
    CloseAIError,
    Declined,
    DiscoveryError,
    MaskedKeys,
    NotSent,
    OutcomeUnknown,
    RateLimited,
    UnreadableAccount,
)
from airflow_provider_closeai.provisioning import runner
from airflow_provider_closeai.provisioning.health import check_bases
from airflow_provider_closeai.provisioning.requests import CreateRequest, DeleteRequest, RepriceRequest

TRACES = Path(__file__).parent / "wire_traces.txt"

ALIAS, WANTED = "team-a", 3
OLD: dict[str, int | str] = {"gpt-4": 1, "claude-3": "0.5"}
NEW = {"gpt-4o": "1.5"}
LAG = 10.0  # the listing shows a change so many seconds later; create's settle is 30
SOON = 5.0  # seconds between tries: sooner than the listing tells the truth
AIRFLOW = 300.0  # Airflow's default between tries
MUCH_LATER = 3601.0  # discovery's answer is too old by then
WRITES = ("create", "update", "delete")

#: What an error says of what it proves, and of what to do.
_SAYS = {
    NotSent: "nothing was changed. Check the network",
    RateLimited: "asks to wait longer than the connection's 'deadline'.*nothing was changed",
    AuthenticationFailed: "the key is wrong .* or something on the way, a firewall or a CDN, blocks",
    Declined: "it says no: the request was declined",
    DiscoveryError: "No base is known: discovery at .* list it in the connection's extra 'api_bases'",
    MaskedKeys: "hides the keys .* Nothing was sent",
    UnreadableAccount: "cannot be read .*(no were created|Nothing was changed)",
}


def run_cell(cell: Cell) -> str:
    """Let a cell happen; raises where it breaks a promise. Returns its line of the traces."""
    with World(list_lag=LAG, alias_filter="substring") as world:
        return _Run(cell, world).line()


def expected(cell: Cell) -> type[CloseAIError] | None:
    """Return the error that the faulty try must end with, ``None``: it succeeds."""
    proof, call = FAULTS[cell.fault].proof, cell.call
    if proof is Proof.HARMLESS or call == "health":  # the sensor waits, it does not fail
        return None
    if call == "discovery":  # with bases of an hour ago nothing fails
        return DiscoveryError if cell.when == "first" else None
    always = {Proof.THROTTLED: RateLimited, Proof.DECLINED: Declined}.get(proof)
    if always:  # the platform's own word, which another base would only repeat
        return always
    if proof is Proof.UNREADABLE:
        return None if call == "list" else UnreadableAccount
    if proof is Proof.MASKED:
        return MaskedKeys if call in ("delivery", "update", "delete") else None
    if proof is Proof.MOVED:  # an answer of less than a minute ago is believed for this try
        return NotSent if cell.when == "first" else None
    if cell.place == "one":
        return None  # the other base serves it
    if proof is Proof.NOT_SENT:
        # What hung on a connection that was open may have been read.
        on_open = cell.fault == "swallowed" and call in ("update", "delete")
        return OutcomeUnknown if on_open else NotSent
    if proof is Proof.DONE and call in WRITES:
        return None  # the listing shows that it was done
    return AuthenticationFailed if proof is Proof.SHUT_OUT and call == "list" else OutcomeUnknown


class _Run(Strikes):
    def __init__(self, cell: Cell, world: World) -> None:
        super().__init__(cell, world)
        creates = ("list in a create", "discovery", "delivery")
        self.task = "create" if cell.call in creates else cell.call
        self.number = 0
        for _ in range({"create": 1, "health": 0}.get(self.task, 2)):
            self.sim.add_account(ALIAS, [{"model": m, "pricing_factor": float(f)} for m, f in OLD.items()])
        self.others = [self.sim.add_account("team-a-eu"), self.sim.add_account("team")]
        self.seeded = self.sim.accounts()

    def line(self) -> str:
        world, cell = self.world, self.cell
        planned = None
        if cell.when == "later":
            if self.fault.from_the_first:
                planned = self.strike()
            self._kill_the_first_try()
            waits = {"discovery": MUCH_LATER, "health": MUCH_LATER}
            world.clock.advance(120.0 if cell.fault == "moved" else waits.get(cell.call, SOON))
        planned = planned or self.strike()
        before = self._done()
        result, error, waited = self._try()
        hits = getattr(planned, "hits", 1)
        assert (hits == 0) == (cell.fault == "cut_reused" and cell.call == "create"), "a create rode on it"
        self._ends_as_promised(result, error)
        self._leaves_what_it_says(before, error)
        parts = [cell.name, f"{waited:.0f} s", self._wire()]
        self.mend()
        slow = cell.call in ("discovery", "health") or cell.fault == "moved"
        world.clock.advance(AIRFLOW if slow else SOON)
        waited = self._again(needed=error is not None or (self.task == "health" and result is None))
        parts += [f"{waited:.0f} s", self._wire()]
        world.clock.advance(LAG)
        self._again(needed=False)
        self._all_is_well()
        return " | ".join(parts)

    def _run_task(self, client: CloseAIClient) -> Any:
        if self.task == "list":
            return list(client.iter_sub_accounts(alias=ALIAS))
        if self.task == "create":
            # A part of a batch needs a batch of two.
            size = 2 if self.cell.fault == "no_after_a_part" else 1
            request = CreateRequest.parse(ALIAS, OLD, 100, WANTED, batch_size=size)
            this_try = runner.Try(task="dag/run/create/-1", is_retry=self.number > 1)
            return runner.create(client, request, this_try, needs_keys=self.cell.call == "delivery")
        if self.task == "update":
            return runner.reprice(client, RepriceRequest.parse(NEW, alias=ALIAS, batch_size=1))
        if self.task == "delete":
            return runner.delete(client, DeleteRequest.parse(alias=ALIAS, batch_size=1))
        return check_bases(lambda: client, "any").base

    def _try(self) -> tuple[Any, BaseException | None, float]:
        """Run the task as a process of its own would, and see how long it waited."""
        self.number += 1
        self.world.wire.clear()
        client, begin = self.world.client(), self.world.clock.now
        [(result, error)] = self.world.clock.run([(lambda: self._run_task(client), None)])
        self.world.close_sessions()
        if error is not None and not isinstance(error, CloseAIError | Killed):
            raise error
        self.world.assert_no_key(error)
        return result, error, self.world.clock.now - begin

    def _kill_the_first_try(self) -> None:
        """The platform does the task's first write (or read), and the answer finds no one."""

        def kill(call: str, base: str) -> None:
            if call == self.task:
                raise Killed

        self.world.after = kill
        _, error, _ = self._try()
        self.world.after = None
        assert isinstance(error, Killed)

    # --- What is promised ---

    def _ends_as_promised(self, result: Any, error: BaseException | None) -> None:
        """What the user is told: the right error, retried or not, the base, the proof, the next step."""
        wanted_error = expected(self.cell)
        assert (None if error is None else type(error)) is wanted_error, f"it ends with {error!r}"
        if self.task == "health":
            ill = self.fault.proof is not Proof.HARMLESS
            served = [url for url in self.sim.base_urls[int(ill) :] if not ill or self.cell.place == "one"]
            assert result == (served[0] if served else None)
        if self.fault.proof is Proof.HARMLESS and self.task != "health":
            bases = {sent.base for sent in self.world.wire if sent.call != "links"}
            assert bases == {self.sim.base_urls[0]}, "it left a base that is well"
        if error is None:
            if self.task == "create":
                assert len(result) == WANTED
                assert {account.alias for account in result} == {ALIAS}
            if self.task == "list":
                spoiled = self.fault.kind == "spoil"
                assert len(result) == (1 if spoiled else 2), "an account that can be read is left out"
                if spoiled:
                    self._names_the_spoiled("\n".join(self.world.log))
            return
        assert isinstance(error, CloseAIError)
        text = str(error)
        assert error.permanent == (wanted_error in (AuthenticationFailed, MaskedKeys))
        if wanted_error is OutcomeUnknown:
            said = "Nothing was changed: it only reads" if self.call == "list" else "may have been executed"
        else:
            assert wanted_error is not None
            said = _SAYS[wanted_error]
            sent = [each.attempt for each in self.world.wire if each.call in WRITES]
            in_doubt = [each for each in sent if each.outcome.name == "UNKNOWN" and not each.is_stale]
            assert not in_doubt, "a write is in doubt, and the error does not say so"
        assert re.search(said, text), text
        if wanted_error is Declined and self.call == "create":
            assert re.search(rf"has [12] of {WANTED} sub-accounts: ids \[1", text), text
        if wanted_error is UnreadableAccount:
            self._names_the_spoiled(text)
        elif wanted_error is MaskedKeys:
            assert str(self.seeded[0]["id"]) in text
        else:
            hosts = [self.sim.discovery_url] if self.cell.call == "discovery" else self._known_bases()
            assert any(host in text for host in hosts), f"it names no base: {text}"
            assert error.base in hosts

    def _known_bases(self) -> list[str]:
        return [sent.base for sent in self.world.wire if sent.call == self.call]

    def _names_the_spoiled(self, text: str) -> None:
        account_id = self.seeded[0]["id"]
        assert re.search(rf"[Ss]ub-account {account_id} |id {account_id}:", text), f"it is not named: {text}"

    def _leaves_what_it_says(self, before: int, error: BaseException | None) -> None:
        """What exists after the faulty try."""
        after = self._done()
        if error is None and self.task in WRITES:
            assert after == {"create": WANTED}.get(self.task, 2)
        else:  # an error after a post that was not done, or was done in part
            assert after == before + self.fault.options.get("made", 0)
        writes = [sent for sent in self.world.wire if sent.call in WRITES]
        if self.fault.proof in (Proof.MASKED, Proof.UNREADABLE) and error is not None:
            assert not writes, "it sent something"
        if self.fault.proof is Proof.DECLINED and self.call in ("delete", "update"):
            met = [str(request.body) for request in self.sim.requests if request.fault]
            assert len(met) == len(set(met)), "what was declined is sent again"
        elif self.fault.proof is Proof.DECLINED and self.call in WRITES:
            assert len(writes) == 1, "what was declined is sent again"

    def _again(self, needed: bool) -> float:
        """Run the task again, with all mended: it succeeds, does only what is missing, meets no failure."""
        result, error, waited = self._try()
        assert error is None, f"the clean run after it fails: {error!r}"
        assert self.task != "health" or result == self.sim.base_urls[0], "it ends on another base"
        writes = [sent.call for sent in self.world.wire if sent.call in WRITES]
        assert needed or not writes, f"running it again writes: {writes}"
        asked = [sent for sent in self.world.wire if sent.call != "healthy"]
        if self.fault.proof is not Proof.MOVED:
            assert all(sent.attempt.outcome.name == "EXECUTED" for sent in asked), "it asked who was ill"
        if self.fault.proof in (Proof.THROTTLED, Proof.DECLINED, Proof.HARMLESS, Proof.MASKED) and asked:
            assert asked[-1].base == self.sim.base_urls[0], "a base is held to be ill that was not"
        return waited

    def _all_is_well(self) -> None:
        """The end is the same in every cell."""
        now = {account["id"]: account for account in self.sim.accounts()}
        for account in self.others:
            assert now.pop(account["id"]) == account, "an account that was not selected was changed"
        assert all(account["alias"] == ALIAS for account in now.values()), "an account was renamed"
        mine = {account["id"] for account in self.seeded if account["alias"] == ALIAS}
        if self.task == "delete":
            assert not now
            for account_id in mine:
                told = (
                    rf"Sub-account {account_id} \('{ALIAS}', .*to be deleted, last seen with: monthly_cost 0,"
                )
                assert any(re.search(told, line) for line in self.world.log), "a last cost is not recorded"
            return
        assert mine <= now.keys(), "an account was deleted"
        prices = {**OLD, **NEW} if self.task == "update" else OLD
        assert all(_factors(account) == _floats(prices) for account in now.values())
        assert len(now) == (WANTED if self.task == "create" else len(mine))

    def _done(self) -> int:
        """Count what of the task is done: accounts that are there, repriced, or gone."""
        mine = self.sim.accounts(ALIAS)
        if self.task == "update":
            return sum(_factors(account) == _floats({**OLD, **NEW}) for account in mine)
        return 2 - len(mine) if self.task == "delete" else len(mine)

    def _wire(self) -> str:
        """Write the attempts in short: ``list@A ×2, create@A ✗``."""
        names = {"links": "discovery", "healthy": "health"}
        told = [
            f"{names.get(sent.call, sent.call)}@{self.world.place(sent.base)}"
            f"{'' if sent.attempt.outcome.name == 'EXECUTED' else ' ✗'}"
            for sent in self.world.wire
        ]
        groups = [(text, len(list(group))) for text, group in itertools.groupby(told)]
        return ", ".join(f"{text} ×{count}" if count > 1 else text for text, count in groups) or "nothing"


def _factors(account: dict[str, Any]) -> dict[str, float]:
    return {entry["model"]: float(entry["pricing_factor"]) for entry in account["model_pricing"]}


def _floats(pricing: dict[str, Any]) -> dict[str, float]:
    return {model: float(factor) for model, factor in pricing.items()}
