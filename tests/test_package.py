# SPDX-License-Identifier: Apache-2.0
"""The wheel: all that a user needs outside the clone, found by name."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from ape_mmdet.datasets import generate_digit_scenes
from ape_mmdet.named_configs import HOME, resolve_name

ROOT = Path(__file__).resolve().parents[1]


def run(*command, folder: Path, path: Path | None = None) -> str:
    environment = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}
    if path:
        environment['PYTHONPATH'] = str(path)
    result = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
    )
    assert result.returncode == 0, result.stdout
    return result.stdout


@pytest.fixture(scope='module')
def installed(tmp_path_factory) -> Path:
    """A folder with the package as its wheel installs it, and nothing else."""
    folder = tmp_path_factory.mktemp('package')
    # Built from what is in the repository, not from what lies about in the folder.
    run('git', 'clone', '--quiet', Path.cwd(), folder / 'clone', folder=folder)
    pip = [sys.executable, '-m', 'pip', '--disable-pip-version-check']
    options = ['--no-deps', '--no-build-isolation', '--wheel-dir', folder / 'dist']
    run(*pip, 'wheel', *options, '.', folder=folder / 'clone')
    (wheel,) = folder.glob('dist/ape_mmdet-*.whl')
    run(*pip, 'install', '--no-deps', '--target', folder / 'site', wheel, folder=folder)
    return folder / 'site'


def test_type_checkers_are_told_of_the_types(installed):
    assert (installed / 'ape_mmdet/py.typed').is_file()
    (metadata,) = installed.glob('ape_mmdet-*.dist-info/METADATA')
    assert 'Classifier: Typing :: Typed\n' in metadata.read_text()


def test_two_steps_from_another_folder_by_name(installed, tmp_path):
    generate_digit_scenes(
        tmp_path / 'data/digit_scenes', num_train=4, num_val=1, image_size=96
    )
    own = tmp_path / 'own.py'
    own.write_text(
        """_base_ = 'ape_mmdet::demo_fcos_ape.py'
train_cfg = dict(max_epochs=1)
train_dataloader = dict(batch_size=2, num_workers=0)
val_dataloader = dict(num_workers=0, persistent_workers=False)
default_hooks = dict(logger=dict(interval=1))
"""
    )
    train = installed / 'ape_mmdet/.mim/tools/train.py'
    printed = run(sys.executable, train, own, folder=tmp_path, path=installed)
    assert '[1][2/2]' in printed
    assert (tmp_path / 'work_dirs/own/epoch_1.pth').exists()


def test_every_config_is_found_by_name_in_another_folder(installed, tmp_path):
    program = """
import ape_mmdet
from functools import cache
from mmengine.config import Config, utils
from pathlib import Path
utils.load = cache(utils.load)  # Of MMDetection's index.
home = Path(ape_mmdet.__file__).parent / '.mim'
names = sorted(file.name for file in (home / 'configs').glob('*.py'))
for name in names:
    config = Config.fromfile(f'ape_mmdet::{name}')
    assert Path(config.filename).parent == home / 'configs', config.filename
    assert config.model.bbox_head
print(len(names), 'configs')
"""
    printed = run(sys.executable, '-c', program, folder=tmp_path, path=installed)
    num_configs = len(list((HOME / 'configs').glob('*.py')))
    assert f'{num_configs} configs' in printed
    mistaken = [sys.executable, '-c', program.replace('{name}', 'no_{name}')]
    with pytest.raises(AssertionError, match='ape_mmdet has no config'):
        run(*mistaken, folder=tmp_path, path=installed)


def test_without_an_import_a_base_is_named_by_its_path(tmp_path):
    """As in MMDetection's own tools: see docs/config.md."""
    own = tmp_path / 'own.py'
    program = 'from mmengine.config import Config\n'
    program += f"print(Config.fromfile('{own}').model.bbox_head.type)"
    command = [sys.executable, '-c', program]
    name = 'ape_mmdet::retinanet_ape.py'
    own.write_text(f"_base_ = '{resolve_name(name)}'\n")
    assert 'RankingRetinaHead' in run(*command, folder=tmp_path, path=ROOT)
    own.write_text(f"_base_ = '{name}'\n")
    with pytest.raises(AssertionError, match='get external package'):
        run(*command, folder=tmp_path, path=ROOT)


def test_a_study_is_planned_in_another_folder(installed, tmp_path):
    tool = installed / 'ape_mmdet/.mim/tools/reproduce.py'
    options = ['table3', '--dataset', 'bccd', '--seeds', '1', '--dry-run']
    printed = run(sys.executable, tool, *options, folder=tmp_path, path=installed)
    assert f'{installed}/ape_mmdet/.mim/configs/fcos_ape_q10k.py' in printed
    assert f'{tmp_path}/work_dirs/studies' in printed


@pytest.mark.skipif(not find_spec('mim'), reason='openmim is not installed')
def test_mim_lists_searches_and_trains(installed, tmp_path):
    generate_digit_scenes(
        tmp_path / 'data/digit_scenes', num_train=4, num_val=1, image_size=96
    )
    mim = [sys.executable, '-m', 'mim']
    listed = run(*mim, 'list', folder=tmp_path, path=installed)
    assert re.search(r'^ape[_-]mmdet ', listed, re.MULTILINE)
    search = [*mim, 'search', 'ape_mmdet']
    found = run(*search, '--valid-config', folder=tmp_path, path=installed)
    for config in (HOME / 'configs').glob('*.py'):
        assert repr(config.stem) in found
    steps = ['train_cfg.max_epochs=1', 'train_dataloader.num_workers=0']
    steps += ['val_dataloader.num_workers=0']
    steps += ['val_dataloader.persistent_workers=False']
    train = [*mim, 'train', 'ape_mmdet', 'demo_fcos_ape.py', '--gpus', '0']
    run(*train, '--cfg-options', *steps, folder=tmp_path, path=installed)
    assert (tmp_path / 'work_dirs/demo_fcos_ape/epoch_1.pth').exists()


def test_the_model_index_lists_every_config_once():
    (metafile,) = yaml.safe_load((HOME / 'model-index.yml').read_text())['Import']
    content = yaml.safe_load((HOME / metafile).read_text())
    collections = {each['Name'] for each in content['Collections']}
    listed = [model['Config'] for model in content['Models']]
    there = [f'configs/{file.name}' for file in (HOME / 'configs').glob('*.py')]
    assert sorted(listed) == sorted(there)
    for model in content['Models']:
        assert model['In Collection'] in collections
        assert model['Config'] == f'configs/{model["Name"]}.py'


def test_names_of_others_are_left_alone():
    assert resolve_name('configs/fcos_ape.py') == 'configs/fcos_ape.py'
    assert resolve_name('mmdet::atss/x.py') == 'mmdet::atss/x.py'
