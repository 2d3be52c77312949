# SPDX-License-Identifier: Apache-2.0
"""The documentation's pages, their blocks of code, and the commands in them."""

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').rglob('*.md'))]

FENCE = re.compile(r'^( *)```(\w*)[^\n]*\n(.*?)^\1```$', re.MULTILINE | re.DOTALL)
# What a reader is told a command needs that the tests have not: in a comment at the
# end of the line, or in the line above the block, for all of the block.
MARK = re.compile(
    r'\((needs COCO|needs a GPU|needs \d+ GPUs|needs two hosts|needs openmim'
    r'|takes hours|downloads [^)]+)\)'
)
# Of the environment, what tells commands apart.
VARIABLES = ('APE_DATASET', 'NNODES')
PROGRAMS = ('python', 'bash', 'make', 'pip', 'mim')
# Stands for each of these programs: it notes what it was called with.
RECORDER = """#!/bin/bash
{{ printf '%s\\0' {variables} "${{0##*/}}" "$@"; printf '\\1\\0'; }} >> "$RECORD"
"""


class Block(NamedTuple):
    """A block of code of a page.

    Attributes:
        page: Its page.
        line: Line of the page on which it begins.
        language: What the page calls it.
        code: Its text, without the indentation of the block.
        mark: What is said in the line above that all of it needs, or None.
    """

    page: Path
    line: int
    language: str
    code: str
    mark: str | None

    def __str__(self) -> str:
        return f'{self.page.relative_to(ROOT)}:{self.line}'


class Command(NamedTuple):
    """A command as a shell would run it.

    Attributes:
        environment: Variables that are set for it.
        words: Program and arguments, with quotes and variables resolved.
        mark: What a reader is told that it needs, or None.
    """

    environment: dict[str, str]
    words: list[str]
    mark: str | None

    def __str__(self) -> str:
        variables = [f'{name}={value}' for name, value in self.environment.items()]
        return ' '.join([*variables, shlex.join(self.words)])


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of code of a page, in their order."""
    text = page.read_text()
    for found in FENCE.finditer(text):
        indent, language, code = found.groups()
        above = text[: found.start()].rstrip().rpartition('\n')[2]
        marked = MARK.search(above)
        yield Block(
            page=page,
            line=text[: found.start()].count('\n') + 1,
            language=language,
            code=re.sub(f'^{indent}', '', code, flags=re.MULTILINE),
            mark=marked and marked[1],
        )


def commands(block: Block, folder: Path) -> list[Command]:
    """The commands of a block of bash, found by having bash run it.

    The programs that it calls are replaced by ones that note how they are called;
    there are no others.

    Args:
        block: Of bash.
        folder: Where it is run; has what it reads with ``.`` itself.
    """
    stand_ins = folder / 'stand_ins'
    stand_ins.mkdir(exist_ok=True)
    variables = ' '.join(f'"${{{name}-}}"' for name in VARIABLES)
    for name in PROGRAMS:
        (stand_ins / name).write_text(RECORDER.format(variables=variables))
        (stand_ins / name).chmod(0o755)
    record = folder / 'record'
    record.write_bytes(b'')
    # A mark at the end of a line is handed on as the last word of its command.
    code = re.sub(rf'#.*?({MARK.pattern}).*', r"'\1'", block.code)
    done = subprocess.run(
        ['/bin/bash', '-euc', code],
        cwd=folder,
        env=dict(PATH=str(stand_ins), RECORD=str(record)),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f'{block}: {done.stderr}'
    called = record.read_bytes().decode().split('\1\0')[:-1]
    return [_command(call.split('\0')[:-1], block.mark) for call in called]


def _command(words: list[str], mark: str | None) -> Command:
    values, words = words[: len(VARIABLES)], words[len(VARIABLES) :]
    marked = MARK.fullmatch(words[-1])
    if marked:
        words, mark = words[:-1], marked[1]
    environment = {name: value for name, value in zip(VARIABLES, values) if value}
    return Command(environment, words, mark)


def inline_commands(page: Path) -> list[Command]:
    """The commands in the text and the tables of a page."""
    text = FENCE.sub('', page.read_text())
    spans = re.findall(r'`([^`]+)`', text)
    starts = ('python tools/', 'python benchmarks/', 'bash tools/', 'make ')
    return [
        Command({}, shlex.split(span), None)
        for span in (' '.join(span.split()) for span in spans)
        if span.startswith(starts)
    ]


def environment_with(command: Command) -> dict[str, str]:
    """The environment of a command."""
    return {**os.environ, **command.environment}
