"""A lock over a store of names: Lamport's bakery, as one claimant runs it.

The store is slow, shared, and may fail, deliver late or twice. So all state is in *names*, each written once
and never overwritten, and each claimant writes names of its own only::

    <claimant>.p<part>of<parts>.<elements>    what it claims: written first, and says that it is choosing
    <claimant>.t<ticket>                      its number: one more than every number it saw
    <claimant>.b<beat>                        it still lives

A claimant waits for those that are choosing, and for those with a smaller number, as far as they claim the
same. All of a set is claimed by one number, so sets that overlap cannot wait for each other in a circle.

A claim is a lease. It counts from before its newest name was written; others count from when they first saw
that name, which is later. Who was silent for a whole lease is dead, and its names may be removed; a write
that took until then is too late. One that took a third of it is too slow: the next beat would be due at once,
and so for ever. Nobody's clock is compared with another's.

No I/O and no clock here: :meth:`Contender.next_step` says what to do, and what came of it is reported. Each
report returns a new contender.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

#: Elements in one name: Airflow keeps 250 characters of a Variable's key.
ELEMENTS_PER_NAME = 9
_NAME = re.compile(
    r"(?P<claimant>[0-9a-f]+)\."
    r"(?:p(?P<part>\d+)of(?P<parts>\d+)\.(?P<elements>[0-9a-f.]+)|t(?P<ticket>\d+)|b(?P<beat>\d+))"
)


class Add(msgspec.Struct, frozen=True):
    """Write this name."""

    name: str


class Remove(msgspec.Struct, frozen=True):
    """Remove these names; it does not matter if that fails."""

    names: tuple[str, ...]


class Look(msgspec.Struct, frozen=True):
    """List all names."""


class Wait(msgspec.Struct, frozen=True):
    """Wait a moment, then look."""


class Held(msgspec.Struct, frozen=True):
    """The claim is held; ask again before ``until``."""

    until: float


class Lost(msgspec.Struct, frozen=True):
    """The claim was silent for too long, or somebody removed it: others may be in."""


Step = Add | Remove | Look | Wait | Held | Lost


class Seen(msgspec.Struct, frozen=True):
    """
    What the names say of one claimant.

    :param elements: what it claims; ``None``: not all of it is known.
    :param ticket: its number; 0: it is choosing.
    :param progress: grows with each name that it writes, whatever is removed or comes twice.
    :param names: all of them.
    """

    elements: frozenset[str] | None
    ticket: int
    progress: tuple[int, int, int]
    names: tuple[str, ...]

    @property
    def has_gone(self) -> bool:
        """Whether no part of its set is there: what is there came late, or is being removed."""
        return self.progress[-1] == 0


def read_names(names: Iterable[str]) -> dict[str, Seen]:
    """Return what names say, by claimant; names of another form are no claim."""
    by_claimant: dict[str, list[re.Match[str]]] = {}
    for match in map(_NAME.fullmatch, sorted(set(names))):
        if match is not None:
            by_claimant.setdefault(match["claimant"], []).append(match)
    return {claimant: _seen(matches) for claimant, matches in by_claimant.items()}


def _seen(matches: Sequence[re.Match[str]]) -> Seen:
    announced = [match for match in matches if match["part"] is not None]
    parts = {int(match["part"]): match["elements"].split(".") for match in announced}
    is_whole = bool(parts) and len(parts) == int(announced[-1]["parts"])
    elements = frozenset[str]().union(*parts.values()) if is_whole else None
    ticket = max(int(match["ticket"] or 0) for match in matches)
    beat = max(int(match["beat"] or 0) for match in matches)
    return Seen(elements, ticket, (beat, ticket, len(parts)), tuple(match[0] for match in matches))


class Contender(msgspec.Struct, frozen=True, kw_only=True):
    """
    One claimant. Make it with :func:`contender`.

    :param claimant: names it; nobody else ever had this name.
    :param elements: what it claims.
    :param lease: seconds.
    """

    claimant: str
    elements: frozenset[str]
    lease: float
    names: tuple[str, ...] = ()  # that it wrote, as far as it knows
    unwritten: tuple[str, ...] = ()  # of its announcement
    ticket: int = 0
    beat: int = 0
    is_next: bool = False  # nobody is before it any more
    must_look: bool = True
    is_lost: bool = False
    written_at: float = 0.0  # from before the newest of its names was written
    others: Mapping[str, tuple[tuple[int, int, int], float]] = {}  # their progress, and since when
    dead: tuple[str, ...] = ()  # names of dead claimants

    def next_step(self, now: float) -> Step:
        """
        Say what to do next.

        :param now: the time, by a counter that runs on in suspend.
        """
        if self.is_lost or (self.names and now >= self.until):
            return Lost()
        if self.unwritten:
            return Add(self.unwritten[0])
        if self.ticket == 0:
            return Look()  # reported, it has a ticket to write
        if self._ticket_name not in self.names:
            return Add(self._ticket_name)
        old_beats = [name for name in self.names if _is_beat(name)][:-1]
        # In a slow store they stay until the end: once they are removed the next beat is due, for ever.
        if old_beats and now < self.written_at + self.lease / 6:
            return Remove(tuple(old_beats))
        if now >= self.written_at + self.lease / 3:
            return Add(f"{self.claimant}.b{self.beat + 1}")
        if self.dead:
            return Remove(self.dead)
        if self.is_next:
            return Held(self.until)
        return Look() if self.must_look else Wait()

    @property
    def until(self) -> float:
        """When the lease ends."""
        return self.written_at + self.lease

    @property
    def _ticket_name(self) -> str:
        return f"{self.claimant}.t{self.ticket}"

    def added(self, name: str, began: float, ended: float) -> Contender:
        """
        Report that a name was written.

        :param began: the time from before that.
        :param ended: the time after it.
        """
        is_too_late = bool(self.names) and ended >= self.until
        return msgspec.structs.replace(
            self,
            names=(*self.names, name),
            unwritten=tuple(each for each in self.unwritten if each != name),
            beat=self.beat + _is_beat(name),
            written_at=began,
            is_lost=self.is_lost or is_too_late or ended - began >= self.lease / 3,
            must_look=True,
        )

    def removed(self, names: Collection[str]) -> Contender:
        """Report that names were removed, or that it was tried."""
        return msgspec.structs.replace(
            self,
            names=tuple(name for name in self.names if name not in names),
            dead=tuple(name for name in self.dead if name not in names),
        )

    def waited(self) -> Contender:
        """Report that some time has passed."""
        return msgspec.structs.replace(self, must_look=True)

    def looked(self, names: Iterable[str], began: float, ended: float) -> Contender:
        """
        Report a listing that was begun after the last report.

        :param began: the time from before it.
        :param ended: the time after it.
        """
        there = read_names(names)
        mine = there.pop(self.claimant, None)
        if self.ticket == 0:
            ticket = 1 + max((seen.ticket for seen in there.values()), default=0)
            is_whole = mine is not None and mine.elements == self.elements
            return msgspec.structs.replace(self, ticket=ticket, is_lost=not is_whole)
        others = {
            claimant: (seen.progress, ended)
            if claimant not in self.others or seen.progress > self.others[claimant][0]
            else self.others[claimant]
            for claimant, seen in there.items()
        }
        dead = {
            name for name, (_, since) in others.items() if there[name].has_gone or began - since >= self.lease
        }
        before = [name for name, seen in there.items() if name not in dead and self._is_before(name, seen)]
        is_whole = mine is not None and mine.elements == self.elements and mine.ticket == self.ticket
        return msgspec.structs.replace(
            self,
            others=others,
            dead=tuple(name for claimant in sorted(dead) for name in there[claimant].names),
            is_next=self.is_next or not before,
            is_lost=not is_whole,
            must_look=False,
        )

    def _is_before(self, claimant: str, seen: Seen) -> bool:
        if seen.elements is not None and not seen.elements & self.elements:
            return False
        return seen.ticket == 0 or (seen.ticket, claimant) < (self.ticket, self.claimant)


def contender(claimant: str, elements: Collection[str], lease: float) -> Contender:
    """
    Make a contender that has written nothing yet.

    :param claimant: lower-case hexadecimal digits that nobody else ever had.
    :param elements: what it claims, in lower-case hexadecimal digits too.
    :param lease: seconds after which a silent claimant is dead.
    """
    ordered = sorted(set(elements))
    pieces = [ordered[at : at + ELEMENTS_PER_NAME] for at in range(0, len(ordered), ELEMENTS_PER_NAME)]
    names = [
        f"{claimant}.p{number}of{len(pieces)}.{'.'.join(piece)}" for number, piece in enumerate(pieces, 1)
    ]
    return Contender(claimant=claimant, elements=frozenset(elements), lease=lease, unwritten=tuple(names))


def _is_beat(name: str) -> bool:
    return re.fullmatch(r"[0-9a-f]+\.b\d+", name) is not None
