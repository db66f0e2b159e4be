"""Names of secrets: never one name for two aliases, and none that a store would not take."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_closeai.client.errors import InvalidParameter
from airflow_provider_closeai.sinks import EncryptedFileSink, SecretsManagerSink, VaultSink
from airflow_provider_closeai.sinks._reference import Reference, escaped

AWS_NAME = re.compile(r"[A-Za-z0-9/_+=.@-]{1,512}")
CONNECTION_ID = re.compile(r"[\w#!()\-.:/\\]{1,}")  # Airflow's own rule


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("team-search", "team-search"),
        ("search.web_2", "search.web_2"),
        ("搜索", "_x641C__x7D22_"),
        ("a/b", "a_x002F_b"),
        ("..", "_x002E_."),
        ("my_x", "my_x005F_x"),
        ("🚀", "_x1F680_"),
    ],
)
def test_how_an_alias_is_written(alias: str, name: str) -> None:
    assert escaped(alias) == name


ALIASES = st.text(st.sampled_from("ax_.-/0641C=é搜"), min_size=1, max_size=8) | st.text(min_size=1)


@given(one=ALIASES, other=ALIASES)
@example(one="搜", other="_x641C_")
@example(one="_搜", other="__x641C_")
@example(one="A", other="a")
def test_no_two_aliases_have_one_name(one: str, other: str) -> None:
    name = Reference("airflow/connections/openai-{alias}", "A-Za-z0-9/-", 10_000).name(1, one)
    assert AWS_NAME.fullmatch(name[:512])
    assert CONNECTION_ID.fullmatch(name)
    assert "/../" not in f"/{name}/"
    assert (escaped(one) == escaped(other)) is (one == other)


@given(accounts=st.lists(st.tuples(ALIASES, st.integers(1, 2000)), min_size=2, max_size=2, unique=True))
@pytest.mark.parametrize("template", ["{alias}-{id}", "{id}.{alias}", "a{id}b{alias}c"])
def test_no_two_accounts_have_one_name(template: str, accounts: list[tuple[str, int]]) -> None:
    reference = Reference(template, "a-z.-", 10_000)
    assert len({reference.name(number, alias) for alias, number in accounts}) == 2


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("x-{team}", r"may have \{alias\} and \{id\}"),
        ("x-{alias", "between braces"),
        ("x-{alias}}", "between braces"),
        ("{alias!r}", "between braces"),
        ("{id}{alias}", "needs text that is not a digit"),
        ("{alias}7{id}", "needs text that is not a digit"),
        ("{alias}-{alias}", "twice"),
        ("my keys/{id}", "' '"),
        ("密钥/{id}", "cannot have"),
        ("/x/{id}", "without a name"),
        ("x//{id}", "without a name"),
    ],
    ids=str,
)
@pytest.mark.parametrize("sink", [SecretsManagerSink, VaultSink])
def test_a_reference_that_gives_no_names_is_refused(sink: Any, template: Any, problem: str) -> None:
    with pytest.raises(InvalidParameter, match=problem):
        sink(template)


def test_without_either_the_id_is_at_the_end() -> None:
    assert Reference("closeai/key-", "a-z/-", 100).name(7, "team") == "closeai/key-7"


def test_a_file_is_in_its_folder() -> None:
    with pytest.raises(InvalidParameter, match="'/'"):
        EncryptedFileSink("keys", "file_key", "../{id}")


def test_a_base_without_a_connection_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="base_url is for as_connection=True"):
        VaultSink(base_url="https://gateway/v1")


def test_what_cannot_be_delivered_is_refused_before_anything_is_created(
    closeai_connection: Any, create: Any
) -> None:
    refused = [
        (SecretsManagerSink("openai-{alias}", as_connection=True), "holds one key.*Add {id} to it"),
        (SecretsManagerSink("x" * 510 + "{alias}"), "513|514|this store allows 512"),
    ]
    for sink, problem in refused:
        with pytest.raises(Exception, match=problem) as failure:
            create(sink)
        assert "Nothing was sent" in str(failure.value)
    assert closeai_connection.requests == []


def test_an_encrypted_file_is_no_connection() -> None:
    with pytest.raises(InvalidParameter, match="no secrets backend of Airflow's reads encrypted files"):
        EncryptedFileSink("keys", "file_key", "openai-{alias}", as_connection=True)
