# SPDX-License-Identifier: Apache-2.0
"""What is said in several places agrees: pins, versions, the oldest Python."""

import re
from configparser import ConfigParser

import pytest
import yaml

from ape_mmdet.version import __version__


def pins(file) -> dict[str, set[str]]:
    """Versions of each package in a file of requirements, one for each Python."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r'^([\w.-]+)==([^\s;]+)', file.read_text(), re.M):
        found.setdefault(name, set()).add(version)
    return found


@pytest.fixture
def developer_pins(repository):
    return pins(repository / 'requirements/dev.txt')


@pytest.fixture
def setup_cfg(repository):
    parser = ConfigParser(interpolation=None)
    parser.read(repository / 'setup.cfg')
    return parser


@pytest.fixture
def citation(repository):
    # With every value as text: 0.1 would be a number.
    return yaml.load((repository / 'CITATION.cff').read_text(), yaml.BaseLoader)


def test_lint_and_the_tests_want_the_same_of_what_both_use(repository, developer_pins):
    of_tests = pins(repository / 'requirements/lock.txt')
    both = developer_pins.keys() & of_tests.keys()
    assert both
    assert {name: developer_pins[name] for name in both} == {
        name: of_tests[name] for name in both
    }


def test_every_tool_of_developers_has_one_pin(repository, developer_pins):
    lines = (repository / 'requirements/dev.in').read_text().splitlines()
    wanted = [re.match(r'[a-z][\w-]*', line) for line in lines]
    names = {found[0] for found in wanted if found}
    assert {'ruff', 'mypy', 'pre-commit', 'pre-commit-hooks'} <= names
    assert names <= developer_pins.keys(), names - developer_pins.keys()
    for tool in ('ruff', 'mypy', 'pre-commit-hooks'):
        assert len(developer_pins[tool]) == 1, developer_pins[tool]


def test_a_commit_is_checked_by_what_is_pinned(repository):
    file = repository / '.pre-commit-config.yaml'
    hooks = []
    for source in yaml.safe_load(file.read_text())['repos']:
        # Others name a version of their own.
        assert source['repo'] == 'local' and 'rev' not in source
        hooks += source['hooks']
    for hook in hooks:
        assert hook['language'] == 'system'
        assert hook['entry'].startswith('.venv/bin/'), hook['entry']
    programs = {' '.join(hook['entry'].split()[:2]) for hook in hooks}
    lint = re.search(
        r'^lint:.*\n((?:\t.*\n)+)', (repository / 'Makefile').read_text(), re.M
    )
    for tool, of_hook in (
        ('ruff check', '.venv/bin/ruff check'),
        ('ruff format', '.venv/bin/ruff format'),
        ('mypy', '.venv/bin/mypy'),
    ):
        assert of_hook in programs
        assert f'-m {tool}' in lint[1]


def test_all_checks_are_by_the_oldest_python(repository, setup_cfg):
    oldest = setup_cfg['options']['python_requires'].removeprefix('>=')
    classifiers = setup_cfg['metadata']['classifiers']
    listed = re.findall(r'Python :: 3\.(\d+)', classifiers)
    assert oldest == f'3.{min(map(int, listed))}'
    assert setup_cfg['mypy']['python_version'] == oldest
    ruff = (repository / 'ruff.toml').read_text()
    assert f'target-version = "py{oldest.replace(".", "")}"' in ruff


def test_missing_types_are_excused_of_other_packages_alone(setup_cfg):
    assert not setup_cfg['mypy'].getboolean('ignore_missing_imports', False)
    excused = [
        name
        for name, section in setup_cfg.items()
        if section.getboolean('ignore_missing_imports', False)
        or section.getboolean('ignore_errors', False)
    ]
    assert excused
    for name in excused:
        assert 'ape_mmdet' not in name and 'torch' not in name, name


def test_the_citation_is_one(citation, setup_cfg):
    # What version 1.2.0 of the Citation File Format requires.
    assert citation['cff-version'] == '1.2.0'
    assert citation['message'] and citation['title']
    assert citation['authors'] == [{'name': 'The ape_mmdet developers'}]
    assert citation['type'] == 'software'
    assert citation['license'] == setup_cfg['metadata']['license']
    paper = citation['preferred-citation']
    assert paper['type'] == 'conference-paper'
    assert [author['family-names'] for author in paper['authors']] == [
        'Xu',
        'Deng',
        'Li',
    ]
    (identifier,) = paper['identifiers']
    assert (identifier['type'], identifier['value']) == ('other', 'arXiv:2207.12042')


def test_the_paper_is_called_the_same_everywhere(repository, citation):
    title = citation['preferred-citation']['title']
    metafile = yaml.safe_load((repository / 'configs/metafile.yml').read_text())
    (collection,) = metafile['Collections']
    assert collection['Paper'] == {
        'Title': title,
        'URL': citation['preferred-citation']['url'],
    }
    readme = ' '.join((repository / 'README.md').read_text().split())
    assert f'*{title}*' in readme


def test_the_version_is_that_of_the_citation_and_of_the_latest_changes(
    repository, citation
):
    assert citation['version'] == __version__
    text = (repository / 'CHANGELOG.md').read_text()
    headings = re.findall(r'^## (.*)$', text, re.M)
    versions = [heading for heading in headings if heading != '[Unreleased]']
    for heading in versions:
        assert re.fullmatch(
            r'\[\d+\.\d+\.\d+\] - (unreleased|\d{4}-\d\d-\d\d)', heading
        ), heading
    assert versions[0].startswith(f'[{__version__}] ')


def test_what_contributors_are_sent_to_is_there(repository):
    text = (repository / 'CONTRIBUTING.md').read_text()
    paths = set(re.findall(r'`([\w.-]+/[\w./-]*)`', text))
    paths |= set(re.findall(r'\]\(([^)#:]+)\)', text))
    # Where results will be: written by a run.
    paths -= {'work_dirs/studies/bccd', 'docs/results/NAME.csv'}
    missing = {path for path in paths if not (repository / path).exists()}
    assert len(paths) > 20 and not missing, missing
    targets = re.search(r'^\.PHONY: (.*)$', (repository / 'Makefile').read_text(), re.M)
    assert set(re.findall(r'\bmake ([a-z]+)', text)) <= set(targets[1].split())
