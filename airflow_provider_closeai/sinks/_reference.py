"""Names of secrets: makes one name per alias or account from a reference such as ``closeai/{alias}``."""

from __future__ import annotations

import re

from airflow_provider_closeai.client.errors import InvalidParameter

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


class Reference:
    """
    Makes names that are unique to an alias or account.

    The letters, digits, ``-``, ``.`` and ``_`` of an alias go into a name as they are. Any other character is
    written as its Unicode number, ``_x4E2D_``; so are the ``_`` of ``_x``, which would look like that, and a
    leading ``.``.

    :param template: text with ``{alias}``, ``{id}``, or both; with neither, the id is appended.
    :param allowed: characters allowed in the other text, as in a regular expression's ``[...]``.
    :param longest: the most characters that the store allows in a name.
    :raises InvalidParameter: the template cannot make valid names.
    """

    def __init__(self, template: str, allowed: str, longest: int) -> None:
        self._template = template if "{" in str(template) else f"{template}{{id}}"
        self._longest = longest
        names = _PLACEHOLDER.findall(self._template)
        rest = _PLACEHOLDER.sub("", self._template)
        self.per_alias = names == ["alias"]
        problem = ""
        if set(names) - {"alias", "id"} or "{" in rest or "}" in rest:
            problem = "may have {alias} and {id} between braces, and nothing else"
        elif len(set(names)) < len(names):
            problem = "names one of them twice"
        elif len(names) == 2 and not re.search(r"\D", _PLACEHOLDER.split(self._template)[2]):
            problem = "needs text that is not a digit between {alias} and {id}, so that their ends are known"
        elif strange := sorted(set(re.sub(f"[{allowed}]", "", rest))):
            problem = f"has characters that this store's names cannot have: {' '.join(map(repr, strange))}"
        elif "//" in self._template or self._template.startswith("/"):
            problem = "has a part without a name (/)"
        if problem:
            example = f"closeai{'/' if '/' in allowed else '-'}{{alias}}"
            raise InvalidParameter(
                f"reference {template!r} {problem}. Give text such as {example!r}; see docs/keys.md."
            )

    def name(self, account_id: int | None, alias: str | None) -> str:
        """
        Return the name of a secret.

        :raises InvalidParameter: the alias or id that it needs is missing, or the name is too long.
        """
        known = {"alias": escaped(alias or ""), "id": "" if account_id is None else str(account_id)}
        for name in _PLACEHOLDER.findall(self._template):
            if not known[name]:
                raise InvalidParameter(
                    f"reference {self._template!r} needs the account's {name}; it has none."
                )
        found = self._template.format(**known)
        if len(found) > self._longest:
            raise InvalidParameter(
                f"The alias {alias!r} makes a name of {len(found)} characters of reference "
                f"{self._template!r}; this store allows {self._longest}. Use {{id}} instead of {{alias}}, or "
                "a shorter alias; see docs/keys.md. Nothing was sent."
            )
        return found


def escaped(alias: str) -> str:
    """Write an alias in characters that every store and connection id allows."""
    return re.sub(r"^\.|_(?=x)|[^A-Za-z0-9_.-]", lambda found: f"_x{ord(found.group()):04X}_", alias)
