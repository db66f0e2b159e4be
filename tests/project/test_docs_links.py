"""Every link leads somewhere, every page is in the index and the site, and none is too long."""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from doc_blocks import DOCUMENTS, ROOT

DOCS = ROOT / "docs"
CAPTIONS = ["Tutorials", "Guides", "Reference", "Explanation", "Stability"]
ROOMS = ("client", "costs", "provisioning", "roster", "simulator", "sinks")
#: The web addresses that the documents name. This project has none yet: what is made up leads nowhere.
HOSTS = {"api.shadowai.xyz", "doc.closeai-asia.com", "json-schema.org", "keepachangelog.com", "semver.org"}
RESERVED = re.compile(r"127\.0\.0\.1|localhost|\w+|(.*\.)?example(\.(com|org|net))?")  # RFC 2606, RFC 6761
by_path = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def anchor(heading: str) -> str:
    """Return the anchor that a heading has on a page."""
    return re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).replace(" ", "-")


def tracked(*patterns: str) -> list[Path]:
    """Name the files of the repository, or of the package where there is none."""
    listed = subprocess.run(["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True)
    found = [ROOT / name for name in listed.stdout.splitlines()]
    return [path for path in found if path.is_file()] or sorted(
        (ROOT / "airflow_provider_closeai").rglob("*.py")
    )


@by_path
def test_links_lead_to_files_and_headings(document: Path) -> None:
    text = re.sub(r"^ *```.*?^ *```$", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target, _, fragment in (link.partition("#") for link in re.findall(r"\]\(([^)\s]+)\)", text)):
        if "://" in target:
            continue
        page = document.parent / target if target else document
        assert page.exists(), f"{document.name} links to {target}"
        if fragment:
            headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
            assert fragment in map(anchor, headings), f"{document.name} links to {target}#{fragment}"


@pytest.mark.parametrize(
    "document", [*DOCUMENTS, ROOT / "pyproject.toml", ROOT / "airflow_provider_closeai/__init__.py"], ids=str
)
def test_web_addresses_are_https_and_known(document: Path) -> None:
    if document.name == "platform-api.md":
        return  # copied unchanged
    for address in re.findall(r"https?://[^\s)`\"'>,;|]*[\w/]", document.read_text()):
        parts = urlsplit(address)
        host = parts.hostname or ""
        if not RESERVED.fullmatch(host):
            assert parts.scheme == "https", address
            assert host in HOSTS, f"{document.name}: does {address} exist? Then add its host here."


def test_pages_that_the_code_names_exist() -> None:
    named = re.compile(r"\bdocs/[\w/-]+\.(?:md|json|sql)(?:#[\w-]+)?")
    count = 0
    for path in tracked("*.py", "*.toml", "*.yml", "*.yaml", "Makefile", "*.md"):
        for page in named.findall(path.read_text()):
            count += 1
            file, _, fragment = page.partition("#")
            assert (ROOT / file).exists(), f"{path.relative_to(ROOT)} names {page}"
            headings = re.findall(r"^#+ (.*)$", (ROOT / file).read_text(), re.MULTILINE)
            assert not fragment or fragment in map(anchor, headings), f"{path.relative_to(ROOT)} names {page}"
        for page in re.findall(r"(?:DocsLink\(|DOCS_URL\.format\(page=)\"([^\"]+)\"\)", path.read_text()):
            assert (DOCS / page).exists(), f"{path.relative_to(ROOT)} links to {page}"
    assert count > 50


def test_every_page_is_in_the_index() -> None:
    index = DOCS / "README.md"
    linked = {(DOCS / target).resolve() for target in re.findall(r"\]\(([^)#]+)\)", index.read_text())}
    pages = set(DOCS.rglob("*.md")) - set((DOCS / "site").iterdir())
    assert pages - linked == {index}
    assert "](docs/README.md)" in (ROOT / "README.md").read_text()


def test_the_index_and_the_site_have_the_same_parts_with_the_same_pages() -> None:
    index = (DOCS / "README.md").read_text()
    parts = dict(re.findall(r"^## ([^\n]*)\n(.*?)(?=^## |\Z)", index, re.MULTILINE | re.DOTALL))
    site = (DOCS / "site/index.md").read_text()
    trees = dict(re.findall(r"^:caption: ([^\n]*)\n(.*?)^```$", site, re.MULTILINE | re.DOTALL))
    assert list(parts) == CAPTIONS
    assert list(trees) == [*CAPTIONS, "Project"]
    for name, text in parts.items():
        linked = re.findall(r"\]\(([\w/-]+)\.md\)", text)
        assert linked
        assert linked == re.findall(r"^\.\./(\S+)$", trees[name], re.MULTILINE), name


def test_the_site_shows_every_example() -> None:
    shown = re.findall(
        r"^\[[\w.]+\]\(\.\./\.\./example_dags/([\w.]+)\)$", (DOCS / "site/examples.md").read_text(), re.M
    )
    there = [path.name for path in (ROOT / "example_dags").iterdir() if path.suffix in (".py", ".yaml")]
    assert shown == sorted(there)


@by_path
def test_no_page_but_reference_is_longer_than_three_screens(document: Path) -> None:
    index = (DOCS / "README.md").read_text()
    reference = re.findall(r"\]\(([\w/-]+\.md)\)", index.partition("## Reference\n")[2].partition("\n## ")[0])
    assert len(reference) > 15
    if document in [DOCS / page for page in reference] or document.name == "CHANGELOG.md":
        return
    text = document.read_text()
    assert len(text.splitlines()) <= 150, "split it, or shorten it"
    assert len(text) <= 9000, "split it, or shorten it"


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_has_a_docstring_and_is_in_the_api_reference(room: str) -> None:
    """The site's build fails where one of them is not on the page (docs/site/conf.py)."""
    module = importlib.import_module(f"airflow_provider_closeai.{room}")
    page = (DOCS / "site/api.md").read_text()
    assert f".. automodule:: {module.__name__}\n   :imported-members:\n" in page
    for name in module.__all__:
        thing = getattr(module, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert inspect.getdoc(thing), f"{room}.{name}"
            methods = {} if not inspect.isclass(thing) else vars(thing)
            for method, function in methods.items():
                if inspect.isfunction(function) and not method.startswith("_"):
                    assert inspect.getdoc(function), f"{room}.{name}.{method}"


def test_every_public_module_is_in_the_api_reference() -> None:
    """Those from which docs/stability.md imports."""
    public = set(
        re.findall(r"from (airflow_provider_closeai[\w.]*) import", (DOCS / "stability.md").read_text())
    )
    assert len(public) > 10
    page = (DOCS / "site/api.md").read_text()
    assert public <= set(re.findall(r"^\.\. automodule:: (\S+)$", page, re.MULTILINE))
