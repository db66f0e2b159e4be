"""Who answered: the platform, somebody else, or nobody; what each means for the next call."""

from __future__ import annotations

import logging
from decimal import Decimal
from typing import Any

import pytest
from support import Clock, Sleeps, client_of, clock_with, config_of, fixed_client

from airflow_provider_closeai.client import errors
from airflow_provider_closeai.client.cache import Cache
from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.pool import HEALTHY, BasePool
from airflow_provider_closeai.client.transport import Transport
from airflow_provider_closeai.simulator import Simulator

FORMS = ["html", "empty", "text", "json"]


def hosts(sim: Simulator, call: str) -> list[str]:
    return [request.host for request in sim.requests if request.call == call]


def create(client: CloseAIClient) -> Any:
    return client.create("a", {"m": Decimal(1)}, Decimal(1), 2)


# --- Somebody else ---


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 410, 451])
def test_somebody_elses_4xx_sends_reads_and_writes_that_repeat_to_the_next_base(
    sim: Simulator, form: str, status: int
) -> None:
    for number in range(2):
        sim.add_account(f"a{number}")
    for call in ("list", "update", "delete"):
        sim.fault(call, "foreign", base=0, times=None, status=status, form=form)
    client = client_of(sim, health_ttl=0.001)  # so that the first base is tried each time
    accounts = list(client.iter_sub_accounts())
    assert len(accounts) == 2
    client.update(accounts, "a", {"m": Decimal(1)})
    client.delete(accounts)
    assert sim.accounts() == []
    assert client.check_health()[0].healthy
    assert hosts(sim, "list") == ["base-0", "base-1"]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_somebody_elses_4xx_counts_against_its_base(sim: Simulator, status: int) -> None:
    sim.fault("list", "foreign", base=0, status=status)
    client = client_of(sim)
    for _ in range(3):
        list(client.iter_sub_accounts())
    assert hosts(sim, "list") == ["base-0", "base-1", "base-1", "base-1"]


@pytest.mark.parametrize(
    ("on", "kind"), [((0,), None), ((0, 1), errors.Rejected), ((1,), errors.OutcomeUnknown)]
)
def test_a_404_with_a_message_is_the_platforms_once_every_base_says_so(
    sim: Simulator, on: tuple[int, ...], kind: type[errors.CloseAIError] | None
) -> None:
    """A gateway without such a route says so as the platform would of a missing key."""
    for number in range(2):
        sim.add_account(f"a{number}")
    client = client_of(sim, Sleeps(), max_attempts=3)
    accounts = list(client.iter_sub_accounts())
    said = {"message": "no Route matched"}
    for call in ("update", "delete"):
        for base in on:
            sim.fault(call, "status", base=base, status=404, body=said, times=None)
    if kind is errors.OutcomeUnknown:
        sim.stop_base(0)
    for act in (lambda: client.update(accounts, "a", {"m": Decimal(1)}), lambda: client.delete(accounts)):
        if kind is None:
            act()
        else:
            with pytest.raises(kind, match="no Route matched") as caught:
                act()
            assert caught.value.permanent is (kind is errors.Rejected)
    if kind is not errors.OutcomeUnknown:
        assert hosts(sim, "update") == hosts(sim, "delete") == ["base-0", "base-1"]
    assert (sim.accounts() == []) is (kind is None)


@pytest.mark.parametrize("form", FORMS)
def test_a_create_that_somebody_else_answered_is_unknown_and_not_sent_again(
    sim: Simulator, form: str
) -> None:
    sim.fault("create", "foreign", status=403, form=form)
    with pytest.raises(errors.OutcomeUnknown, match="somebody else") as caught:
        create(client_of(sim))
    assert not caught.value.permanent
    assert "key" not in str(caught.value)
    assert sim.count("create") == 1


@pytest.mark.parametrize("form", ["platform", "html", "empty"])
@pytest.mark.parametrize("call", ["list", "create"])
def test_429_in_any_form_is_throttling(sim: Simulator, call: str, form: str) -> None:
    sim.fault(call, "rate_limit", retry_after=3, form=form)
    sleeps = Sleeps()
    client = client_of(sim, sleeps)
    made = create(client) if call == "create" else list(client.iter_sub_accounts())
    assert len(made) == (2 if call == "create" else 0)
    assert hosts(sim, call) == ["base-0", "base-0"]
    assert sleeps.asked == [3]


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_every_healthy_base_refuses_in_a_foreign_form_has_two_causes(
    sim: Simulator, status: int
) -> None:
    sim.fault("list", "foreign", times=None, status=status)
    with pytest.raises(errors.AuthenticationFailed, match=r"key is wrong.*firewall or a CDN") as caught:
        list(client_of(sim, Sleeps()).iter_sub_accounts())
    assert caught.value.permanent
    assert caught.value.status == status


def test_while_a_base_is_not_healthy_the_key_is_not_blamed(sim: Simulator) -> None:
    sim.fault("list", "foreign", times=None, status=401)
    sim.fault("healthy", "parked", base=1, times=None)
    with pytest.raises(errors.OutcomeUnknown) as caught:
        list(client_of(sim, Sleeps()).iter_sub_accounts())
    assert not caught.value.permanent


def test_one_base_that_refuses_otherwise_proves_nothing_of_the_key(sim: Simulator) -> None:
    sim.fault("list", "foreign", base=0, times=None, status=401)
    sim.fault("list", "foreign", base=1, times=None, status=404)
    with pytest.raises(errors.OutcomeUnknown):
        list(client_of(sim, Sleeps()).iter_sub_accounts())


@pytest.mark.parametrize("status", [401, 403])
def test_discovery_that_somebody_else_answers_does_not_blame_the_key(sim: Simulator, status: int) -> None:
    sim.fault("links", "foreign", times=None, status=status)
    with pytest.raises(errors.DiscoveryError, match="api_bases"):
        client_of(sim).list_bases()


# --- The platform, saying no ---


@pytest.mark.parametrize("form", ["success", "error"])
@pytest.mark.parametrize("call", ["list", "create", "update", "delete", "billing"])
def test_a_2xx_that_says_no_is_told_with_its_message_and_not_repeated(
    sim: Simulator, call: str, form: str
) -> None:
    sim.add_account("a")
    client = client_of(sim, Sleeps())
    accounts = list(client.iter_sub_accounts())
    before = client.cache.read().verdicts
    sim.fault(call, "decline", message="余额不足", form=form)
    calls = {
        "list": lambda: list(client.iter_sub_accounts()),
        "create": lambda: create(client),
        "update": lambda: client.update(accounts, "a", {"m": Decimal(1)}),
        "delete": lambda: client.delete(accounts),
        "billing": client.main_usage,
    }
    asked = sim.count(call)
    with pytest.raises(errors.Declined, match="余额不足") as caught:
        calls[call]()
    assert not caught.value.permanent
    assert sim.count(call) == asked + 1
    assert client.cache.read().verdicts == before
    calls[call]()


def test_discovery_that_says_no_is_told_with_its_message(sim: Simulator) -> None:
    sim.fault("links", "decline", message="come back later", times=None)
    with pytest.raises(errors.DiscoveryError, match="come back later"):
        client_of(sim).list_bases()


@pytest.mark.parametrize("call", ["links", "healthy", "list"])
def test_a_byte_order_mark_changes_nothing(sim: Simulator, call: str) -> None:
    sim.fault(call, "bom", times=None)
    sim.add_account("a")
    client = client_of(sim)
    assert len(list(client.iter_sub_accounts())) == 1
    assert all(health.healthy for health in client.check_health())
    assert set(hosts(sim, "list")) == {"base-0"}


# --- Nobody ---


def test_a_kept_connection_that_is_cut_costs_no_failover(sim: Simulator) -> None:
    sim.add_account("a")
    sim.fault("*", "cut_reused", times=None)
    client = client_of(sim, max_attempts=1)
    for _ in range(4):
        assert len(list(client.iter_sub_accounts())) == 1
    assert "base-1" not in {request.host for request in sim.requests}


def test_a_create_has_a_connection_of_its_own(sim: Simulator) -> None:
    sim.fault("create", "cut_reused", times=None)
    client = client_of(sim)
    list(client.iter_sub_accounts())
    assert len(create(client)) == 2
    assert len(create(client)) == 2
    assert sim.count("create") == 2


def pool_of(sim: Simulator, clock: Clock, **extra: Any) -> BasePool:
    config = config_of(sim, **extra)
    cache = Cache(config, clock=clock_with(now=clock))
    return BasePool(config, Transport(config), cache, clock_with(Sleeps(), clock))


def fail_everywhere(pool: BasePool, sim: Simulator) -> None:
    """A call that finds no base."""
    for base in pool.known():
        pool.report(pool._transport.attempt(HEALTHY, base.api, seconds=5))


def test_bases_that_all_went_away_are_asked_for_again_whatever_the_ttl(sim: Simulator, clock: Clock) -> None:
    pool = pool_of(sim, clock)
    old = [base.api for base in pool.known()]
    sim.move_bases()
    clock.now += 30
    fail_everywhere(pool, sim)
    assert [base.api for base in pool.known()] == old, "the answer is not a minute old"
    assert sim.count("links") == 1
    clock.now += 31
    assert [base.api for base in pool.known()] == sim.base_urls != old
    assert sim.count("links") == 2


def test_within_one_call_the_new_bases_are_found(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    client = client_of(sim, Sleeps())
    list(client.iter_sub_accounts())
    sim.move_bases()
    known = client.cache.read()
    import msgspec

    client.cache.change(lambda old: msgspec.structs.replace(known, discovered_at=known.discovered_at - 61))
    assert list(client.iter_sub_accounts()) == []
    assert sim.count("links") == 2


def test_a_look_at_health_finds_the_new_bases_too(sim: Simulator, clock: Clock) -> None:
    pool = pool_of(sim, clock)
    pool.check_health()
    sim.move_bases()
    clock.now += 301
    assert pool.to_use() == sim.base_urls[0]
    assert (sim.count("links"), sim.count("healthy")) == (2, 4)


def test_a_look_at_health_of_bases_that_are_all_gone_asks_once(sim: Simulator, clock: Clock) -> None:
    pool = pool_of(sim, clock)
    pool.check_health()
    for index in range(2):
        sim.stop_base(index)
    clock.now += 301
    for _ in range(3):
        assert [health.healthy for health in pool.check_health()] == [False, False]
    assert sim.count("links") == 2


def test_an_unchanged_answer_doubles_the_wait(sim: Simulator, clock: Clock) -> None:
    pool = pool_of(sim, clock)
    pool.known()
    for index in range(2):
        sim.stop_base(index)
    clock.now += 61
    fail_everywhere(pool, sim)
    for number, wait in enumerate([60, 120, 240, 480, 900, 900], start=2):
        pool.known()
        assert sim.count("links") == number
        clock.now += max(wait, 61) - 1
        fail_everywhere(pool, sim)
        pool.known()
        assert sim.count("links") == number
        clock.now += 1 if wait > 60 else 0
        clock.now += 1


def test_a_platform_that_answers_badly_everywhere_has_not_moved(sim: Simulator) -> None:
    clock = Clock()
    pool = pool_of(sim, clock)
    pool.known()
    sim.fault("*", "error_before", times=None)
    clock.now += 120
    fail_everywhere(pool, sim)
    pool.known()
    assert sim.count("links") == 1


def test_refreshing_asks_always(sim: Simulator) -> None:
    client = client_of(sim)
    for number in range(1, 4):
        assert [base.api for base in client.refresh_bases()] == sim.base_urls
        assert sim.count("links") == number
    assert [base.api for base in fixed_client("https://a.example").refresh_bases()] == ["https://a.example"]


def test_allowed_hosts_that_admit_no_base_are_named(sim: Simulator) -> None:
    with pytest.raises(errors.DiscoveryError, match=r"127\.0\.0\.1.*'allowed_hosts' admits none: correct it"):
        client_of(sim, allowed_hosts="*.example").list_bases()


# --- One account that cannot be read ---


@pytest.mark.parametrize(
    ("field", "raw"),
    [
        ("token", "null"),
        ("token", '""'),
        ("balance", '""'),
        ("alias", '"\\ud83d"'),
        ("id", "null"),
        ("model_pricing", '[{"model": "m", "pricing_factor": 1e5000}]'),
        ("model_pricing", '[{"model": "m", "pricing_factor": "NaN"}]'),
    ],
)
def test_one_account_that_cannot_be_read_costs_that_account(
    sim: Simulator, caplog: pytest.LogCaptureFixture, field: str, raw: str
) -> None:
    ids = [sim.add_account("a")["id"] for _ in range(7)]
    sim.spoil(ids[3], field, raw)
    client = client_of(sim, page_size=3)
    with caplog.at_level(logging.WARNING):
        assert [account.id for account in client.iter_sub_accounts()] == ids[:3] + ids[4:]
    assert sum("cannot be read" in record.message for record in caplog.records) == 1
    if field != "id":
        assert str(ids[3]) in caplog.text
        with pytest.raises(errors.UnreadableAccount, match=f"id {ids[3]}"):
            client.get_sub_account(ids[3])
    assert "base-1" not in hosts(sim, "list")
    assert not [key for key in (account["token"] for account in sim.accounts()) if key in caplog.text]


# --- Keys that are hidden ---


def test_hidden_keys_are_never_sent(sim: Simulator) -> None:
    account = sim.add_account("a")
    sim.settings.mask_tokens = True
    client = client_of(sim)
    accounts = list(client.iter_sub_accounts())
    for call in (
        lambda: client.update(accounts, "a", {"m": Decimal(1)}),
        lambda: client.delete(accounts),
        lambda: list(client.iter_sub_accounts(sk=account["token"])),
    ):
        with pytest.raises(errors.MaskedKeys, match="hides the keys") as caught:
            call()
        assert caught.value.permanent
    assert sim.count("update") == sim.count("delete") == 0


@pytest.mark.parametrize(
    ("key", "is_masked"),
    [
        ("sk-abc****wxyz", True),
        ("sk-…wxyz", True),
        ("sk-abc...wxyz", True),
        ("sk-abc•••wxyz", True),
        ("sk-xxxxxxxx", True),
        ("****", True),
        ("sk-abc wxyz", True),
        ("sk-abc----wxyz", True),
        ("sk-abc____wxyz", True),
        ("hidden", True),
        ("sk-REDACTED", True),
        ("sk-redacted-is-part-of-this", False),
        ("sk-" + "a1B2_c3-D4." * 4, False),
        ("sk-xxxx", True),
        ("sk-abcxxxxwxyz", True),
        ("sk-abc---wxyz", True),
        ("N/A", True),
        ("undefined", True),
        ("-", True),
        ("sk-a1B2xxxx" + "c3D4e5F6g7H8i9", False),
    ],
)
def test_what_looks_masked(key: str, is_masked: bool) -> None:
    from airflow_provider_closeai.client.models import SecretToken

    assert SecretToken(key).is_masked is is_masked


# --- Doubt about the total ---


@pytest.mark.parametrize("number", [0, 4, 5, 6, 10, 12])
@pytest.mark.parametrize("alias", [None, "a"])
def test_a_total_that_counts_the_page_is_no_end(number: int, alias: str | None) -> None:
    with Simulator(total_counts="page") as sim:
        ids = [sim.add_account("a")["id"] for _ in range(number)]
        found = [account.id for account in client_of(sim, page_size=5).iter_sub_accounts(alias=alias)]
        assert found == ids
