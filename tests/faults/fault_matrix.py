"""The fault matrix: which failure, in which call, on which bases, in which try; what it costs; what is left.

Run by ``test_matrix.py``; ``scripts/recovery_table.py`` writes what it finds into ``docs/recovery.md``.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

from fault_world import Killed, World

from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.errors import CloseAIError
from airflow_provider_closeai.provisioning import runner
from airflow_provider_closeai.provisioning.health import look
from airflow_provider_closeai.provisioning.requests import CreateRequest, DeleteRequest, RepriceRequest

DOCUMENT = Path(__file__).parents[2] / "docs" / "recovery.md"
BEGIN, END = "<!-- generated: begin -->", "<!-- generated: end -->"
STALE = f"docs/{DOCUMENT.name} is stale: run python scripts/recovery_table.py"

ALIAS, WANTED = "team-a", 3
OLD, NEW = {"gpt-4": 1, "claude-3": "0.5"}, {"gpt-4o": "1.5"}
LAG = 10.0  # the listing shows a change so many seconds later; create's settle is 30
SOON = 5.0  # seconds between tries: sooner than the listing tells the truth
MUCH_LATER = 3601.0  # discovery's answer is too old by then

#: Fault -> how the document calls it.
FAULTS = {
    "refused": "connection refused",
    "dns": "DNS failure",
    "connect_timeout": "connect timeout",
    "hang": "no answer (hang)",
    "cut_before": "cut before the work",
    "cut_after": "cut after the work",
    "error_after": "5xx after the work",
    "garbage": "unreadable 200 after the work",
    "rate_limit_after": "429 with Retry-After: 7",
    "rate_limit": "429 without Retry-After",
    "parked": "parked domain (a web page)",
}
#: Kind of call -> the call of the API that meets the fault.
CALLS = {
    "list": "list",
    "list in a create": "list",
    "create": "create",
    "update": "update",
    "delete": "delete",
    "discovery": "links",
    "health": "healthy",
}
PLACES = {"one": "first base", "all": "all bases"}
TRIES = {"first": "first try", "later": "later try"}


@dataclass(frozen=True)
class Cell:
    """One combination."""

    fault: str
    call: str
    place: str
    when: str

    @property
    def name(self) -> str:
        return "-".join(astuple(self)).replace(" ", "_")


CELLS = [
    Cell(*axes)
    for axes in itertools.product(FAULTS, CALLS, PLACES, TRIES)
    if axes[1:3] != ("discovery", "one")  # discovery has one host of its own
]


@dataclass(frozen=True)
class Row:
    """What a cell comes to, as the document shows it."""

    call: str
    fault: str
    place: str
    when: str
    wire: str
    waited: str
    outcome: str
    message: str
    left: str
    retry: str


def run_cell(cell: Cell) -> Row:
    """Let a cell happen; raises where it breaks a promise."""
    with World(list_lag=LAG, alias_filter="substring") as world:
        return _Run(cell, world).row()


class _Run:
    def __init__(self, cell: Cell, world: World) -> None:
        self.cell, self.world, self.sim = cell, world, world.sim
        self.task = "create" if cell.call in ("list in a create", "discovery") else cell.call
        self.struck = False
        for _ in range({"create": 1, "health": 0}.get(self.task, 2)):
            self.sim.add_account(ALIAS, [{"model": m, "pricing_factor": float(f)} for m, f in OLD.items()])
        self.others = [self.sim.add_account("team-a-eu"), self.sim.add_account("team")]
        self.seeded = self.sim.accounts()
        self.number = 0

    def row(self) -> Row:
        world = self.world
        if self.cell.when == "later":
            self._kill_the_first_try()
            world.clock.advance(MUCH_LATER if self.cell.call in ("discovery", "health") else SOON)
        self._plan()
        result, error, waited = self._try()
        wire = self._wire()
        message = "" if error is None else _head(world.without_addresses(str(error)))
        outcome = self._outcome(result, error)
        left = self._left()
        self._mend()
        world.clock.advance(300.0 if self.cell.call in ("discovery", "health") else SOON)
        retry = self._retry(needed=error is not None or (self.task == "health" and result is None))
        world.clock.advance(LAG)
        self._retry(needed=False)
        self._promises_are_kept()
        return Row(
            call=self.cell.call,
            fault=FAULTS[self.cell.fault],
            place="discovery" if self.cell.call == "discovery" else PLACES[self.cell.place],
            when=TRIES[self.cell.when],
            wire=wire,
            waited=f"{waited:.0f} s" if waited >= 0.5 else "-",
            outcome=outcome,
            message=message,
            left=left,
            retry=retry,
        )

    def _run_task(self, client: CloseAIClient) -> Any:
        if self.task == "list":
            return list(client.iter_sub_accounts(alias=ALIAS))
        if self.task == "create":
            want = CreateRequest.parse(ALIAS, OLD, 100, WANTED, batch_size=1)
            this_try = runner.Try(task="dag/run/create/-1", is_retry=self.number > 1)
            return runner.create(client, want, this_try)
        if self.task == "update":
            return runner.reprice(client, RepriceRequest.parse(NEW, alias=ALIAS, batch_size=1))
        if self.task == "delete":
            return runner.delete(client, DeleteRequest.parse(alias=ALIAS, batch_size=1))
        return look(lambda: client, "any")

    def _try(self, crash_in: int | None = None) -> tuple[Any, BaseException | None, float]:
        """Run the task as a process of its own would, and see how long it waited."""
        self.number += 1
        self.world.wire.clear()
        client, begin = self.world.client(), self.world.clock.now
        [(result, error)] = self.world.clock.run([(lambda: self._run_task(client), crash_in)])
        self.world.close_sessions()
        if error is not None and not isinstance(error, CloseAIError | Killed):
            raise error
        self.world.assert_no_key(error)
        return result, error, self.world.clock.now - begin

    def _kill_the_first_try(self) -> None:
        """The platform does the task's first write (or read), and the answer finds no one."""
        main = "healthy" if self.task == "health" else self.task

        def kill(call: str, base: str) -> None:
            if call == main:
                raise Killed

        self.world.after = kill
        _, error, _ = self._try()
        self.world.after = None
        assert isinstance(error, Killed)

    def _plan(self) -> None:
        fault, call = self.cell.fault, CALLS[self.cell.call]
        kind, options = fault, {}
        if fault == "rate_limit_after":
            kind, options = "rate_limit", {"retry_after": 7}
        places = self.sim.base_urls[:1] if self.cell.place == "one" else [*self.sim.base_urls]
        if fault == "hang":
            self.world.impatient = lambda sent, base: sent == call and (call == "links" or base in places)
        if fault == "connect_timeout":
            self.world.impatient = lambda sent, base: int(base.rsplit(":", 1)[1]) in self.world.unanswered
        if fault not in ("refused", "dns", "connect_timeout"):
            base = 0 if self.cell.place == "one" else None
            self.sim.fault(call, kind, base=base, times=None, **options)
            return

        def strike(sent: str, base: str) -> None:
            if sent == call and not self.struck:
                self.struck = True
                self._break_the_network(fault)

        self.world.before = strike

    def _break_the_network(self, fault: str) -> None:
        """From now on nothing new reaches the hosts; what was connected is cut."""
        hosts: list[tuple[str, Callable[[], None], Callable[[], None]]] = [
            (
                url,
                lambda index=index: self.sim.stop_base(index),
                lambda index=index: self.sim.start_base(index),
            )
            for index, url in enumerate(self.sim.base_urls)
        ]
        if self.cell.call == "discovery":
            hosts = [(self.sim.discovery_url, self.sim.stop_discovery, self.sim.start_discovery)]
        elif self.cell.place == "one":
            hosts = hosts[:1]
        for url, stop, start in hosts:
            stop()
            if fault != "refused":
                start()
            port = int(url.rsplit(":", 1)[1])
            if fault == "dns":
                self.world.unresolved.add(port)
            if fault == "connect_timeout":
                self.world.unanswered.add(port)

    def _mend(self) -> None:
        self.sim.clear_faults()
        self.world.before = None
        self.world.impatient = lambda call, base: False
        self.world.unresolved.clear()
        self.world.unanswered.clear()
        self.sim.start_discovery()
        for index in range(len(self.sim.base_urls)):
            self.sim.start_base(index)

    def _retry(self, needed: bool) -> str:
        result, error, waited = self._try()
        assert error is None, f"the clean run after it fails: {error!r}"
        assert self.task != "health" or result == self.sim.base_urls[0], "it ends on another base"
        wire = self._wire()
        writes = [sent.call for sent in self.world.wire if sent.call in ("create", "update", "delete")]
        assert needed or not writes, f"running it again writes: {writes}"
        return f"succeeds after {waited:.0f} s: {wire}" if needed else "not needed"

    def _outcome(self, result: Any, error: BaseException | None) -> str:
        if error is None:
            if self.task == "create":
                assert len(result) == WANTED
                assert {account.alias for account in result} == {ALIAS}
            if self.task == "health":
                return f"success: use {self.world.place(result)}" if result else "not yet (looks again)"
            return "success"
        assert isinstance(error, CloseAIError)
        return f"{type(error).__name__}, {'permanent' if error.permanent else 'retried'}"

    def _left(self) -> str:
        """Say what the platform holds after the faulty try."""
        mine = self.sim.accounts(ALIAS)
        if self.task == "create":
            return f"{len(mine)} of {WANTED}"
        if self.task == "update":
            new = sum(_factors(account) == _factors_of({**OLD, **NEW}) for account in mine)
            return f"{new} of 2 repriced"
        if self.task == "delete":
            return f"{2 - len(mine)} of 2 deleted"
        return "unchanged"

    def _wire(self) -> str:
        """Write the attempts in short: ``list@A, create@A ✗, list@A ×3``."""
        names = {"links": "discovery", "healthy": "health"}
        told = [
            f"{names.get(sent.call, sent.call)}@{self.world.place(sent.base)}"
            f"{'' if sent.attempt.outcome.name == 'EXECUTED' else ' ✗'}"
            for sent in self.world.wire
        ]
        groups = [(text, len(list(group))) for text, group in itertools.groupby(told)]
        return ", ".join(f"{text} ×{count}" if count > 1 else text for text, count in groups)

    def _promises_are_kept(self) -> None:
        """The end is the same in every cell."""
        now = {account["id"]: account for account in self.sim.accounts()}
        for account in self.others:
            assert now.pop(account["id"]) == account, "an account that was not selected was changed"
        assert all(account["alias"] == ALIAS for account in now.values()), "an account was renamed"
        mine = {account["id"] for account in self.seeded if account["alias"] == ALIAS}
        if self.task == "delete":
            assert not now
            for account_id in mine:
                told = rf"Sub-account {account_id} \('{ALIAS}', .*is deleted, last seen with: monthly_cost 0,"
                assert any(re.search(told, line) for line in self.world.log), "a last cost is not recorded"
            return
        assert mine <= now.keys(), "an account was deleted"
        expected = {**OLD, **NEW} if self.task == "update" else OLD
        assert all(_factors(account) == _factors_of(expected) for account in now.values())
        assert len(now) == (WANTED if self.task == "create" else len(mine))


def _factors(account: dict[str, Any]) -> dict[str, float]:
    return {entry["model"]: float(entry["pricing_factor"]) for entry in account["model_pricing"]}


def _factors_of(pricing: dict[str, Any]) -> dict[str, float]:
    return {model: float(factor) for model, factor in pricing.items()}


def _head(message: str) -> str:
    """Keep as much of a message as a person needs to find it again."""
    return message if len(message) <= 80 else message[:80].rsplit(" ", 1)[0] + " …"


# --- The document ---

_HEADS = [
    "what failed",
    "where",
    "when",
    "sent",
    "waits",
    "outcome of the try",
    "its message begins",
    "left by the try",
    "the retry",
]


def render(rows: Iterable[Row]) -> str:
    """Write the generated part of the document. A function of the rows alone."""
    rows = list(rows)
    parts = [_summary(rows), _errors(rows), "## The full matrix\n"]
    for call in CALLS:
        mine = [row for row in rows if row.call == call]
        parts.append(
            f"<details>\n<summary>{call}: {len(mine)} cells</summary>\n\n{_table(mine)}\n</details>\n"
        )
    return "\n".join(parts)


def parse(text: str) -> dict[str, Row]:
    """Read the full matrix back from the document: a row by its cell's name."""
    generated = text[text.index(BEGIN) : text.index(END)]
    known = {
        (call, FAULTS[fault], "discovery" if call == "discovery" else PLACES[place], TRIES[when]): Cell(
            fault, call, place, when
        )
        for fault, call, place, when in (astuple(cell) for cell in CELLS)
    }
    rows: dict[str, Row] = {}
    call = ""
    for line in generated.splitlines():
        if found := re.match(r"<summary>(.*): \d+ cells</summary>", line):
            call = found[1]
        if line.startswith("| ") and call:
            values = [value.strip() for value in line.strip("|").split(" | ")]
            if len(values) == len(_HEADS) and values != _HEADS:
                row = Row(
                    call, *("" if value == "-" and at != 4 else value for at, value in enumerate(values))
                )
                rows[known[row.call, row.fault, row.place, row.when].name] = row
    return rows


def updated(text: str, rows: Iterable[Row]) -> str:
    """Put the generated part into the document."""
    return f"{text[: text.index(BEGIN)]}{BEGIN}\n\n{render(rows)}\n{text[text.index(END) :]}"


def _table(rows: Iterable[Row]) -> str:
    lines = [f"| {' | '.join(_HEADS)} |", "|---" * len(_HEADS) + "|"]
    names = [field.name for field in fields(Row)][1:]
    lines += [f"| {' | '.join(getattr(row, name) or '-' for name in names)} |" for row in rows]
    return "\n".join(lines) + "\n"


_DO = {
    "connection refused": "every base: check the network from the worker to the bases",
    "DNS failure": "every base: check the worker's DNS",
    "connect timeout": "every base: check firewall and proxy",
    "no answer (hang)": "if every try ends so: raise `read_timeout`",
    "cut before the work": "",
    "cut after the work": "",
    "5xx after the work": "",
    "unreadable 200 after the work": "if every try ends so: the API has changed, report the message",
    "429 with Retry-After: 7": "fewer tasks at once (a pool), or a larger `deadline`",
    "429 without Retry-After": "fewer tasks at once (a pool), or a larger `deadline`",
    "parked domain (a web page)": "every base: the platform has moved, ask it for the discovery host",
}
_ACCOUNT_CALLS = ("list", "list in a create", "create", "update", "delete")
_READS = ("list", "list in a create")


def _summary(rows: list[Row]) -> str:
    lines = [
        "## What each failure costs\n",
        "Waits come on top of the timeouts. The retry is Airflow's own.\n",
        "| what failed | on the first base | on every base | what you do |",
        "|---|---|---|---|",
    ]
    for fault in FAULTS.values():
        mine = [row for row in rows if row.fault == fault and row.call in _ACCOUNT_CALLS]
        one, every = ([row for row in mine if row.place == place] for place in PLACES.values())
        lines.append(f"| {fault} | {_cost(one)} | {_cost(every)} | {_DO[fault] or 'nothing'} |")
    lines += [f"| {text} | nothing |" for text in _elsewhere(rows)]
    counts = sorted({row.left for row in rows if row.left.endswith(f"of {WANTED}")})
    assert counts[-1] == f"{WANTED} of {WANTED}"
    lines.append(
        f"\nA create of {WANTED} left behind {counts[0][0]} to {WANTED} accounts after the try, and exactly "
        f"{WANTED} after its retry,\nin each of its {sum(row.call in _CREATES for row in rows)} cells."
    )
    return "\n".join(lines) + "\n"


_CREATES = ("list in a create", "create", "discovery")


def _elsewhere(rows: list[Row]) -> Iterable[str]:
    """Discovery and health, where every failure costs the same."""
    found: dict[str, str] = {}
    for call, place in (("discovery", "discovery"), ("health", PLACES["one"]), ("health", PLACES["all"])):
        for when in TRIES.values():
            mine = [row for row in rows if (row.call, row.place, row.when) == (call, place, when)]
            outcomes = {row.outcome for row in mine}
            assert len(outcomes) == 1, f"{call}, {place}, {when}: {outcomes}"
            outcome = outcomes.pop()
            cost = "nothing fails" if outcome.startswith("success") else f"`{outcome}`; the retry succeeds"
            if place == PLACES["one"]:
                found[when] = outcome
            elif call == "health":
                yield f"health, any failure, {when} | {found[when]} | {outcome}"
            else:
                known = "no base known yet" if when == TRIES["first"] else "bases of an hour ago known"
                yield f"discovery, any failure, {known} | - | {cost}"


def _cost(rows: list[Row]) -> str:
    failing = [call for call in _ACCOUNT_CALLS if any(row.call == call and _fails(row) for row in rows)]
    fine = [row for row in rows if row.call not in failing]
    waits = max((_seconds(row.waited) for row in fine), default=0)
    again = max((_seconds(row.retry.split(":")[0]) for row in rows if row.retry != "not needed"), default=0)
    if not failing:
        return f"nothing fails; waits up to {waits} s"
    if len(failing) == len(_ACCOUNT_CALLS):
        return f"the try fails; the retry succeeds, waits up to {again} s"
    assert tuple(failing) == _READS
    return f"a read fails, and its retry succeeds; writes succeed, wait up to {waits} s"


def _fails(row: Row) -> bool:
    return not row.outcome.startswith("success")


def _seconds(text: str) -> int:
    found = re.search(r"(\d+) s", text)
    return int(found[1]) if found else 0


def _errors(rows: list[Row]) -> str:
    lines = [
        "## The error in your log\n",
        "| error | the message begins | after | what the try left, by call | the retry |",
        "|---|---|---|---|---|",
    ]
    for outcome in sorted({row.outcome for row in rows if _fails(row)}):
        mine = [row for row in rows if row.outcome == outcome]
        faults = list(dict.fromkeys(row.fault for row in mine))
        after = "any failure" if len(faults) == len(FAULTS) else ", ".join(faults)
        left = []
        for call in dict.fromkeys(row.call for row in mine):
            states = sorted({row.left for row in mine if row.call == call})
            left.append(
                f"{call}: {states[0]}" if len(states) == 1 else f"{call}: {states[0]} or {states[-1]}"
            )
        longest = max(_seconds(row.retry.split(":")[0]) for row in mine)
        begins = re.sub(r"^'.*?' (failed after) .*", r"'<call>' \1", mine[0].message).split(": ")[0]
        retry = f"succeeds, waits up to {longest} s" if longest else "succeeds at once"
        lines.append(f"| `{outcome}` | {begins or '-'} | {after} | {'; '.join(left)} | {retry} |")
    return "\n".join(lines) + "\n"
