"""
The page *CloseAI* in Airflow's UI (3.1 and later): what tasks have published, for users who may read assets.

Every Airflow process loads plugins. So nothing here imports FastAPI, Jinja or the API server at the top, and
the app is made when first asked for, in the API server.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import logging
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from airflow.providers.common.compat.sdk import AirflowPlugin, conf
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS

log = logging.getLogger(__name__)

PREFIX = "/closeai"


class CloseAIPlugin(AirflowPlugin):
    """Adds the page. On Airflow before 3.1 it adds nothing."""

    name = "closeai"

    @functools.cached_property
    def fastapi_apps(self) -> list[Any]:  # type: ignore[override]
        """The page's app; none if this Airflow lacks what guards it."""
        if not AIRFLOW_V_3_1_PLUS:
            return []
        try:
            app = make_app()
        except ImportError as error:  # otherwise the API server would not start
            log.warning("There is no page CloseAI: this Airflow is not as it expects (%s).", error)
            return []
        return [{"app": app, "url_prefix": PREFIX, "name": "CloseAI"}]

    @functools.cached_property
    def external_views(self) -> list[Any]:  # type: ignore[override]
        """The page's place in the navigation."""
        if not self.fastapi_apps:
            return []
        path = urlsplit(conf.get("api", "base_url", fallback="/")).path.rstrip("/")
        return [
            {
                "name": "CloseAI",
                "href": f"{path}{PREFIX}/",
                "destination": "nav",
                "category": "browse",
                "url_route": "closeai",
            }
        ]


def make_app() -> Any:
    """Make the page's app, without schema and docs, which FastAPI would serve to anybody."""
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.core_api.security import get_user, requires_access_asset
    from fastapi import Depends, FastAPI
    from fastapi.responses import HTMLResponse

    from airflow_provider_closeai.plugins import published

    app = FastAPI(
        title="CloseAI",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        dependencies=[Depends(requires_access_asset("GET"))],  # for every route
    )

    @app.get("/", response_class=HTMLResponse)
    def page(user: Any = Depends(get_user)) -> Any:  # noqa: B008  # as FastAPI requires
        dag_ids = get_auth_manager().get_authorized_dag_ids(user=user, method="GET")
        return HTMLResponse(render(published.read(dag_ids)), headers=_headers())

    return app


def render(found: Any) -> str:
    """
    Render the page.

    :param found: a :class:`~airflow_provider_closeai.plugins.published.Published`.
    """
    return str(_template().render(found=found, script=_part("theme.js"), style=_part("page.css")))


@functools.cache
def _headers() -> dict[str, str]:
    """Return headers by which the page loads nothing, runs only its script, and only Airflow frames it."""
    digest = base64.b64encode(hashlib.sha256(_part("theme.js").encode()).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    )
    return {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }


@functools.cache
def _part(name: str) -> str:
    return Path(__file__).with_name("templates").joinpath(name).read_text(encoding="utf-8")


@functools.cache
def _template() -> Any:
    import jinja2

    from airflow_provider_closeai.costs.texts import visible

    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: visible(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.from_string(_part("page.html.jinja"))
