"""Every setting: what is taken, what is refused, and by which name."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_closeai.client.config import DEFAULT_ORIGIN, ClientConfig, clean_origin, config_from
from airflow_provider_closeai.client.errors import CloseAIError, ConfigError
from airflow_provider_closeai.get_provider_info import CONNECTION_FIELDS

KEY = "sk-0123456789abcdef"


def config(**parts: Any) -> ClientConfig:
    return config_from(**{"password": KEY, **parts})


def setting(name: str, value: Any) -> Any:
    return getattr(config(extra={name: value}), name)


def test_defaults_are_those_of_the_documentation() -> None:
    made = config()
    assert made.origin == DEFAULT_ORIGIN == "https://api.shadowai.xyz"
    assert {name: getattr(made, name) for name in CONNECTION_FIELDS} == {
        "api_bases": (),
        "allowed_hosts": (),
        "cache": "file",
        "lock": "auto",
        "discovery_ttl": 3600,
        "health_ttl": 300,
        "connect_timeout": 5,
        "read_timeout": 60,
        "max_attempts": 5,
        "max_late": 60,
        "deadline": 120,
        "page_size": 500,
        "verify": True,
        "proxies": None,
    }


SECONDS = ("discovery_ttl", "health_ttl", "connect_timeout", "read_timeout", "deadline")
GOOD = [
    *(
        (name, value, want)
        for name in SECONDS
        for value, want in ((7, 7), (0.5, 0.5), ("7", 7), (" 7.5 ", 7.5))
    ),
    ("max_attempts", 1, 1),
    ("max_attempts", "3", 3),
    ("max_attempts", 3.0, 3),
    ("page_size", -1, -1),
    ("page_size", "-1", -1),
    ("page_size", 1000, 1000),
    ("cache", "variable", "variable"),
    ("lock", "deployment", "deployment"),
    (
        "api_bases",
        ["https://a.example/", "https://b.example:8443"],
        ("https://a.example", "https://b.example:8443"),
    ),
    (
        "api_bases",
        ["https://a.example", "https://A.example:443/", "https://a.example"],
        ("https://a.example",),
    ),
    ("api_bases", "https://a.example, https://b.example\n", ("https://a.example", "https://b.example")),
    ("api_bases", '["https://a.example"]', ("https://a.example",)),
    ("api_bases", "https://a.example\nhttps://b.example", ("https://a.example", "https://b.example")),
    ("allowed_hosts", "*.a.example,b.example", ("*.a.example", "b.example")),
    ("allowed_hosts", ["*"], ("*",)),
    ("verify", False, False),
    ("verify", "False", False),
    ("verify", "true", True),
    ("verify", "/etc/ca.pem", "/etc/ca.pem"),
    ("proxies", {"https": "http://p:1"}, {"https": "http://p:1"}),
    ("proxies", '{"https": "http://p:1"}', {"https": "http://p:1"}),
    ("proxies", {}, {}),
]


@pytest.mark.parametrize(("name", "value", "want"), GOOD)
def test_good_values(name: str, value: Any, want: Any) -> None:
    got = setting(name, value)
    assert got == want
    assert type(got) is type(want) or isinstance(want, float | int)


BAD_VALUES: dict[str, list[Any]] = {
    **{name: [0, -1, "x", True, [1], "nan", "inf", float("inf"), {}] for name in SECONDS},
    "max_attempts": [0, -1, 1.5, "two", True, "1e999", []],
    "page_size": [0, -2, "all", 2.5, False],
    "cache": ["redis", "File", 1, ["file"]],
    "lock": ["none", "Host", True, ["host"]],
    "api_bases": [
        *([], " , ", [""], 5, [5], "[broken", {"a": 1}, ["a.example"], "ftp://a"),
        *("http://a.example", "https://u:p@a.example", "https://a.example?x=1"),
        *("https://a.example:port", "https://a.example:99999", "https://a b"),
    ],
    "allowed_hosts": [[], [" "], 5, "[1]", "["],
    "verify": [1, 0, [], {}],
    "proxies": [
        *("http://p:1", [], {"https": 1}, "[1]", "{", True),
        *({key: "http://p:1"} for key in ("htps", "HTTPS", "", "代理", "no-proxy")),
    ],
}
BAD = [(name, value) for name, values in BAD_VALUES.items() for value in values]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_bad_values_are_named_by_the_forms_label(name: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        setting(name, value)
    assert CONNECTION_FIELDS[name]["label"] in str(caught.value)
    assert name in str(caught.value)
    assert caught.value.permanent
    assert isinstance(caught.value, CloseAIError)


@pytest.mark.parametrize("name", CONNECTION_FIELDS)
@pytest.mark.parametrize("value", [None, ""])
def test_a_field_that_was_left_empty_is_not_given(name: str, value: Any) -> None:
    assert setting(name, value) == getattr(config(), name)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("apibases", "api_bases"),
        ("api_base", "api_bases"),
        ("timeout", "_timeout"),
        ("Verify", "verify"),
        ("zzz", "?"),
    ],
)
def test_an_unknown_key_names_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(ConfigError, match="did you mean") as caught:
        config(extra={name: 1})
    assert repr(name) in str(caught.value)
    assert nearest in str(caught.value)


@pytest.mark.parametrize(
    "extra",
    [
        *("[1]", "[]", '"{}"', '"text"', "5", "0", "0.5", "true", "false", "null", "NaN"),
        *("{", "text", "{} x", "{'a': 1}", "\ufeff{}", "api_bases=https://a.example", "[" * 100_000),
        *([1], [], (), 5, 0, True, False, b"{}", {1}),
    ],
    ids=lambda extra: str(extra)[:20],
)
def test_an_extra_that_is_no_object_is_an_error(extra: Any) -> None:
    """Airflow makes {} of it, and a promise such as allowed_hosts would be forgotten."""
    with pytest.raises(ConfigError, match=r"The connection's extra is .*nothing was sent") as caught:
        config(extra=extra)
    assert caught.value.permanent
    assert '{"allowed_hosts": ' in str(caught.value)


@pytest.mark.parametrize("extra", [None, "", "  ", "{}", " {} ", {}])
def test_an_extra_that_is_empty(extra: Any) -> None:
    assert config(extra=extra) == config()


def test_an_extra_is_read_as_text_too() -> None:
    assert config(extra='{"allowed_hosts": ["a"], "deadline": 7}') == config(
        extra={"allowed_hosts": ["a"], "deadline": 7}
    )
    with pytest.raises(ConfigError, match="did you mean 'deadline'"):
        config(extra='{"dedline": 7}')


@pytest.mark.parametrize(
    ("address", "right"),
    [
        ("https://a.example/v1", "https://a.example"),
        ("https://a.example/v1/", "https://a.example"),
        ("https://a.example/V1", "https://a.example"),
        ("https://a.example/x/v1", "https://a.example/x"),
        ("https://a.example/api/v1", "https://a.example"),
        ("https://a.example/api/v1/links", "https://a.example"),
        ("https://a.example/v1/chat/completions", "https://a.example"),
    ],
)
def test_v1_at_the_end_of_an_address_is_told_with_the_cure(address: str, right: str) -> None:
    for label, parts in (
        ("API bases", {"extra": {"api_bases": ["https://b.example", address]}}),
        ("Discovery host", {"host": address}),
        ("Discovery host", {"host": address.removeprefix("https://")}),
    ):
        with pytest.raises(ConfigError) as caught:
            config(**parts)
        assert label in str(caught.value)
        assert f"Leave /v1 out ({right})" in str(caught.value)


@pytest.mark.parametrize("address", ["https://v1.example", "https://a.example/v1x", "https://a.example/xv1"])
def test_v1_elsewhere_is_nobodys_mistake(address: str) -> None:
    assert config(extra={"api_bases": [address]}).api_bases == (address,)


@pytest.mark.parametrize("password", [None, "", "  ", "\n"])
def test_an_empty_key(password: str | None) -> None:
    with pytest.raises(ConfigError, match="'API key'"):
        config(password=password)


@pytest.mark.parametrize(
    "password", ["sk-a b", "sk-a\nb", "sk-ä", "sk-a\x00", "sk-a\tb", "sk-\u200bx", "sk-a\r\nX: y"]
)
def test_a_key_with_a_character_that_no_key_has(password: str) -> None:
    with pytest.raises(ConfigError, match="'API key'") as caught:
        config(password=password)
    assert password not in str(caught.value)


def test_spaces_around_a_key_are_taken_off() -> None:
    assert config(password=f"  {KEY}\n").key.reveal() == KEY


@pytest.mark.parametrize(
    ("parts", "origin"),
    [
        ({"host": "h.example"}, "https://h.example"),
        ({"host": " H.Example/ "}, "https://h.example"),
        ({"host": "h.example", "port": 8443}, "https://h.example:8443"),
        ({"host": "h.example:8443"}, "https://h.example:8443"),
        ({"host": "h.example:8443", "port": 1}, "https://h.example:8443"),
        ({"host": "h.example:443", "port": 1}, "https://h.example"),
        ({"host": "h.example", "port": 443}, "https://h.example"),
        ({"host": "https://h.example", "port": 8443}, "https://h.example:8443"),
        ({"host": "https://h.example/", "port": 8443}, "https://h.example:8443"),
        ({"host": "https://h.example/path", "port": 8443}, "https://h.example:8443/path"),
        ({"host": "https://h.example/path/"}, "https://h.example/path"),
        ({"host": "h.example", "schema": "https"}, "https://h.example"),
        ({"host": "https://h.example", "schema": "http"}, "https://h.example"),
        ({"host": "localhost", "schema": "http", "port": 8080}, "http://localhost:8080"),
        ({"host": "127.0.0.1", "schema": "http"}, "http://127.0.0.1"),
        ({"host": "http://127.9.9.9:1"}, "http://127.9.9.9:1"),
        ({"host": "::1", "schema": "http", "port": 81}, "http://[::1]:81"),
        ({"host": "http://[::1]:81"}, "http://[::1]:81"),
        ({"host": "[2001:db8::1]:8443"}, "https://[2001:db8::1]:8443"),
        ({"host": "2001:db8::1"}, "https://[2001:db8::1]"),
        ({"host": None, "port": None, "schema": None}, DEFAULT_ORIGIN),
        ({"host": ""}, DEFAULT_ORIGIN),
        ({"host": "h.example", "port": 0}, "https://h.example"),
        ({"host": "例え.example"}, "https://例え.example"),
    ],
)
def test_origins(parts: dict[str, Any], origin: str) -> None:
    assert config(**parts).origin == origin


@pytest.mark.parametrize(
    "parts",
    [
        {"host": "http://h.example"},
        {"host": "h.example", "schema": "http"},
        {"host": "h.example", "schema": "ftp"},
        {"host": "http://localhost.evil.example"},
        {"host": "http://127.0.0.1.evil.example"},
        {"host": "http://10.0.0.1"},
        {"host": "http://[::2]"},
        {"host": "https://user:secret@h.example"},
        {"host": "https://h.example?x=1"},
        {"host": "https://h.example#x"},
        {"host": "https://h.example:99999"},
        {"host": "https://h.example:99999", "port": 443},
        {"host": "h.example", "port": 99999},
        {"host": "h.example:8x", "port": 443},
        {"host": "https://[::1"},
        {"host": "https://[::1", "port": 443},
        {"host": "https://"},
        {"host": "https://a b"},
        {"host": "https://evil.example\\.good.example"},
    ],
)
def test_origins_that_are_refused_name_the_field(parts: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="'Discovery host'") as caught:
        config(**parts)
    assert "secret" not in str(caught.value)


def test_clean_origin_is_stable() -> None:
    for text in ("https://a.example/", "https://[::1]:8/x/", "http://localhost:1"):
        assert clean_origin(clean_origin(text)) == clean_origin(text)


def test_repr_hides_the_key_and_the_proxies_password() -> None:
    made = config(extra={"proxies": {"https": "http://user:geheim@p:1"}})
    for text in (repr(made), str(made), f"{made}", "%s" % made):  # noqa: UP031
        assert KEY not in text
        assert "geheim" not in text
        assert "sk-…cdef" in text
