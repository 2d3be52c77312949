# SPDX-License-Identifier: Apache-2.0
"""The documentation as a site: nothing left out, no link that leads nowhere."""

import os
import re
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from blocks import FENCE, PAGES, ROOT

from ape_mmdet import evaluation

DOCS = ROOT / 'docs'
SETTINGS = yaml.safe_load((ROOT / 'mkdocs.yml').read_text())
LINK = re.compile(r'\]\(([^)\s]+)\)')


def in_nav(entry: list | dict | str) -> Iterator[str]:
    """Files of a part of the navigation."""
    if isinstance(entry, str):
        yield entry
    else:
        for part in entry.values() if isinstance(entry, dict) else entry:
            yield from in_nav(part)


def anchors(page: Path) -> set[str]:
    """Anchors of the headings of a page, as Python-Markdown names them."""
    text = FENCE.sub('', page.read_text())
    found = set()
    for title in re.findall(r'^#+ +(.*)$', text, re.MULTILINE):
        plain = re.sub(r'\[([^]]*)\]\([^)]*\)', r'\1', title)
        ascii_only = unicodedata.normalize('NFKD', plain).encode('ascii', 'ignore')
        words = re.sub(r'[^\w\s-]', '', ascii_only.decode()).strip().lower()
        found.add(re.sub(r'[-\s]+', '-', words))
    return found


def test_the_navigation_names_every_page_once():
    named = list(in_nav(SETTINGS['nav']))
    there = [str(page.relative_to(DOCS)) for page in DOCS.rglob('*.md')]
    assert sorted(named) == sorted(there)


def test_the_page_on_evaluation_has_all_of_it():
    page = (DOCS / 'api' / 'evaluation.md').read_text()
    members = re.findall(r'^ +- (\w+)$', page, re.MULTILINE)
    assert sorted(members) == sorted(evaluation.__all__)


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = re.sub(r'`[^`\n]*`', '', FENCE.sub('', page.read_text()))
    for link in LINK.findall(text):
        if re.match(r'https?://', link):
            continue
        path, _, anchor = link.partition('#')
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f'{page.name} has a link to {link}'
        if page.parent != ROOT:
            assert target.is_relative_to(DOCS), f'{link} is not part of the site'
        if anchor:
            assert anchor in anchors(target), f'{page.name} has a link to {link}'


@pytest.fixture(scope='module')
def site(tmp_path_factory) -> Path:
    """The site, built as ``make docs`` does, but into another folder."""
    for module in ('mkdocs', 'material', 'mkdocstrings', 'mathjax'):
        pytest.importorskip(
            module, reason='what builds the site is not installed: make docs'
        )
    folder = tmp_path_factory.mktemp('site')
    command = [sys.executable, '-m', 'mkdocs', 'build', '--strict', '-d', str(folder)]
    # As the Makefile: the theme's notice of what comes after MkDocs 1.
    environment = dict(os.environ, NO_MKDOCS_2_WARNING='1')
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert 'WARNING' not in done.stderr
    return folder


def test_the_site_has_every_page(site):
    for page in DOCS.rglob('*.md'):
        html = site / page.relative_to(DOCS).with_suffix('.html')
        assert '<h1' in html.read_text(), html


def test_the_site_needs_no_network(site):
    for html in site.rglob('*.html'):
        text = html.read_text()
        loaded = re.findall(r'<(?:script|img|iframe)[^>]+src="?([^"\s>]+)', text)
        loaded += re.findall(
            r'<link[^>]+rel="?stylesheet"?[^>]*href="?([^"\s>]+)', text
        )
        assert loaded
        assert not [each for each in loaded if '//' in each], html
    assert (site / 'javascripts' / 'tex-svg.js').stat().st_size > 1_000_000


def test_equations_and_roles_of_docstrings_are_shown_as_such(site):
    for html in (site / 'api').glob('*.html'):
        text = html.read_text()
        assert not re.search(r':(func|class|meth|math|attr|mod):', text), html
        assert '.. math::' not in text
    text = (site / 'api' / 'ranking.html').read_text()
    assert text.count('class="arithmatex"') >= 6
    assert (
        '<a class="autorefs autorefs-internal"'
        in (site / 'api' / 'losses.html').read_text()
    )
