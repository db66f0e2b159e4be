"""The documentation site: ``make docs``. The pages are plain Markdown, to be read in the repository too."""

from __future__ import annotations

import importlib
import os
import re
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

from airflow_provider_closeai import __version__

project = "airflow-provider-closeai"
author = "The airflow-provider-closeai authors"
copyright = author
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton"]
html_theme = "furo"
html_title = f"{project} {version}"
html_show_sourcelink = False
nitpicky = False
root_doc = "site/index"
exclude_patterns = ["README.md"]  # site/index.md includes it
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4
suppress_warnings = ["myst.header", "misc.highlighting_failure"]  # the platform's page is copied unchanged
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_default_options = {"members": True, "show-inheritance": True}
copybutton_exclude = ".linenos, .gp"

_ROOMS = {
    name: importlib.import_module(f"airflow_provider_closeai.{name}")
    for name in ("client", "costs", "provisioning", "roster", "simulator", "sinks")
}
_log = logging.getLogger(__name__)
_DOCS = Path(__file__).resolve().parents[1]
_ROOT = _DOCS.parent
# What the repository has where its pages say, and the site elsewhere.
_INSTEAD = {
    _ROOT / "README.md": _DOCS / "site/quickstart.md",
    _ROOT / "CONTRIBUTING.md": _DOCS / "site/contributing.md",
    _ROOT / "SECURITY.md": _DOCS / "site/security.md",
    _ROOT / "CHANGELOG.md": _DOCS / "site/changelog.md",
    _ROOT / "example_dags": _DOCS / "site/examples.md",
    _DOCS / "README.md": _DOCS / "site/index.md",
}
_INCLUDED = {page: source for source, page in _INSTEAD.items() if source.suffix == ".md"}
_LONE_LINK = re.compile(r"^\[[\w.]+\]\(([./]+example_dags/[\w.]+)\)$", re.MULTILINE)


def _read_as_of_the_repository(app: Sphinx, page: str, source: list[str]) -> None:
    """
    Include what a page of the site stands for, and lead each link to where the site has its target.

    A link to an example that has a line of its own becomes the example itself.
    """
    here = _DOCS / f"{page}.md"
    origin = _INCLUDED.get(here, here)
    text = source[0] if origin == here else origin.read_text() + "\n" + source[0]

    def lead(match: re.Match[str]) -> str:
        path, hash_sign, anchor = match[1].partition("#")
        if not path or "://" in path:
            return match[0]
        target = (origin.parent / path).resolve()
        inside = next(
            (page for old, page in _INSTEAD.items() if target == old or old in target.parents), target
        )
        return f"]({os.path.relpath(inside, here.parent)}{hash_sign}{anchor})"

    def show(match: re.Match[str]) -> str:
        file = (origin.parent / match[1]).resolve()
        language = "yaml" if file.suffix == ".yaml" else "python"
        return f"```{{literalinclude}} {os.path.relpath(file, here.parent)}\n:language: {language}\n```"

    source[0] = re.sub(r"\]\(([^)\s]+)\)", lead, _LONE_LINK.sub(show, text))


def _miss_nothing(app: Sphinx, env: BuildEnvironment) -> None:
    """Warn, and so fail, where a public name is not in the API reference."""
    objects = env.get_domain("py").objects  # type: ignore[attr-defined]
    for name, room in _ROOMS.items():
        for public in room.__all__:
            if f"{room.__name__}.{public}" not in objects:
                _log.warning("site/api.md has nothing of %s.%s: give it a docstring", name, public)


def setup(app: Sphinx) -> None:
    """Have Sphinx call it."""
    for room in _ROOMS.values():
        for public in room.__all__:  # imported on first use: autodoc sees only what was
            setattr(room, public, getattr(room, public))
    app.connect("source-read", _read_as_of_the_repository)
    app.connect("env-check-consistency", _miss_nothing)
