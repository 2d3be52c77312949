# SPDX-License-Identifier: Apache-2.0
"""Docstrings as Markdown: they hold reStructuredText's roles and equations."""

import re
from typing import Any

import griffe

ROLE = re.compile(r':(?:func|class|meth|attr|mod):`~?([\w.]+)`')
MATH = re.compile(r':math:`([^`]+)`')
EQUATION = re.compile(r'^( *)\.\. math::\n((?:\1 +.*\n|\n)+)', re.MULTILINE)


class RolesAndEquations(griffe.Extension):
    """Roles become links where the site has what they name; equations, MathJax's."""

    def on_instance(self, *, obj: griffe.Object | griffe.Alias, **kwargs: Any) -> None:
        if obj.is_alias or obj.docstring is None:
            return
        text = EQUATION.sub(_equation, f'{obj.docstring.value}\n')
        text = MATH.sub(lambda found: f'\\({_one_line(found[1])}\\)', text)
        text = ROLE.sub(lambda found: _link(found[1], obj), text)
        obj.docstring.value = text.rstrip('\n')


def _equation(found: re.Match) -> str:
    indent, body = found.groups()
    lines = ''.join(f'{indent}{line.strip()}\n' for line in body.strip().split('\n'))
    if '&' in body:
        lines = f'{indent}\\begin{{aligned}}\n{lines}{indent}\\end{{aligned}}\n'
    return f'{indent}\\[\n{lines}{indent}\\]\n\n'


def _one_line(text: str) -> str:
    return ' '.join(text.split())


def _link(name: str, obj: griffe.Object) -> str:
    try:
        path = obj.resolve(name)
    except griffe.NameResolutionError:
        path = name
    shown = name.rpartition('.')[2]
    return f'<autoref identifier="{path}" optional><code>{shown}</code></autoref>'
