"""Who pays: rules from account ids or alias patterns to teams and cost centres; teams' budgets."""

from __future__ import annotations

import fnmatch
import functools
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from airflow_provider_closeai.client.errors import InvalidParameter
from airflow_provider_closeai.costs.accounting.money import format_amount, parse_amount, total
from airflow_provider_closeai.costs.accounting.months import format_ids
from airflow_provider_closeai.costs.accounting.shares import Owner, Share, owner_of, payers_of
from airflow_provider_closeai.costs.errors import CurrencyConflict
from airflow_provider_closeai.costs.inputs import cell_text, short_repr
from airflow_provider_closeai.costs.texts import shown

#: The team of accounts without a rule.
UNALLOCATED = "Unallocated"
_ID_DIGITS = 18


class Rule(msgspec.Struct, frozen=True):
    """
    A rule by ``id`` or by ``alias``: an exact one or a pattern with ``*``, ``?``, ``[...]``.

    :param place: its place in the source, for warnings.
    :param shares: who pays how much; empty: the owner pays all.
    """

    owner: Owner
    place: str
    id: int | None = None
    alias: str | None = None
    shares: tuple[Share, ...] = ()

    @property
    def message(self) -> str:
        """The rule, for messages."""
        what = f"id {self.id}" if self.id is not None else f"alias {self.alias!r}"
        return f"{self.place} ({what} -> {self.owner.team!r})"


_NO_RULE = Rule(Owner(UNALLOCATED), "")


class Owners:
    """
    Finds who pays, and remembers which rules were used.

    Rules by id come before rules by alias; of the latter, the first that matches counts.

    :param rules: in the order written.
    """

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = list(rules)
        self._by_id: dict[int, list[Rule]] = {}
        for rule in self.rules:
            if rule.id is not None:
                self._by_id.setdefault(rule.id, []).append(rule)
        self._patterns = [
            (re.compile(fnmatch.translate(rule.alias)).match, rule)
            for rule in self.rules
            if rule.alias is not None
        ]
        self._matching = functools.cache(self._find)
        self._used: set[int] = set()
        self._overlaps: dict[tuple[Rule, Rule], list[int]] = {}

    def rule_of(self, account_id: int, alias: str) -> Rule:
        """Return the rule for an account; a rule of ``UNALLOCATED`` if none matches."""
        by_id, by_alias = self._by_id.get(account_id, []), self._matching(alias)
        self._used.update(map(id, by_id + by_alias))
        found = by_id or by_alias
        if not found:
            return _NO_RULE
        first = found[0]
        for other in found[1:]:
            if payers_of(other.owner, other.shares) != payers_of(first.owner, first.shares):
                self._overlaps.setdefault((first, other), []).append(account_id)
        return first

    def warnings(self) -> list[str]:
        """Report rules that matched nothing or contradict each other; call it after all accounts."""
        idle = [
            f"No account of this month matches {rule.message}: a typing error, or a rule that is not needed "
            "any more."
            for rule in self.rules
            if id(rule) not in self._used
        ]
        overlaps = [
            f"Both {first.message} and {other.message} match {format_ids(accounts)}: the first one counts. "
            "Make one of them narrower, or name these accounts by id."
            for (first, other), accounts in self._overlaps.items()
        ]
        return idle + overlaps

    def _find(self, alias: str) -> list[Rule]:
        return [rule for matches, rule in self._patterns if rule.alias == alias or matches(alias)]


def parse_owners(source: object) -> list[Rule]:
    """
    Read owner rules.

    :param source: ``None``; a mapping such as ``{"search-*": "Search", "id:7": {"team": "Ads", "cost_center":
        "CC-2"}, "shared": {"split": {"Search": 60, "Ads": 40}}}``; or a list of mappings with ``team``,
        ``cost_center`` and ``id`` or ``alias``, and ``percent`` if several lines share an account.
    :raises InvalidParameter: a rule is wrong; names it.
    """
    if source is None:
        return []
    rules = []
    if isinstance(source, Mapping):
        for number, (key, value) in enumerate(source.items(), 1):
            by = {"id": key} if isinstance(key, int | float) else {"alias": key}
            if isinstance(key, str) and key.startswith("id:"):
                by = {"id": key[3:]}
            rest = value if isinstance(value, Mapping) else {"team": value}
            rules.append(_rule({**rest, **by}, f"owners rule {number}"))
    elif isinstance(source, Sequence) and not isinstance(source, str):
        for number, value in enumerate(source, 1):
            if not isinstance(value, Mapping):
                raise InvalidParameter(f"owners: entry {number} is not a mapping with team and id or alias.")
            rules.append(_rule(value, f"owners rule {number}"))
    else:
        raise InvalidParameter(f"owners: {type(source).__name__} is neither a mapping nor a list of rules.")
    return _joined(rules)


def parse_budgets(source: object, currency: str) -> dict[str, Decimal]:
    """
    Read the monthly budgets, by team.

    :param source: ``None``; a mapping ``{"Search": "1200.50"}``; or a list of mappings with ``team``,
        ``budget`` and perhaps ``currency``.
    :raises InvalidParameter: an entry is wrong; names it.
    :raises CurrencyConflict: an entry is in another currency.
    """
    if source is None:
        return {}
    if isinstance(source, Mapping):
        source = [{"team": team, "budget": budget} for team, budget in source.items()]
    if not isinstance(source, Sequence) or isinstance(source, str):
        raise InvalidParameter(f"budgets: {type(source).__name__} is neither a mapping nor a list.")
    amounts: dict[str, Decimal] = {}
    for number, entry in enumerate(source, 1):
        place = f"budgets entry {number}"
        if not isinstance(entry, Mapping):
            raise InvalidParameter(f"{place} is not a mapping with team and budget.")
        _only(entry, {"team", "budget", "currency"}, place)
        team = _text(entry, "team", place)
        other = cell_text(f"{place}: currency", entry.get("currency")).strip() or currency
        if other != currency:
            raise CurrencyConflict(
                f"{place} ({team!r}) is in {other}, and the report is in {currency}. Nothing is converted "
                "here: give the budget in the currency of monthly_cost."
            )
        amount = parse_amount(f"{place} ({team!r})", entry.get("budget"))
        if amount <= 0:
            raise InvalidParameter(
                f"{place} ({team!r}): a budget is above 0, not {amount}. Leave the team out if it has none."
            )
        if team in amounts:
            raise InvalidParameter(f"{place}: {team!r} has a budget already.")
        amounts[team] = amount
    return amounts


def _rule(entry: Mapping[Any, Any], place: str) -> Rule:
    names = {"team", "cost_center", "id", "alias", "percent"}
    _only(entry, names | {"split"}, place)
    cell = {name: cell_text(f"{place}: {name}", entry.get(name)) for name in names}
    shares: tuple[Share, ...] = ()
    if entry.get("split") is not None:
        if cell["team"] or cell["cost_center"] or cell["percent"]:
            raise InvalidParameter(f"{place}: give either team, or split.")
        shares = _shares(_split_entries(entry["split"], place), place)
        owner = owner_of(shares)
    else:
        owner = Owner(_text(entry, "team", place), cell["cost_center"].strip())
        if percent := cell["percent"].strip():
            shares = (Share(owner, parse_amount(f"{place}: percent", percent.removesuffix("%"))),)
    by_id, alias = cell["id"].strip(), cell["alias"]
    if bool(by_id) == bool(alias):
        raise InvalidParameter(f"{place} ({owner.team!r}): give exactly one of id and alias.")
    if by_id and not (by_id.isdecimal() and len(by_id) <= _ID_DIGITS):
        raise InvalidParameter(f"{place} ({owner.team!r}): {shown(by_id)!r} is not the id of a sub-account.")
    return Rule(owner, place, int(by_id) if by_id else None, alias or None, shares)


def _joined(rules: Sequence[Rule]) -> list[Rule]:
    """Join lines that share an account, with the same id or alias and a ``percent``, into one rule."""
    joined: dict[tuple[int | None, str | None], list[Share]] = {}
    for rule in rules:
        if len(rule.shares) == 1:
            joined.setdefault((rule.id, rule.alias), []).extend(rule.shares)
    found = []
    for rule in rules:
        if len(rule.shares) != 1:
            found.append(rule)
        elif lines := joined.pop((rule.id, rule.alias), None):
            shares = _shares([(share.owner, share.percent) for share in lines], rule.place)
            found.append(Rule(owner_of(shares), rule.place, rule.id, rule.alias, shares))
    return found


def _split_entries(source: object, place: str) -> list[tuple[Owner, Any]]:
    """Read a rule's ``split``: ``{"Search": 60, "Ads": "40%"}``, or a list of mappings."""
    known = {"team", "cost_center", "percent"}
    if isinstance(source, Mapping):
        source = [{"team": team, "percent": percent} for team, percent in source.items()]
    found = []
    for entry in source if isinstance(source, Sequence) and not isinstance(source, str) else [source]:
        if not isinstance(entry, Mapping) or not {"team", "percent"} <= entry.keys() <= known:
            raise InvalidParameter(
                f"{place}: split: give a mapping such as {{'Search': 60, 'Ads': 40}}, or a list of mappings "
                "with team, cost_center and percent."
            )
        names = (cell_text(f"{place}: split", entry.get(key)).strip() for key in ("team", "cost_center"))
        found.append((Owner(*names), entry["percent"]))
    return found


def _shares(entries: Sequence[tuple[Owner, Any]], place: str) -> tuple[Share, ...]:
    """Read the percentages of an account's payers: numbers or texts such as ``60%``, together 100."""
    shares = []
    for owner, value in entries:
        if not owner.team:
            raise InvalidParameter(f"{place}: split: a team is missing or empty.")
        text = value.strip().removesuffix("%").strip() if isinstance(value, str) else value
        percent = parse_amount(f"{place} ({owner.team!r}): percent", text)
        if percent <= 0:
            raise InvalidParameter(f"{place} ({owner.team!r}): a share is above 0 %, not {percent}.")
        shares.append(Share(owner, percent))
    if len({share.owner for share in shares}) < len(shares):
        raise InvalidParameter(f"{place}: a team and cost centre has two shares.")
    whole = total(share.percent for share in shares)
    if whole != 100:
        raise InvalidParameter(f"{place}: the shares are {format_amount(whole)} % together, not 100.")
    return tuple(shares)


def _text(entry: Mapping[Any, Any], key: str, place: str) -> str:
    text = cell_text(f"{place}: {key}", entry.get(key)).strip()
    if not text:
        raise InvalidParameter(f"{place}: {key} is missing or empty.")
    return text


def _only(entry: Mapping[Any, Any], known: set[str], place: str) -> None:
    unknown = ", ".join(short_repr(key) for key in entry if key not in known)
    if unknown:
        raise InvalidParameter(f"{place}: {unknown} is not known; there are {', '.join(sorted(known))}.")
