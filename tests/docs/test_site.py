"""The documentation builds without a warning, holds every public name, and asks no other host for anything when it is read."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import grokinterp

pytest.importorskip("mkdocs", reason="the documentation is built where its extra is installed: pip install -e '.[docs]'")
pytest.importorskip("mkdocstrings", reason="the documentation is built where its extra is installed: pip install -e '.[docs]'")

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site, as a user would build it: --strict makes an error of every warning, so of every dead link and of every page that is not in
    the navigation. Not with --quiet, under which docstrings that cannot be read are not counted."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"})
    warnings = [line for line in done.stderr.splitlines() if line.startswith("WARNING")]
    assert (done.returncode, warnings) == (0, []), done.stderr
    return folder


class Loaded(HTMLParser):
    """The addresses that a browser loads by itself when it opens a page: not those of links."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("src", "srcset", "data", "poster") or (name == "href" and tag == "link" and dict(attrs).get("rel") != "canonical"):
                self.addresses.append(value or "")


def test_nothing_is_loaded_from_another_host(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 25
    for page in pages:
        html = page.read_text()
        assert "mermaid" not in html  # which the theme would fetch from elsewhere, as it would facts about a repository
        assert "data-md-source" not in html
        for address in Loaded(html).addresses:
            assert not re.match(r"(\w+:)?//", address), f"{page.name} loads {address}"
    for sheet in site.rglob("*.css"):
        assert not re.search(r"@import|url\(\s*[\"']?(https?:)?//", sheet.read_text()), sheet


def test_every_public_name_has_its_place_in_the_reference(site: Path) -> None:
    anchors = {anchor for page in (site / "api").glob("*.html") for anchor in re.findall(r'id="(grokinterp\.[\w.]+)"', page.read_text())}
    missing = []
    for name in grokinterp.__all__:
        offered = getattr(grokinterp, name)
        inside = [getattr(offered, inner) for inner in getattr(offered, "__all__", [])] if inspect.ismodule(offered) else [offered]
        for item in inside:
            if inspect.isclass(item) or inspect.isfunction(item):
                path = f"{item.__module__}.{item.__qualname__}"
                if path.startswith("grokinterp.") and path not in anchors and item.__doc__:
                    missing.append(path)
    assert not missing
