# SPDX-License-Identifier: Apache-2.0
"""Every command and every snippet of the documentation runs, or says what it needs.

Commands are run in small: with a few images, for an epoch, where they train. Those
that another test runs are named with it below. All others have to be marked, such
as ``(needs COCO)``; of these it is checked that files and flags exist.
"""

import ast
import inspect
import io
import json
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path

import pytest
import torch
from blocks import (
    PAGES,
    ROOT,
    Block,
    Command,
    blocks,
    commands,
    environment_with,
    inline_commands,
)
from mmdet.registry import METRICS, MODELS
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config
from mmengine.registry import HOOKS, init_default_scope

from ape_mmdet import heads, losses
from ape_mmdet.calibration import Calibration
from ape_mmdet.datasets import generate_digit_scenes
from ape_mmdet.named_configs import resolve_name
from ape_mmdet.studies.command import GROUPS

# What another test runs, as regular expressions of the whole command.
RUN_ELSEWHERE = [
    r'python tools/calibrate\.py configs/\w+\.py \S+\.pth',
    r'python tools/prepare_data\.py bccd',
    r'(NNODES=2 )?bash tools/dist_train\.sh configs/\w+\.py \d( --work-dir \S+)?',
    r'APE_DATASET=bccd python benchmarks/selection_agreement\.py configs/\w+\.py \S+',
    r'python benchmarks/kills\.py --kills \d+',
    r'python benchmarks/memory\.py --steps \d+',
]
# Pages whose Python another test follows, block by block.
FOLLOWED_ELSEWHERE = {'docs/own_head.md'}

FEW_WORKERS = [
    f'{part}_dataloader.{name}'
    for part in ('train', 'val', 'test')
    for name in ('num_workers=0', 'persistent_workers=False')
]
# What makes a command small; the last of two settings holds.
IN_SMALL = {
    'train': [
        '--cfg-options',
        *FEW_WORKERS,
        'train_dataloader.batch_size=2',
        'train_cfg.max_epochs=1',
    ],
    'test': ['--cfg-options', *FEW_WORKERS],
    'make_digit_scenes': ['--num-train', '2', '--num-val', '1', '--image-size', '96'],
    'reproduce': ['--dry-run'],
    'infer': [],
    'plot_pr': [],
}
# In place of the data that pages speak of: their images, and names of classes.
DATA_SETS = {
    'bccd': ('BloodImage_0000{}.jpg', ('RBC', 'WBC', 'Platelets')),
    'mine': ('{}.jpg', ('bolt', 'nut')),
}


@pytest.fixture(scope='module')
def clone(tmp_path_factory) -> Path:
    """What a user has: the repository, a few images, an environment, no training."""
    folder = tmp_path_factory.mktemp('clone')
    for name in ('ape_mmdet', 'benchmarks', 'configs', 'docs', 'tools', 'Makefile'):
        (folder / name).symlink_to(ROOT / name)
    for file in ('.venv/bin/activate', '.venv/env.sh'):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
    scenes = folder / 'data' / 'digit_scenes'
    generate_digit_scenes(scenes, num_train=4, num_val=2, image_size=96)
    for name, (image, classes) in DATA_SETS.items():
        _as_data_set(scenes, folder / 'data' / name, image, classes)
    return folder


def _as_data_set(scenes: Path, folder: Path, image: str, classes: tuple) -> None:
    """Scenes of digits under other names."""
    (folder / 'images').mkdir(parents=True)
    (folder / 'annotations').mkdir()
    number = 0
    for part in ('val', 'train'):
        content = json.loads((scenes / 'annotations' / f'{part}.json').read_text())
        for each in content['images']:
            name = image.format(number)
            picture = _opened(scenes / part / each['file_name'])
            picture.save(folder / 'images' / name)
            each['file_name'] = name
            number += 1
        content['categories'] = [
            dict(id=i, name=name) for i, name in enumerate(classes, start=1)
        ]
        for each in content['annotations']:
            each['category_id'] = each['category_id'] % len(classes) + 1
        (folder / 'annotations' / f'{part}.json').write_text(json.dumps(content))


def _opened(file: Path):
    from PIL import Image

    return Image.open(file).convert('RGB')


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_shows_runs(page, clone, monkeypatch, capfd):
    monkeypatch.chdir(clone)
    name = str(page.relative_to(ROOT))
    for block in blocks(page):
        assert block.language in ('bash', 'python', 'text'), f'{block}: say what it is'
        try:
            if block.language == 'bash':
                for command in commands(block, clone):
                    _check(command)
                    _run(command, monkeypatch)
            elif block.language == 'python' and name not in FOLLOWED_ELSEWHERE:
                _run_python(block)
        except (Exception, SystemExit) as error:
            said = capfd.readouterr().out[-2000:]
            pytest.fail(f'{block}: {type(error).__name__}: {error}\n{said}')


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_mentions_exists(page):
    for command in inline_commands(page):
        _check(command)


def _check(command: Command) -> None:
    """Scripts, flags, targets and configs of a command are there."""
    program, *arguments = command.words
    for word in arguments:
        if word.startswith('ape_mmdet::'):
            resolve_name(word)
        elif re.fullmatch(r'configs/\w+\.py', word):
            assert (ROOT / word).is_file(), f'no {word} in: {command}'
    if program == 'make':
        targets = re.findall(r'^([\w.-]+):', (ROOT / 'Makefile').read_text(), re.M)
        named = [word for word in arguments if '=' not in word]
        assert set(named) <= {*targets}, f'no such target: {command}'
    elif program in ('python', 'bash') and arguments[0] != '-m':
        assert (ROOT / arguments[0]).is_file(), f'no such script: {command}'
        known = _told_of_flags(arguments[0])
        for word in arguments[1:]:
            flag = word.partition('=')[0]
            assert not flag.startswith('--') or flag in known, f'no {flag}: {command}'


@cache
def _told_of_flags(script: str) -> str:
    if not script.startswith('tools/') or script.endswith('.sh'):
        # The flags of shell scripts are those of what they start.
        other = 'tools/train.py' if 'train' in script else None
        own = (ROOT / script).read_text()
        return own + (_told_of_flags(other) if other else '')
    printed = io.StringIO()
    before = sys.argv
    try:
        with redirect_stdout(printed):
            sys.argv = [script, '--help']
            runpy.run_path(str(ROOT / script), run_name='__main__')
    except SystemExit as end:
        assert not end.code
    finally:
        sys.argv = before
    return printed.getvalue()


def _run(command: Command, monkeypatch) -> None:
    """Run a command in small, unless another test does or it says what it needs."""
    if command.mark or _is_run_elsewhere(command):
        return
    program, *arguments = command.words
    if program == 'make':
        # That there is such a target, and nothing is wrong with it.
        done = subprocess.run(['make', '-n', *arguments], capture_output=True)
        assert done.returncode == 0, done.stderr
        return
    assert program == 'python', f'marked with nothing and run by no test: {command}'
    with monkeypatch.context() as patch:
        # What tools change that run in a process of their own.
        patch.setattr(sys, 'path', [*sys.path])
        patch.setenv('LOCAL_RANK', '0')
        for name, value in environment_with(command).items():
            patch.setenv(name, value)
        if arguments[0] == '-m':
            patch.setattr(sys, 'argv', arguments[1:])
            _must_end_well(lambda: runpy.run_module(arguments[1], run_name='__main__'))
            return
        name = Path(arguments[0]).stem
        assert name in IN_SMALL, f'marked with nothing and run by no test: {command}'
        _have_checkpoints(' '.join(arguments))
        patch.setattr(sys, 'argv', [*arguments, *IN_SMALL[name]])
        _must_end_well(lambda: runpy.run_path(arguments[0], run_name='__main__'))


def _is_run_elsewhere(command: Command) -> bool:
    return any(re.fullmatch(pattern, str(command)) for pattern in RUN_ELSEWHERE)


def _must_end_well(run: Callable) -> None:
    try:
        run()
    except SystemExit as end:
        assert not end.code, end.code


def _have_checkpoints(text: str) -> None:
    """Make the checkpoints that a text names, where no training in small wrote them."""
    for found in re.findall(r'work_dirs/[\w/]+\.pth', text):
        file = Path(found)
        if file.exists():
            continue
        config = Path(f'{file.parent.name}.py')
        config = config if config.exists() else Path('configs', config)
        if not config.exists():  # The page writes it itself.
            continue
        init_default_scope('mmdet')
        settings = Config.fromfile(config)
        model = MODELS.build(settings.model)
        weights = model.state_dict()
        if 'calibrated' in file.name:
            fitted = Calibration.of_knots(
                [(torch.tensor([0.0, 1.0]), torch.tensor([0.0, 1.0]).double())]
            )
            for name in Calibration.BUFFERS:
                weights[f'bbox_head.calibration.{name}'] = getattr(fitted, name)
        file.parent.mkdir(parents=True, exist_ok=True)
        meta = dict(dataset_meta=settings.get('metainfo', {}))
        torch.save(dict(state_dict=weights, meta=meta), file)


def _run_python(block: Block) -> None:
    """Run a script; of a config, build the model and compute its losses."""
    tree = ast.parse(block.code)
    if not all(isinstance(statement, ast.Assign) for statement in tree.body):
        _have_checkpoints(block.code)
        exec(compile(tree, str(block), 'exec'), dict(__name__='__main__'))
        return
    named = re.match(r'# (\w+\.py)\n', block.code)
    file = Path(named[1] if named else 'a_config.py')
    file.write_text(block.code)
    config = Config.fromfile(file)
    init_default_scope('mmdet')
    if 'model' in config:
        _compute_losses(config)
        for hook in config.get('custom_hooks', []):
            HOOKS.build(hook)
    else:
        config.pop('custom_imports', None)  # Config.fromfile followed it.
        for name, value in config.items():
            (METRICS if name.endswith('_evaluator') else MODELS).build(value)


def _compute_losses(config: Config) -> None:
    model = MODELS.build(config.model)
    num_classes = config.model.bbox_head.num_classes
    data = demo_mm_inputs(1, [[3, 64, 64]], num_classes=num_classes)
    computed = model(**model.data_preprocessor(data, True), mode='loss')
    for name, value in computed.items():
        parts = value if isinstance(value, list) else [value]
        assert all(part.isfinite() for part in parts), name


def test_the_marks_are_told_apart_from_other_comments(tmp_path):
    code = (
        'python a.py  # (needs COCO) and time\nNNODES=2 python b.py "c d"  # 8 GPUs\n'
    )
    code += 'for x in 1 2; do\n    python tools/$x.py \\\n        --y\ndone\n'
    block = Block(PAGES[0], 1, 'bash', code, None)
    first, second, *loop = commands(block, tmp_path)
    assert first == Command({}, ['python', 'a.py'], 'needs COCO')
    assert second == Command({'NNODES': '2'}, ['python', 'b.py', 'c d'], None)
    assert [each.words[1] for each in loop] == ['tools/1.py', 'tools/2.py']
    with pytest.raises(AssertionError, match='not found'):
        commands(block._replace(code='curl example.org'), tmp_path)


def test_a_flag_or_a_script_that_is_not_there_is_found():
    for words in (
        ['python', 'tools/train.py', 'configs/fcos_ape.py', '--epochs', '3'],
        ['python', 'tools/trane.py', 'configs/fcos_ape.py'],
        ['python', 'tools/train.py', 'configs/fcos_apple.py'],
        ['make', 'tea'],
    ):
        with pytest.raises(AssertionError, match='^no '):
            _check(Command({}, words, None))


def test_a_command_that_no_test_runs_is_found(monkeypatch):
    for line in (
        'pip install no-such-package',
        'mim fly',
        'python tools/calibrate.py --fly',
        'python tools/prepare_data.py coco2017',
        'bash tools/dist_test.sh configs/fcos_ape.py 2',
    ):
        with pytest.raises(AssertionError, match='run by no test'):
            _run(Command({}, line.split(), None), monkeypatch)


def table(page: str, heading: str) -> list[list[str]]:
    """Cells of the first table below a heading, without code marks."""
    text = (ROOT / 'docs' / page).read_text().partition(f'{heading}\n')[2]
    rows = re.search(r'(?:^\|.*\n)+', text, re.MULTILINE)[0].splitlines()
    return [
        [cell.strip().strip('`') for cell in row.strip('|').split('|')]
        for row in rows[2:]
    ]


def test_the_table_of_arguments_is_that_of_the_losses():
    rows = table('config.md', "## The losses' arguments")
    for column, loss in ((1, losses.APLoss), (2, losses.APELoss)):
        told = {row[0]: ast.literal_eval(row[column]) for row in rows if row[column]}
        parameters = inspect.signature(loss).parameters
        assert told == {name: each.default for name, each in parameters.items()}


def test_the_table_of_heads_is_complete():
    rows = table('heads.md', '# Heads')
    for _, head, ranked, own in rows:
        assert hasattr(heads, head)
        for config in (ranked, own):
            assert (ROOT / 'configs' / f'{config}.py').is_file()
        config = Config.fromfile(ROOT / 'configs' / f'{ranked}.py')
        assert config.model.bbox_head.type == head
    registered = {name for name in heads.__all__ if name.endswith('Head')}
    assert {row[1] for row in rows} == registered


def test_the_table_of_studies_is_complete():
    assert {row[0] for row in table('sweeps.md', "## The paper's tables")} == {
        *GROUPS,
        'all',
    }
