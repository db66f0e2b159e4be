"""Hands keys to their users: through a sink, or in an OpenAI client."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import requests

from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.config import ClientConfig
from airflow_provider_closeai.client.errors import ConfigError
from airflow_provider_closeai.client.failures import require_keys
from airflow_provider_closeai.client.models import SubAccount
from airflow_provider_closeai.client.proxies import proxies_for
from airflow_provider_closeai.client.transport import verify_by
from airflow_provider_closeai.provisioning.errors import MissingAccounts
from airflow_provider_closeai.provisioning.inputs import alias_text, bad, integer
from airflow_provider_closeai.provisioning.reading import select
from airflow_provider_closeai.provisioning.selection import Selection
from airflow_provider_closeai.sinks.base import SinkKeys, newest, require_sink

if TYPE_CHECKING:
    from openai import OpenAI


def sink_keys(client: Callable[[], CloseAIClient], sink: Any, counts: Mapping[str, int]) -> SinkKeys:
    """
    Return a sink in the form that writes take.

    :param client: returns the API client; asked for the best base when connections are delivered.
    :param sink: the value of ``deliver_to``.
    :param counts: how many accounts each alias will have.
    :raises InvalidParameter: it is not a sink, or cannot hold these keys.
    """
    return SinkKeys(require_sink(sink, counts), counts, lambda: _model_url(client().get_base_url()))


def openai_client(
    client: CloseAIClient, alias: object, account: object, options: Mapping[str, Any]
) -> OpenAI:
    """
    Make an OpenAI client; see :meth:`.closeai.CloseAIHook.get_openai_client`.

    :raises InvalidParameter: not exactly one of the two is given.
    :raises ConfigError: the package ``openai`` is not installed.
    """
    try:
        import openai
    except ImportError:
        raise ConfigError(
            "The package openai is not installed where this task runs. Nothing was sent. Install it there: "
            "pip install 'airflow-provider-closeai[openai]'."
        ) from None
    chosen = _choose(client, alias, account)
    require_keys([chosen])
    base = client.get_base_url()
    given = {"http_client": _http_client(client.config, base), **options}
    return openai.OpenAI(base_url=_model_url(base), api_key=chosen.token.reveal(), **given)


def _model_url(base: str) -> str:
    return f"{base}/v1"


def _choose(client: CloseAIClient, alias: object, account: object) -> SubAccount:
    if (alias is None) == (account is None):
        what = "neither is given" if alias is None else "both are given"
        raise bad("alias, account", f"say whose key is used, and {what}", "give exactly one of the two")
    if alias is None:
        [found] = select(client, _one(account), missing="fail")
        candidates, which = [found], f"account {found.id}"
    else:
        selection = Selection(alias=alias_text(alias))
        candidates, which = select(client, selection, missing="fail"), f"the alias {alias!r}"
    ranked = newest([each for each in candidates if not each.is_other], {})
    if not ranked:
        raise MissingAccounts(
            f"There is no sub-account under {which}: the listed account is not a sub-account.", call="list"
        )
    return next((each for each in ranked if each.enabled is not False and each.pricing), ranked[0])


def _one(account: object) -> Selection:
    """Select the account that is meant."""
    found, alias = account, None
    if isinstance(account, SubAccount):
        found, alias = account.id, account.alias
    elif isinstance(account, Mapping):
        found, alias = account.get("id"), account.get("alias")
    number = integer(found)
    if number is None:
        kind = type(account).__name__
        raise bad("account", f"names no account ({kind})", "give an id, or a record of another task")
    return Selection(ids=(number,), aliases=(alias,) if isinstance(alias, str) and alias else ())


def _http_client(config: ClientConfig, base: str) -> Any:
    """Return an HTTP client with the connection's TLS and proxy; ``None``: OpenAI's default will do."""
    import openai

    verify = verify_by(config)
    if verify is True and config.proxies is None:
        return None
    options: dict[str, Any] = {"verify": verify}
    if config.proxies is not None:
        proxy = requests.utils.select_proxy(base, proxies_for(base, config.proxies))
        options |= {"proxy": proxy, "trust_env": False}
    if isinstance(verify, str):
        folder, file = (verify, None) if os.path.isdir(verify) else (None, verify)
        options["verify"] = ssl.create_default_context(cafile=file, capath=folder)
    return openai.DefaultHttpxClient(**options)
