"""Random work under random trouble: the state machine of ``test_properties.py``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fault_deployment import ALIASES, MODELS, Deployment, Planned, Spec, Trouble
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

_QUIET = 300.0  # seconds after which no listing lags and no post is on its way

SPECS = st.builds(
    Spec,
    kind=st.sampled_from(("ensure",) * 4 + ("merge",) * 3 + ("delete",) * 2 + ("replace", "list")),
    alias=st.sampled_from((ALIASES[0],) * 3 + ALIASES),
    count=st.integers(1, 4),
    model=st.sampled_from(MODELS),
    factor=st.integers(1, 3),
    by=st.sampled_from(("alias", "alias", "ids", "sks")),
    picks=st.lists(st.integers(0, 5), min_size=1, max_size=3).map(tuple),
    batch_size=st.sampled_from((1, 2, 100)),
    max_delete=st.sampled_from((None, None, None, 1)),
    dry_run=st.sampled_from((False,) * 7 + (True,)),
    own_journal=st.booleans(),
)
_OPTIONS: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "rate_limit": st.fixed_dictionaries(
        {"retry_after": st.sampled_from((None, 7, 45))}, optional={"form": st.just("html")}
    ),
    "foreign": st.fixed_dictionaries(
        {
            "status": st.sampled_from((401, 403, 404)),
            "form": st.sampled_from(("html", "json", "empty", "text")),
        }
    ),
    "decline": st.fixed_dictionaries({"form": st.sampled_from(("success", "error"))}),
    "late": st.just({"seconds": 4}),
}
_KINDS = (
    "cut_before",
    "cut_after",
    "cut_reused",
    "error_before",
    "error_after",
    "rate_limit",
    "foreign",
    "decline",
    "parked",
    "garbage",
    "bom",
    "redirect",
)
_CALLS = ("create", "create", "list", "update", "delete", "links", "healthy", "*")


def _fault(call: str, kind: str) -> st.SearchStrategy[Planned]:
    options = _OPTIONS.get(kind, st.just({}))
    if kind == "decline" and call == "create":
        options = st.fixed_dictionaries({"made": st.integers(0, 2)})
    return st.tuples(
        st.just(call),
        st.just(kind),
        st.sampled_from((None, 0, 1)),
        st.integers(1, 3),
        st.integers(0, 2),
        options,
    )


FAULTS = st.one_of(
    st.tuples(st.sampled_from(_CALLS), st.sampled_from((*_KINDS * 4, "hang"))).flatmap(
        lambda chosen: _fault(*chosen)
    ),
    *[_fault("create", kind) for kind in ("late", "decline")],
)
HOWS = st.sampled_from(("stops", "stops", "swallows", "moves"))
CRASH = st.integers(0, 14)
SCHEDULE = st.integers(0, 1000)
TROUBLES = st.one_of(
    st.builds(Trouble, schedule=SCHEDULE),
    st.builds(Trouble, crashes=st.tuples(CRASH), schedule=SCHEDULE),
    st.builds(Trouble, faults=st.lists(FAULTS, min_size=1, max_size=3).map(tuple), schedule=SCHEDULE),
    st.builds(
        Trouble,
        faults=st.lists(FAULTS, max_size=3).map(tuple),
        crashes=st.tuples(*[st.one_of(st.none(), CRASH)] * 3),
        dies=st.one_of(st.none(), st.tuples(st.integers(1, 6), st.integers(0, 1), HOWS)),
        spoiled=st.one_of(st.just(()), st.tuples(st.integers(0, 5))),
        masked=st.sampled_from((False,) * 7 + (True,)),
        schedule=SCHEDULE,
    ),
)
LAGS = st.sampled_from((0.0, 3.0, 12.0, 20.0))


class DeploymentMachine(RuleBasedStateMachine):
    """Random work, random trouble."""

    deployment: Deployment | None = None

    @initialize(
        lags=st.tuples(LAGS, LAGS),
        page_size=st.sampled_from((500, 2, -1)),
        settings=st.fixed_dictionaries(
            {},
            optional={
                "alias_filter": st.sampled_from(("substring", "ignored")),
                "total_counts": st.just("all"),
                "order": st.just("newest"),
                "max_page_size": st.sampled_from((1, 3)),
                "delete_missing": st.just("error"),
                "omit_total": st.just(True),
                "amounts_as_numbers": st.just(True),
            },
        ),
        seeds=st.lists(st.sampled_from(ALIASES), min_size=1, max_size=3),
    )
    def begin(
        self, lags: tuple[float, float], page_size: int, settings: dict[str, Any], seeds: list[str]
    ) -> None:
        if "max_page_size" in settings:
            page_size = abs(page_size)  # everything in one answer is then refused as never whole
        self.deployment = Deployment(lags, page_size, **settings)
        for alias in seeds:
            self.deployment.seed(alias)

    @rule(
        specs=st.lists(SPECS, min_size=1, max_size=2),
        again=st.lists(st.integers(0, 4), max_size=2),
        trouble=TROUBLES,
    )
    def run(self, specs: list[Spec], again: list[int], trouble: Trouble) -> None:
        assert self.deployment
        tasks = [self.deployment.task(spec) for spec in specs]
        tasks += [task for index, task in enumerate(self.deployment.open) if index in again]
        self.deployment.run(tasks, trouble)

    @rule(spec=SPECS, other=SPECS, tasks=st.integers(2, 3), schedule=SCHEDULE)
    def side_by_side(self, spec: Spec, other: Spec, tasks: int, schedule: int) -> None:
        """Two or three tasks on one alias, and nothing else goes wrong."""
        assert self.deployment
        specs = [spec, replace(other, alias=spec.alias), replace(spec, model=other.model)][:tasks]
        self.deployment.run([self.deployment.task(each) for each in specs], Trouble(schedule=schedule))

    @rule(
        spec=SPECS,
        other=SPECS,
        same=st.booleans(),
        crash=CRASH,
        seconds=st.integers(0, 40),
        dies=st.booleans(),
    )
    def one_after_the_killed(
        self, spec: Spec, other: Spec, same: bool, crash: int, seconds: int, dies: bool
    ) -> None:
        """A task is killed, perhaps a base dies, and soon another works on the same alias."""
        assert self.deployment
        self.deployment.run([self.deployment.task(spec)], Trouble(crashes=(crash,)))
        self.deployment.world.clock.advance(seconds)
        if dies:
            self.deployment.sim.stop_base(0)
        other = replace(other, alias=spec.alias, kind=spec.kind if same else other.kind)
        self.deployment.run([self.deployment.task(other)])

    @rule(spec=SPECS, crash=CRASH, seconds=st.integers(0, 20))
    def retry_elsewhere(self, spec: Spec, crash: int, seconds: int) -> None:
        """A task is killed and Airflow retries it on another host; a pool keeps others away."""
        assert self.deployment
        world, task = self.deployment.world, self.deployment.task(spec)
        world.clock.advance(_QUIET)
        self.deployment.run([task], Trouble(crashes=(crash,)))
        world.clock.advance(seconds)
        world.use_host(1)
        self.deployment.run([task])
        world.use_host(0)
        world.clock.advance(_QUIET)

    @rule(trouble=TROUBLES)
    def retry(self, trouble: Trouble) -> None:
        assert self.deployment
        if self.deployment.open:
            self.deployment.run(self.deployment.open[-1:], trouble)

    @rule(seconds=st.sampled_from((1, 8, 25, 40, 400)), hours=st.integers(0, 3))
    def time_passes(self, seconds: int, hours: int) -> None:
        assert self.deployment
        self.deployment.world.clock.advance(seconds)
        self.deployment.sim.clock.advance(hours=hours)

    @rule(up=st.tuples(st.booleans(), st.booleans()))
    def bases_come_and_go(self, up: tuple[bool, bool]) -> None:
        assert self.deployment
        for index, is_up in enumerate(up):
            (self.deployment.sim.start_base if is_up else self.deployment.sim.stop_base)(index)

    @rule()
    def bases_move(self) -> None:
        assert self.deployment
        self.deployment.world.move_bases()

    def teardown(self) -> None:
        if self.deployment is None:
            return
        try:
            self.deployment.settle_down()
        finally:
            self.deployment.close()
