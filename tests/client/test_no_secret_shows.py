"""A key never shows itself: not the object's, and not the client's, whatever goes wrong."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import tempfile
import traceback
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support import HANG, Sleeps, client_of, item, platform

from airflow_provider_closeai.client.calls import LIST
from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.config import config_from
from airflow_provider_closeai.client.errors import CloseAIError, safe_text
from airflow_provider_closeai.client.models import SecretToken
from airflow_provider_closeai.provisioning.health import check_bases
from airflow_provider_closeai.simulator import Simulator
from airflow_provider_closeai.simulator.fault_kinds import KINDS
from airflow_provider_closeai.sinks.base import SinkKeys

VALUE = "sk-" + 2 * "verysecret" + "1234"  # made up, and not written as a key is
TOKEN = SecretToken(VALUE)


def shown(thing: Any) -> list[str]:
    return [
        repr(thing),
        str(thing),
        f"{thing}",
        f"{thing!r}",
        f"{thing!s:>60}",
        "%s" % (thing,),  # noqa: UP031
        "%r" % (thing,),  # noqa: UP031
        "{}".format(thing),  # noqa: UP032
        format(thing, ""),
        ascii(thing),
    ]


def test_no_way_of_writing_shows_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    logging.getLogger("x").warning("%s %r %s", TOKEN, TOKEN, [TOKEN])
    texts = [*shown(TOKEN), *shown([TOKEN]), *shown({"a": TOKEN}), caplog.text]
    assert not [text for text in texts if "verysecret" in text]
    assert all("sk-…1234" in text for text in [*shown(TOKEN)[:-1], caplog.text])


def test_json_and_pickle_refuse_it() -> None:
    for dump in (json.dumps, pickle.dumps, msgspec.json.encode, msgspec.to_builtins):
        with pytest.raises(TypeError) as caught:
            dump(TOKEN)
        assert "verysecret" not in str(caught.value)
        with pytest.raises(TypeError):
            dump({"a": [TOKEN]})
    with pytest.raises(TypeError):
        vars(TOKEN)


def test_an_account_refuses_too() -> None:
    [account] = LIST.decode(json.dumps({"items": [item(1, token=VALUE)]}).encode()).items
    assert not [text for text in shown(account) if "verysecret" in text]
    for dump in (json.dumps, pickle.dumps, msgspec.json.encode, msgspec.to_builtins):
        with pytest.raises(TypeError):
            dump(account)
    assert copy.deepcopy(account) == account


def test_a_copy_is_as_secret() -> None:
    for other in (copy.copy(TOKEN), copy.deepcopy(TOKEN), copy.deepcopy([TOKEN])[0]):
        assert other == TOKEN
        assert other.reveal() == VALUE
        assert "verysecret" not in repr(other)


def test_a_traceback_with_locals_does_not_show_it() -> None:
    def fail(token: SecretToken) -> None:
        raise RuntimeError(token)

    try:
        fail(SecretToken(VALUE))
    except RuntimeError as error:
        told = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert "token = SecretToken" in told
    assert "verysecret" not in told


def test_equality_and_hash() -> None:
    assert SecretToken(VALUE) == TOKEN
    assert SecretToken(VALUE + "x") != TOKEN
    assert TOKEN != VALUE
    assert len({TOKEN, SecretToken(VALUE)}) == 1


@pytest.mark.parametrize(
    ("value", "hint"),
    [(VALUE, "sk-…1234"), ("sk-12345678", "sk-…5678"), ("sk-1234567", "sk-…"), ("ab", "sk-…")],
)
def test_a_hint_is_not_half_the_key(value: str, hint: str) -> None:
    assert SecretToken(value).hint == hint


@pytest.mark.parametrize(
    "text",
    [
        f"bad key {VALUE}",
        f"密钥{VALUE}无效",
        f"key_{VALUE}",
        f"key={VALUE};",
        f'{{"key":"{VALUE}"}}',
        f"Authorization: Bearer {VALUE}",
        f"bearer {VALUE.removeprefix('sk-')}",
        f"「{VALUE}」",
        VALUE.upper(),
        f"%22{VALUE}%22",
        f"3D{VALUE}",
        rf"\n{VALUE}",
        f"user1{VALUE}",
        f"{VALUE},{VALUE}",
    ],
)
def test_text_from_outside_loses_what_looks_like_a_key(text: str) -> None:
    assert "verysecret" not in safe_text(text).lower()


def test_text_from_outside_is_one_short_line() -> None:
    assert safe_text("a\nb\r\n\tc") == "a b c"
    assert len(safe_text("x" * 10_000)) == 300
    assert safe_text("the risk-free task of a desk-top") == "the risk-free task of a desk-top"


FAULTS: dict[str, dict[str, Any]] = {
    **{kind: {} for kind in KINDS if kind not in ("unhealthy", "cut_reused", "bom")},
    "slow": {"seconds": HANG},
    "rate_limit": {"retry_after": 900},
    "drip": {"seconds": HANG},
}


@pytest.mark.parametrize(
    "call", ["list", "create", *(pytest.param(call, marks=pytest.mark.slow) for call in ("update", "delete"))]
)
@pytest.mark.parametrize("kind", [*FAULTS, "echo", "echo 200", "down"])
def test_no_error_and_no_log_record_shows_a_secret(
    sim: Simulator, caplog: pytest.LogCaptureFixture, call: str, kind: str
) -> None:
    caplog.set_level("DEBUG")
    token = sim.add_account("a")["token"]
    client = client_of(sim, Sleeps(), read_timeout=0.2, max_attempts=2)
    accounts = list(client_of(sim).iter_sub_accounts())
    secret_body = {
        "error": {"message": f"密钥{sim.key}和 {token} 无效", "detail": "geheim"},
        "items": "geheim",
    }
    if kind == "down":
        for index in (0, 1):
            sim.stop_base(index)
    elif kind.startswith("echo"):
        sim.fault(call, "status", status=200 if "200" in kind else 400, body=secret_body, times=None)
    else:
        sim.fault(call, kind, times=None, **FAULTS[kind])
    calls: dict[str, Callable[[], object]] = {
        "list": lambda: list(client.iter_sub_accounts()),
        "create": lambda: client.create("a", {"m": Decimal(1)}, Decimal(1), 1),
        "update": lambda: client.update(accounts, "a", {"m": Decimal(1)}),
        "delete": lambda: client.delete(accounts),
    }
    with pytest.raises(CloseAIError) as caught:
        calls[call]()
    told = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=False).format())
    records = [f"{record.getMessage()} {record.args} {record.exc_text}" for record in caplog.records]
    told += repr(caught.value) + repr(vars(caught.value)) + "\n".join(records) + caplog.text
    for secret in (sim.key, token, "Bearer", "Authorization", "geheim", "parked", "Location", "doctype"):
        assert secret not in told
    assert caught.value.call == call
    assert caught.value.base in sim.base_urls


class Down:
    """A sink that is down."""

    def deliver(self, account: Any) -> str:
        raise OSError


@pytest.mark.parametrize("call", ["update", "delete", "deliver"])
def test_no_frame_of_an_error_holds_a_key(sim: Simulator, call: str) -> None:
    """A reporter of errors shows the locals of all frames."""
    token = sim.add_account("a")["token"]
    client = client_of(sim, Sleeps(), max_attempts=2)
    accounts = list(client.iter_sub_accounts())
    if call != "deliver":
        sim.fault(call, "status", status=500, body={}, times=None)
    calls: dict[str, Callable[[], object]] = {
        "update": lambda: client.update(accounts, "a", {"m": Decimal(1)}),
        "delete": lambda: client.delete(accounts),
        "deliver": lambda: SinkKeys(Down(), {}, str).deliver(accounts),
    }
    with pytest.raises(CloseAIError) as caught:
        calls[call]()
    frames = [frame for frame, _ in traceback.walk_tb(caught.value.__traceback__)]
    ours = [frame for frame in frames if "airflow_provider_closeai/" in frame.f_code.co_filename]
    assert ours
    for frame in ours:
        assert token not in repr(frame.f_locals), frame


@pytest.mark.parametrize("quoted", ["sk-{}", "{}", "sk%2D{}"])
def test_a_refused_key_is_not_told(sim: Simulator, caplog: pytest.LogCaptureFixture, quoted: str) -> None:
    caplog.set_level("DEBUG")
    key = "sk-wrong-but-still-secret"

    def reply(asked: Any) -> tuple[int, Any]:
        said = quoted.format(key.removeprefix("sk-"))
        return 401, {"error": {"message": f"Incorrect API key provided: {said}。"}}

    with platform(reply) as (origin, _):
        for extra in ({}, {"api_bases": origin}):
            client = CloseAIClient(config_from(password=key, host=origin, extra=extra))
            with pytest.raises(CloseAIError) as caught:
                list(client.iter_sub_accounts())
            assert "still-secret" not in f"{caught.value}{caplog.text}{client.cache.read()}"


@pytest.mark.parametrize("key", [VALUE, "mainkey-verysecret-1234"])
@pytest.mark.parametrize("field", ["api", "desc", "status"])
@pytest.mark.parametrize("form", ["{}", "x{}/..", "%20{}", "d" * 290 + "{}"])
def test_a_base_that_echoes_the_key_is_dropped(
    sim: Simulator, caplog: pytest.LogCaptureFixture, key: str, field: str, form: str
) -> None:
    caplog.set_level("INFO")
    good = {"api": sim.base_urls[1], "priority": 1, "status": "ok"}

    def echo(asked: Any) -> tuple[int, Any]:
        text = form.format(asked.headers["authorization"].removeprefix("Bearer "))
        odd = {"priority": 9, "status": "ok", "api": sim.base_urls[0]}
        odd[field] = f"{sim.base_urls[0]}/{text}" if field == "api" else text
        return 200, [odd, good]

    with platform(echo) as (origin, _):
        client = CloseAIClient(config_from(password=key, host=origin))
        found = check_bases(lambda: client, "any")
        assert found.base == sim.base_urls[1]
        texts = [str(found), repr(client.list_bases()), caplog.text]
        texts += [path.read_text() for path in Path(tempfile.gettempdir()).glob("*/*.json")]
    assert "dropped" in caplog.text
    assert not [text for text in texts if "verys" in text or sim.base_urls[0] in text]
