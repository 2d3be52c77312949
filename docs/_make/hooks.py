"""What MkDocs does not do by itself: equations without a network, folders as pages."""

import re
from importlib.util import find_spec
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

MATHJAX = 'static/mathjax/es5/tex-svg.js'
LINK = re.compile(r'(\]\()([\w./-]+?)/?(\))')


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add MathJax, from the package that brings it, and a list of the results."""
    package = Path(find_spec('mathjax').origin).parent
    files.append(
        File.generated(
            config, 'javascripts/tex-svg.js', abs_src_path=str(package / MATHJAX)
        )
    )
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


def on_page_markdown(
    markdown: str, page: Page, config: MkDocsConfig, files: Files
) -> str:
    """Links to a folder, which a repository shows as a list, lead to its page."""
    here = Path(config.docs_dir, page.file.src_path).parent

    def to_page(found: re.Match) -> str:
        target = here / found[2]
        return f'{found[1]}{found[2]}{"/index.md" if target.is_dir() else ""}{found[3]}'

    return LINK.sub(to_page, markdown)
