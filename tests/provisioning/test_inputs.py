"""Every parameter's bad values: the error names it, and nothing was sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from support import client_of, run_create

from airflow_provider_closeai.client.errors import InvalidParameter
from airflow_provider_closeai.client.models import SecretToken
from airflow_provider_closeai.provisioning import runner
from airflow_provider_closeai.provisioning.inputs import pricing
from airflow_provider_closeai.provisioning.requests import CreateRequest, DeleteRequest, RepriceRequest
from airflow_provider_closeai.provisioning.selection import Selection
from airflow_provider_closeai.simulator import Simulator

NAN, INF = float("nan"), float("inf")
WHOLE = [0, -1, 1.5, "x", "", None, True, [1], "1.5", "²", "-3", NAN, INF, "nan", 10**20, "9" * 5000]
WHOLE += ["1e400000000", "1e-400000000", b"1", Decimal("0.5"), {}]
SECONDS = [-1, "x", None, True, NAN, INF, "inf", []]
FLAGS = ["yes", 1, 0, None, "", []]
ALIASES = ["", None, 5, 7.0, True, ["a"], b"a", "a\ud83d"]
NEW_ALIASES = [
    " a",
    "a ",
    "a\n",
    "\ta",
    "a\x00b",
    "x" * 256,
    "\u3000a",
    "a\xa0b",
    "a\u2009b",
    "a\u2028b",
    "\x7f",
    "None",
]
NEW_ALIASES += [
    "a\u200bb",
    "a\u200db",
    "\u200d字",
    "字\u200d",
    "\ufeffa",
    "a\xadb",
    "a\u202eb",
    "a\u2060b",
    "字\u200d a",
]
NEW_ALIASES += ["a\U000e0067"]
FACTORS = [
    -1,
    "-0.1",
    NAN,
    INF,
    "nan",
    "inf",
    "sNaN",
    "x",
    "",
    True,
    False,
    [],
    {},
    "1e400",
    "0.1" * 12,
    "1,5",
]
FACTORS += ["0.12345678901234567890", Decimal("NaN"), b"1"]
PRICINGS: list[Any] = [
    None,
    "",
    "gpt-4",
    "[",
    "5",
    5,
    [],
    {},
    "{}",
    [5],
    [{}],
    [{"model": 5, "pricing_factor": 1}],
    [{"model": "", "pricing_factor": 1}],
    [{"model": " a", "pricing_factor": 1}],
    [{"model": "a"}],
    [{"model": "a", "prompt_price": 1, "completion_price": 1}],
    [{"model": "a", "auto_following": False}],
    [{"model": "a", "auto_following": "true"}],
    [{"model": "a", "pricing_factor": 1, "price": 2}],
    [{"model": "a", "pricing_factor": 1}, {"model": "a", "pricing_factor": 1}],
    {"": 1},
    {5: 1},
    {"a": None},
    *({"a": factor} for factor in FACTORS if factor is not None),
    '{"a": NaN}',
    '{"a": Infinity}',
]
IDS = [
    [],
    "",
    "x",
    "5,6",
    True,
    [True],
    [1.5],
    [None],
    [{}],
    [{"id": None}],
    [{"id": "x"}],
    ["²"],
    [[]],
    [[], [[]]],
    [[1], None],
    [None, [{"id": 1}]],
    [b"1"],
    [[1], "x"],
    ["1e2"],
    [2.5],
    [NAN],
    {},
    "null",
    "None",
    " ",
    "[{'id': 1}]",
    "[" * 10**5,
]
SKS = [
    "None",
    ["sk-abc****wxyz"],
    "sk-abc…wxyz",
    ["sk-real-key-1", "sk-xxxxxxxxxx"],
    [],
    "",
    " , ",
    [""],
    ["  "],
    [5],
    [None],
    5,
    True,
    "[",
    "[]",
    "[5]",
    {"a": 1},
    [b"sk-a"],
]

#: What consoles let people type, and a selection must find.
ODD = [
    "\u3000全角\u3000",
    "a\xa0b",
    "👩\u200d💻",
    " a ",
    "a\tb\n",
    "x\u200by",
    "字" * 400,
    " ",
    "\u202edcba",
    "'; drop",
    '"',
    "a%",
    "a&b=c#d",
    "\x00",
]


class Whole:
    """A whole number of another library, such as numpy's."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value


Run = Callable[[Simulator, dict[str, Any]], object]


def create(sim: Simulator, given: dict[str, Any]) -> object:
    usual = {"alias": "a", "model_pricing": {"a": 1}, "balance": 1}
    return run_create(client_of(sim), CreateRequest.parse(**{**usual, **given}))


def update(sim: Simulator, given: dict[str, Any]) -> object:
    chosen = {} if {"sub_accounts", "sks", "alias"} & set(given) else {"alias": "a"}
    return runner.reprice(
        client_of(sim), RepriceRequest.parse(**{"model_pricing": {"a": 1}, **chosen, **given})
    )


def delete(sim: Simulator, given: dict[str, Any]) -> object:
    chosen = {} if {"sub_accounts", "sks", "alias"} & set(given) else {"alias": "a"}
    return runner.delete(client_of(sim), DeleteRequest.parse(**{**chosen, **given}))


CASES: dict[str, list[tuple[Run, list[Any]]]] = {
    "alias": [(create, ALIASES + NEW_ALIASES), (update, [value for value in ALIASES if value is not None])],
    "model_pricing": [(create, PRICINGS), (update, PRICINGS)],
    "balance": [(create, [None, *FACTORS])],
    "count": [(create, WHOLE)],
    "batch_size": [(create, WHOLE), (update, WHOLE), (delete, WHOLE)],
    "settle": [(create, SECONDS)],
    "if_exists": [(create, ["Ensure", "", None, 1, ["ensure"]])],
    "mode": [(update, ["Merge", "", None, 1])],
    "missing": [(delete, ["warn", "", None])],
    "max_delete": [(delete, [-1, 1.5, "x", True, ""])],
    "dry_run": [(update, FLAGS), (delete, FLAGS)],
    "sub_accounts": [(update, IDS), (delete, IDS)],
    "sks": [(update, SKS), (delete, SKS)],
}
FLAT = [(name, run, value) for name, runs in CASES.items() for run, values in runs for value in values]


@pytest.fixture(scope="module")
def untouched() -> Iterator[Simulator]:
    """A platform for all of them: none may ask it anything."""
    with Simulator() as simulator:
        yield simulator


@pytest.mark.parametrize(
    ("name", "run", "value"),
    FLAT,
    ids=[f"{run.__name__} {name}={str(value)[:25]!a}" for name, run, value in FLAT],
)
def test_bad_values_are_named_and_nothing_is_sent(
    untouched: Simulator, name: str, run: Run, value: Any
) -> None:
    with pytest.raises(InvalidParameter) as caught:
        run(untouched, {name: value})
    assert name in str(caught.value)
    assert "Nothing was sent" in str(caught.value)
    assert caught.value.permanent
    assert untouched.requests == []


@pytest.mark.parametrize(
    "given",
    [
        {"alias": None},
        {"alias": "a", "sks": ["sk-a"]},
        {"alias": "a", "sub_accounts": [1]},
        {"sub_accounts": [1], "sks": ["sk-a"]},
        {"sub_accounts": [1], "sks": ["sk-a"], "alias": "a"},
        {"sub_accounts": [], "alias": "a"},
    ],
)
@pytest.mark.parametrize("run", [update, delete])
def test_selecting_nothing_or_twice(sim: Simulator, run: Run, given: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameter, match="exactly one"):
        run(sim, given)
    assert sim.requests == []


@pytest.mark.parametrize("parameters", [("sub_accounts", "alias"), ("sub_accounts",)])
def test_an_error_names_no_parameter_that_the_user_cannot_give(parameters: tuple[str, ...]) -> None:
    with pytest.raises(InvalidParameter, match=f"{', '.join(parameters)} selects?.*none is given") as caught:
        Selection.parse(parameters=parameters)
    assert "sks" not in str(caught.value)
    with pytest.raises(InvalidParameter, match="sub_accounts is 'None'") as caught:
        Selection.parse("None", parameters=parameters)
    assert "sks" not in str(caught.value)


@pytest.mark.parametrize("value", [["sk-secretsecret", 5], '["sk-secretsecret"', "[sk-secretsecret]"])
def test_an_error_shows_no_key(value: Any) -> None:
    with pytest.raises(InvalidParameter) as caught:
        Selection.parse(None, None, value)
    assert "secretsecret" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "want"),
    [
        ({"a": 1, "b": "1.5"}, {"a": 1, "b": Decimal("1.5")}),
        ('{"a": 1, "b": 0.1}', {"a": 1, "b": Decimal("0.1")}),
        ([{"model": "a", "pricing_factor": 0}], {"a": 0}),
        ('[{"model": "a", "pricing_factor": "2"}]', {"a": 2}),
        ([{"model": "a", "pricing_factor": 2, "prompt_price": 0, "auto_following": False}], {"a": 2}),
        ({"a": 0.1}, {"a": Decimal("0.1")}),
        ({"a": Decimal("1.20")}, {"a": Decimal("1.2")}),
        ({"a": Decimal.from_float(0.1)}, {"a": Decimal("0.1")}),
        ({"a": "0.29999999999999999"}, {"a": Decimal("0.3")}),
        ({"a": "1.1000000000000001"}, {"a": Decimal("1.1")}),
        ({"a": 1e-7}, {"a": Decimal("1e-7")}),
        ({"a": "-0"}, {"a": 0}),
        (({"model": "a", "pricing_factor": 1},), {"a": 1}),
    ],
)
def test_good_prices(value: Any, want: dict[str, Any]) -> None:
    assert pricing(value) == want


def test_the_pages_own_example_is_taken_with_a_warning() -> None:
    old = [{"model": "a", "prompt_price": 0, "completion_price": 0, "auto_following": True}]
    with pytest.warns(DeprecationWarning, match="auto_following"):
        assert pricing(old) == {"a": 1}


@pytest.mark.parametrize(
    ("given", "want"),
    [
        ({"sub_accounts": [1, "2", {"id": 3, "alias": "x"}, {"id": "4"}, 1]}, Selection(ids=(1, 2, 3, 4))),
        ({"sub_accounts": 7}, Selection(ids=(7,))),
        ({"sub_accounts": "[1, 2]"}, Selection(ids=(1, 2))),
        ({"sub_accounts": {"id": 3}}, Selection(ids=(3,))),
        ({"sub_accounts": (number for number in (1, 2))}, Selection(ids=(1, 2))),
        ({"sub_accounts": [[{"id": 1}, {"id": 2}], [{"id": 3}]]}, Selection(ids=(1, 2, 3))),
        ({"sub_accounts": "[[1, 2], [3], []]"}, Selection(ids=(1, 2, 3))),
        ({"sub_accounts": ((1, [2]), {3})}, Selection(ids=(1, 2, 3))),
        ({"sub_accounts": iter([[[1]], (each for each in [2])])}, Selection(ids=(1, 2))),
        ({"sub_accounts": {"a": {"id": 1}}.values()}, Selection(ids=(1,))),
        ({"sub_accounts": [7.0, Whole(8), " 9 ", Decimal(10)]}, Selection(ids=(7, 8, 9, 10))),
        ({"sub_accounts": Whole(8)}, Selection(ids=(8,))),
        *[({"alias": alias}, Selection(alias=alias)) for alias in ODD],
        ({"alias": "a b"}, Selection(alias="a b")),
        ({"sks": "sk-a, sk-b\nsk-a"}, Selection(tokens=(SecretToken("sk-a"), SecretToken("sk-b")))),
        ({"sks": '["sk-a"]'}, Selection(tokens=(SecretToken("sk-a"),))),
        (
            {"sks": [SecretToken("sk-a"), " sk-b "]},
            Selection(tokens=(SecretToken("sk-a"), SecretToken("sk-b"))),
        ),
    ],
)
def test_good_selections(given: dict[str, Any], want: Selection) -> None:
    assert Selection.parse(**{"sub_accounts": None, "alias": None, "sks": None, **given}) == want


def test_texts_of_templates_are_taken() -> None:
    made = CreateRequest.parse("a", '{"m": 1}', "1.5", "3", if_exists="fail", batch_size="10", settle="0")
    assert (made.balance, made.count, made.batch_size, made.settle) == (Decimal("1.5"), 3, 10, 0)
    assert DeleteRequest.parse(alias="a", max_delete="0", dry_run="true").dry_run is True
    assert RepriceRequest.parse({"m": 1}, alias="a", dry_run=" False ").dry_run is False


@pytest.mark.parametrize("value", [3, 3.0, "3", " 3 ", "3.0", "+3", Decimal("3.00"), Whole(3)])
def test_whole_numbers_of_any_type_are_taken(value: Any) -> None:
    assert CreateRequest.parse("a", {"m": 1}, value, value).count == 3
    assert CreateRequest.parse("a", {"m": value}, value).pricing == {"m": 3}
    assert DeleteRequest.parse(alias="a", max_delete=value, batch_size=value).max_delete == 3


def test_a_number_of_a_class_of_ones_own_is_taken() -> None:
    class Money(Decimal):
        pass

    request = CreateRequest.parse("a", {"m": Money("1.5")}, Money(3))
    assert (type(request.pricing["m"]), type(request.balance)) == (Decimal, Decimal)


@pytest.mark.parametrize("value", ["3e0", "\uff13", "1_0", "3.", "0x3", "3\x003"])
def test_numbers_that_only_python_or_one_script_knows_are_refused(value: str) -> None:
    for given in ({"count": value}, {"batch_size": value}):
        with pytest.raises(InvalidParameter):
            CreateRequest.parse("a", {"m": 1}, 1, **given)
    if value != "3e0":
        with pytest.raises(InvalidParameter, match="is text, and not a number"):
            CreateRequest.parse("a", {"m": 1}, value)


@pytest.mark.parametrize(
    "alias",
    [
        "张三\u3000研发",
        "团队-甲\uff08一\uff09",
        "👩\u200d💻 dev",
        "👨\u200d👩\u200d👧",
        "❤\ufe0f",
        "\U0001f3f4\U000e0067\U000e0062\U000e007f",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "क्\u200dष",
        "1️⃣",
        "é e\u0301",
        "葛\ufe00城",
        "\u182d\u180b",
        "a/b c:d@e",
    ],
)
def test_new_aliases_that_people_read_are_taken(alias: str) -> None:
    assert CreateRequest.parse(alias, {"m": 1}, 1).alias == alias


@pytest.mark.parametrize(
    ("given", "cure"),
    [
        ({"model_pricing": "{'gpt-4': 1}"}, "tojson"),
        (
            {"model_pricing": "[{'model': 'a', 'pricing_factor': Decimal('1')}]"},
            "render_template_as_native_obj",
        ),
        ({"alias": 7}, "put quotes inside"),
        ({"alias": 1e3}, "put quotes inside"),
        ({"alias": "a\xa0b"}, "U+00A0 (NO-BREAK SPACE)"),
        ({"alias": "a\x00b"}, "U+0000"),
        ({"alias": "a\u3164b"}, "U+3164 (HANGUL FILLER)"),
        ({"alias": "a\ufe0fb"}, "U+FE0F (VARIATION SELECTOR-16)"),
        ({"alias": "a\u2800"}, "U+2800"),
        ({"alias": "a\ue000"}, "U+E000"),
        ({"model_pricing": {"a": "1e59", "b": 10**61}}, "at most 60 digits"),
        ({"alias": "\u201ca\u201d"}, "in typographic quotes: write plain quotes around it, or none"),
        (
            {"alias": "sk-" + "aB3" * 8},
            "has the form of a key: give the accounts' exact alias, or select by ids",
        ),
        ({"model_pricing": '{"a": 1, "a": 2}'}, "'a' is there twice in one object"),
        ({"model_pricing": {"gpt-4\u200b": 1}}, "with U+200B (ZERO WIDTH SPACE) inside"),
        ({"balance": 1e-61}, "at most 60 digits"),
        ({"if_exists": "replace"}, "'ensure', 'update', 'match', 'fail'"),
    ],
)
def test_an_error_names_the_cure(given: dict[str, Any], cure: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        CreateRequest.parse(**{"alias": "a", "model_pricing": {"a": 1}, "balance": 1, **given})
    assert cure in str(caught.value)


@pytest.mark.parametrize("value", [None, "None", "null", ""])
def test_a_task_that_returned_nothing_is_named_with_the_cure(value: Any) -> None:
    with pytest.raises(InvalidParameter, match=r"returned nothing .*marked success.*select by alias"):
        Selection.parse(value, None, None)


def test_text_of_a_template_names_the_cure_and_shows_nothing() -> None:
    with pytest.raises(InvalidParameter, match="tojson"):
        Selection.parse("[{'id': 1, 'alias': 'a'}]", None, None)


@pytest.mark.parametrize("balance", [1, "100", "12.50", 0.1, Decimal("7")])
def test_a_balance_travels_as_it_is_written(balance: Any) -> None:
    assert str(CreateRequest.parse("a", {"m": 1}, balance).balance) == str(balance)


def test_a_template_is_no_name_of_a_model() -> None:
    for name in ("{{ params.model }}", "{% if 1 %}m"):
        with pytest.raises(InvalidParameter, match="names are not rendered"):
            pricing({name: 1})
