# SPDX-License-Identifier: Apache-2.0
"""What MkDocs does not do: equations without a network, pages that are not in docs/."""

import re
from importlib.util import find_spec
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

MATHJAX = 'static/mathjax/es5/tex-svg.js'
LINK = re.compile(r'(\]\()([\w./-]+?)/?(\))')


CONTRIBUTING = 'CONTRIBUTING.md'


def on_config(config: MkDocsConfig) -> None:
    """How to contribute, which stands in the root, is a page where there is one."""
    if Path(config.config_file_path).with_name(CONTRIBUTING).is_file():
        config.nav.append({'Contributing': CONTRIBUTING})


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add MathJax, from the package that brings it, and a list of the results."""
    package = Path(find_spec('mathjax').origin).parent
    files.append(
        File.generated(
            config, 'javascripts/tex-svg.js', abs_src_path=str(package / MATHJAX)
        )
    )
    contributing = Path(config.config_file_path).with_name(CONTRIBUTING)
    if contributing.is_file():
        content = _seen_from_docs(contributing.read_text())
        files.append(File.generated(config, CONTRIBUTING, content=content))
    folder = Path(config.docs_dir, 'results')
    names = sorted(file.name for file in folder.glob('*.csv'))
    listed = ''.join(f'- [{name}]({name})\n' for name in names)
    content = f'# Figures of each training\n\n[The sweep](tuning.md)\n\n{listed}'
    files.append(
        File.generated(
            config,
            'results/index.md',
            content=content,
            inclusion=InclusionLevel.NOT_IN_NAV,
        )
    )
    return files


def _seen_from_docs(text: str) -> str:
    """Text of the root with its links to docs/; what else it links to is no page."""

    def moved(found: re.Match) -> str:
        title, target = found.groups()
        if target.startswith('docs/') and target.partition('#')[0].endswith('.md'):
            return f'[{title}]({target.removeprefix("docs/")})'
        return found[0] if '://' in target or target.startswith('#') else title

    return re.sub(r'\[([^]]+)\]\(([^)\s]+)\)', moved, text)


def on_page_markdown(
    markdown: str, page: Page, config: MkDocsConfig, files: Files
) -> str:
    """Links to a folder, which a repository shows as a list, lead to its page."""
    here = Path(config.docs_dir, page.file.src_path).parent

    def to_page(found: re.Match) -> str:
        target = here / found[2]
        return f'{found[1]}{found[2]}{"/index.md" if target.is_dir() else ""}{found[3]}'

    return LINK.sub(to_page, markdown)
