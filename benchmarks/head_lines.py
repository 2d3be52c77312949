#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""Lines of code of each ranking head, and of what heads share, as Markdown.

    python benchmarks/head_lines.py

Counted is the whole file of a head or a mixin, or its class where a file has
several, without blank lines, comments, docstrings and imports.
"""

import ast
import io
import tokenize
from pathlib import Path

HEADS = Path(__file__).resolve().parents[1] / 'ape_mmdet' / 'heads'
# What is no code: layout and comments.
LAYOUT = (
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
)


def code_lines(source: str) -> set[int]:
    """Numbers of the lines that hold code."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    lines = {
        line
        for token in tokens
        if token.type not in LAYOUT
        for line in range(token.start[0], token.end[0] + 1)
    }
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom) or (
            # A docstring.
            isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        ):
            lines -= lines_of(node)
    return lines


def lines_of(node: ast.stmt) -> set[int]:
    """Numbers of the lines of a statement, from the first decorator it may have."""
    starts = [node, *getattr(node, 'decorator_list', [])]
    first = min(start.lineno for start in starts)
    return set(range(first, (node.end_lineno or node.lineno) + 1))


def lines_by_head() -> dict[str, int]:
    """Lines of code by the name of a head or mixin."""
    counted = {}
    for file in sorted(HEADS.glob('*.py')):
        source = file.read_text()
        lines = code_lines(source)
        heads = [
            node
            for node in ast.parse(source).body
            if isinstance(node, ast.ClassDef) and node.name.endswith(('Head', 'Mixin'))
        ]
        for head in heads:
            own = lines if len(heads) == 1 else lines & lines_of(head)
            counted[head.name] = len(own)
    return counted


def main() -> None:
    print('| head or mixin | lines of code |')
    print('|---|---:|')
    for name, lines in lines_by_head().items():
        print(f'| {name} | {lines} |')


if __name__ == '__main__':
    main()
