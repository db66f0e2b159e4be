"""A lock over a store of names: Lamport's bakery algorithm, from the view of one claimant.

The store is slow, shared, and may fail, deliver late or twice. So all state is in *names*, each written once
and never overwritten, and each claimant writes only its own names::

    <claimant>.p<part>of<parts>.<elements>    what it claims: written first, says that it is choosing
    <claimant>.t<ticket>                      its number: one more than the largest it saw
    <claimant>.b<beat>                        a heartbeat

A claimant waits for claimants that are choosing or have a smaller number, if their claims overlap with its
own. A whole set is claimed under one number, so overlapping sets cannot deadlock.

A claim is a lease. Its holder counts it from before writing its newest name; others count from when they
first saw that name, which is later. A claimant that was silent for a whole lease is dead, and its names may
be removed; a write that ends only then is too late. A write that takes a third of the lease is too slow: the
next beat would always be due at once. No clock is compared with another's.

There is no I/O and no clock here: :meth:`Contender.next_step` says what to do, and the caller reports the
result. Each report returns a new contender.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

#: Elements in one name: a Variable's key has at most 250 characters.
ELEMENTS_PER_NAME = 9
_NAME = re.compile(
    r"(?P<claimant>[0-9a-f]+)\."
    r"(?:p(?P<part>\d+)of(?P<parts>\d+)\.(?P<elements>[0-9a-f.]+)|t(?P<ticket>\d+)|b(?P<beat>\d+))"
)


class Add(msgspec.Struct, frozen=True):
    """Write this name."""

    name: str


class Remove(msgspec.Struct, frozen=True):
    """Remove these names; failure does not matter."""

    names: tuple[str, ...]


class Look(msgspec.Struct, frozen=True):
    """List all names."""


class Wait(msgspec.Struct, frozen=True):
    """Wait a moment, then look."""


class Held(msgspec.Struct, frozen=True):
    """The claim is held; ask again before ``until``."""

    until: float


class Lost(msgspec.Struct, frozen=True):
    """The claim was silent for too long or was removed: others may hold it."""


Step = Add | Remove | Look | Wait | Held | Lost


class Seen(msgspec.Struct, frozen=True):
    """
    What the names say of one claimant.

    :param elements: what it claims; ``None``: not completely known.
    :param ticket: its number; 0: it is choosing.
    :param progress: grows with each name that it writes, whatever is removed or written twice.
    :param names: all its names.
    """

    elements: frozenset[str] | None
    ticket: int
    progress: tuple[int, int, int]
    names: tuple[str, ...]

    @property
    def has_gone(self) -> bool:
        """Whether no part of its set is listed: other names came late, or are being removed."""
        return self.progress[-1] == 0


def read_names(names: Iterable[str]) -> dict[str, Seen]:
    """Return what names say, by claimant; names of another form are ignored."""
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
    One claimant's state. Make it with :func:`contender`.

    :param claimant: its name, which nobody else ever had.
    :param elements: what it claims.
    :param lease: its length in seconds.
    """

    claimant: str
    elements: frozenset[str]
    lease: float
    names: tuple[str, ...] = ()  # names that it wrote, as far as it knows
    unwritten: tuple[str, ...] = ()  # names of its announcement not yet written
    ticket: int = 0
    beat: int = 0
    is_next: bool = False  # nobody comes before it any more
    must_look: bool = True
    is_lost: bool = False
    written_at: float = 0.0  # time before its newest name was written
    others: Mapping[str, tuple[tuple[int, int, int], float]] = {}  # progress, and when it was first seen
    dead: tuple[str, ...] = ()  # names of dead claimants

    def next_step(self, now: float) -> Step:
        """
        Return what to do next.

        :param now: seconds of a counter that keeps running in suspend.
        """
        if self.is_lost or (self.names and now >= self.until):
            return Lost()
        if self.unwritten:
            return Add(self.unwritten[0])
        if self.ticket == 0:
            return Look()  # its report chooses the ticket
        if self._ticket_name not in self.names:
            return Add(self._ticket_name)
        old_beats = [name for name in self.names if _is_beat(name)][:-1]
        # A slow store keeps them until the end: else, once they are removed, the next beat is always due.
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
        """When the lease ends, by the counter."""
        return self.written_at + self.lease

    @property
    def _ticket_name(self) -> str:
        return f"{self.claimant}.t{self.ticket}"

    def added(self, name: str, began: float, ended: float) -> Contender:
        """
        Report that a name was written.

        :param began: time before the write.
        :param ended: time after it.
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
        """Report that names were removed, or that this was tried."""
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
        Report a listing that began after the last report.

        :param began: time before the listing.
        :param ended: time after it.
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
    :param elements: what it claims, also in lower-case hexadecimal digits.
    :param lease: seconds of silence after which a claimant is dead.
    """
    ordered = sorted(set(elements))
    pieces = [ordered[at : at + ELEMENTS_PER_NAME] for at in range(0, len(ordered), ELEMENTS_PER_NAME)]
    names = [
        f"{claimant}.p{number}of{len(pieces)}.{'.'.join(piece)}" for number, piece in enumerate(pieces, 1)
    ]
    return Contender(claimant=claimant, elements=frozenset(elements), lease=lease, unwritten=tuple(names))


def _is_beat(name: str) -> bool:
    return re.fullmatch(r"[0-9a-f]+\.b\d+", name) is not None
