"""Runs through every interleaving of some contenders of the bakery over a store that misbehaves."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import msgspec

from airflow_provider_closeai.local_state.bakery import (
    Add,
    Contender,
    Held,
    Look,
    Lost,
    Remove,
    Wait,
    contender,
)


class Agent(msgspec.Struct, frozen=True, kw_only=True):
    """
    A contender and its runner.

    :param state: what it knows.
    :param call: what it has asked of the store, and how far that is: kind, names, began, answer.
    :param leaving: names that it still has to remove; ``None``: it is not leaving.
    :param permit: until when it may post, once it has looked again while it held the claim; 0: it may not.
    :param end: how it ended: ``in``, ``gave up``, ``crashed``; empty: it has not.
    """

    state: Contender
    call: tuple[str, tuple[str, ...], float, tuple[str, ...] | None] | None = None
    leaving: tuple[str, ...] | None = None
    checked: bool = False
    permit: float = 0
    was_in: bool = False
    end: str = ""


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """
    Everything at one moment.

    :param late: names that will be written some time, although their writer was told otherwise.
    :param faults: how many more things may go wrong.
    """

    agents: tuple[Agent, ...]
    names: frozenset[str] = frozenset()
    late: frozenset[str] = frozenset()
    now: int = 0
    faults: int = 0

    @property
    def key(self) -> object:
        return (
            self.now,
            self.faults,
            self.names,
            self.late,
            tuple(
                (
                    agent.call,
                    agent.leaving,
                    agent.checked,
                    agent.permit,
                    agent.was_in,
                    agent.end,
                    agent.state.names,
                    agent.state.unwritten,
                    agent.state.ticket,
                    agent.state.beat,
                    agent.state.is_next,
                    agent.state.must_look,
                    agent.state.is_lost,
                    agent.state.written_at,
                    tuple(sorted(agent.state.others.items())),
                    agent.state.dead,
                )
                for agent in self.agents
            ),
        )

    @property
    def is_bad(self) -> bool:
        """Whether two that claim the same could post now."""
        in_now = [agent.state.elements for agent in self.agents if agent.permit > self.now and not agent.end]
        return any(one & other for one, other in itertools.combinations(in_now, 2))


def start(sets: list[set[str]], faults: int, lease: int = 1) -> Model:
    """Begin with contenders for these sets. The model's clock ticks, and a beat is due at each tick."""
    agents = [
        Agent(state=contender(f"{number + 10:x}", elements, lease)) for number, elements in enumerate(sets)
    ]
    return Model(agents=tuple(agents), faults=faults)


def following(model: Model, *, until: int) -> Iterator[Model]:
    """Give every model that may come next, the clock's going on too."""
    replace = msgspec.structs.replace
    if model.now < until:
        yield replace(model, now=model.now + 1)
    for name in model.late:
        yield replace(model, late=model.late - {name}, names=model.names | {name})
    for number in range(len(model.agents)):
        if not model.agents[number].end:
            yield from _moves(model, number)


def _put(model: Model, number: int, agent: Agent, **changes: object) -> Model:
    agents = (*model.agents[:number], agent, *model.agents[number + 1 :])
    return msgspec.structs.replace(model, agents=agents, **changes)


def _moves(model: Model, number: int) -> Iterator[Model]:
    replace = msgspec.structs.replace
    agent, now = model.agents[number], float(model.now)
    if model.faults:  # it is killed
        yield _put(model, number, replace(agent, end="crashed"), faults=model.faults - 1)
    if agent.call is not None:
        kind, names, began, answer = agent.call
        if kind == "look":
            if answer is None:
                seen = tuple(sorted(model.names))
                yield _put(model, number, replace(agent, call=(kind, names, began, seen)))
            else:
                state = agent.state.looked(answer, began, now)
                yield _put(model, number, replace(agent, call=None, state=state))
        elif kind == "add":
            [name] = names
            if answer is None:
                landed = model.names | {name}
                yield _put(model, number, replace(agent, call=(kind, names, began, ())), names=landed)
                if model.faults:
                    left, leaves = model.faults - 1, _leave(agent, name)
                    yield _put(model, number, leaves, faults=left)  # refused
                    yield _put(model, number, leaves, faults=left, late=model.late | {name})  # delayed
                    yield _put(model, number, leaves, faults=left, names=landed)  # the answer is lost
                    twice = replace(agent, call=(kind, names, began, ()))
                    yield _put(model, number, twice, faults=left, names=landed, late=model.late | {name})
            else:
                yield _put(
                    model, number, replace(agent, call=None, state=agent.state.added(name, began, now))
                )
        return
    if agent.leaving is not None:
        if not agent.leaving:
            yield _put(model, number, replace(agent, end="in" if agent.was_in else "gave up"))
            return
        name, rest = agent.leaving[0], agent.leaving[1:]
        yield _put(model, number, replace(agent, leaving=rest), names=model.names - {name})
        if model.faults:  # the removal is refused
            yield _put(model, number, replace(agent, leaving=rest), faults=model.faults - 1)
        return
    step = agent.state.next_step(now)
    if isinstance(step, Add):
        yield _put(model, number, replace(agent, call=("add", (step.name,), now, None)))
    elif isinstance(step, Look):
        yield _put(model, number, replace(agent, call=("look", (), now, None)))
    elif isinstance(step, Wait):
        yield _put(model, number, replace(agent, state=agent.state.waited()))
    elif isinstance(step, Remove):
        gone = replace(agent, state=agent.state.removed(step.names))
        yield _put(model, number, gone, names=model.names - set(step.names))
        if model.faults:
            yield _put(model, number, gone, faults=model.faults - 1)
    elif isinstance(step, Lost):
        yield _put(model, number, _leave(agent))
    elif not agent.checked:
        assert isinstance(step, Held)
        yield _put(model, number, replace(agent, checked=True, call=("look", (), now, None)))
    elif not agent.permit:
        yield _put(model, number, replace(agent, permit=step.until, was_in=True))
    else:  # it has posted, or stays in for a while
        yield _put(model, number, _leave(agent))


def _leave(agent: Agent, *under_way: str) -> Agent:
    names = (*under_way, *reversed(agent.state.names))
    return msgspec.structs.replace(agent, call=None, leaving=names, permit=0)


def explore(first: Model, *, until: int, most: int = 10**9) -> tuple[int, Model | None]:
    """
    Go through everything that can follow.

    :returns: how many different models there are, and the first in which two may post.
    """
    seen = {first.key}
    todo = [first]
    while todo and len(seen) < most:
        for model in following(todo.pop(), until=until):
            key = model.key
            if key in seen:
                continue
            seen.add(key)
            if model.is_bad:
                return len(seen), model
            todo.append(model)
    return len(seen), None
