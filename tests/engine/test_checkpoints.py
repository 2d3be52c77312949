"""Checkpoints load as data; what would run code is refused and does not run."""

import io
import os
import pickle
import subprocess
import sys
import tarfile
from collections import OrderedDict, defaultdict

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.runner import CheckpointLoader

from ape_mmdet.engine import checkpoints
from ape_mmdet.engine.errors import UserError


@pytest.fixture
def plain_load():
    """``torch.load`` as tools/train.py and tools/test.py have it."""
    return checkpoints._plain(torch.load)


class Attack:
    """Makes a file when it is unpickled."""

    def __init__(self, trace) -> None:
        self.trace = str(trace)

    def __reduce__(self):
        return os.mkdir, (self.trace,)


class Nested:
    """Hides a pickle in one that torch would unpickle by its own function."""

    def __init__(self, trace) -> None:
        stream = io.BytesIO()
        torch.save(Attack(trace), stream)
        self.inner = stream.getvalue()

    def __reduce__(self):
        return torch.storage._load_from_bytes, (self.inner,)


class Getattr:
    """Reaches for a function through an object that is allowed."""

    def __init__(self, _) -> None:
        pass

    def __reduce__(self):
        return getattr, (HistoryBuffer, '__init__')


class GetattrOfModule(Getattr):
    def __reduce__(self):
        return getattr, (torch.Size, '__class__')


ATTACKS = {
    'at the top': Attack,
    'in an array': lambda trace: np.array([Attack(trace)], dtype=object),
    'in a buffer': lambda trace: _buffer_with(Attack(trace)),
    'in a pickle within': Nested,
    'getattr': Getattr,
    'getattr of a class': GetattrOfModule,
    'eval': lambda trace: _Call(eval, f'__import__("os").mkdir({str(trace)!r})'),
    'a function of torch': lambda trace: _Call(torch.load, str(trace)),
    'a partial': lambda trace: _partial(trace),
}


class _Call:
    def __init__(self, function, *args) -> None:
        self.call = (function, args)

    def __reduce__(self):
        return self.call


def _partial(trace):
    from functools import partial

    return defaultdict(partial(os.mkdir, str(trace)))


def _buffer_with(what) -> HistoryBuffer:
    buffer = HistoryBuffer()
    buffer._statistics_methods = {'mean': what}
    return buffer


@pytest.mark.parametrize('kind', ['zip', 'legacy', 'bare pickle'])
@pytest.mark.parametrize('attack', ATTACKS)
def test_code_is_refused_and_does_not_run(plain_load, attack, kind, tmp_path):
    trace = tmp_path / 'trace'
    content = dict(state_dict=dict(), meta=ATTACKS[attack](trace))
    file = tmp_path / 'stranger.pth'
    if kind == 'bare pickle':
        file.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, file, _use_new_zipfile_serialization=kind == 'zip')
    # torch itself refuses old files in which it sees a zip archive.
    refusal = '--trust-checkpoint|is a zip archive'
    with pytest.raises((UserError, RuntimeError), match=refusal):
        plain_load(file)
    assert not trace.exists()
    if attack == 'at the top' and kind != 'bare pickle':
        # The attack is one: without the guard it does what it says.
        torch.load(file, weights_only=False)
        assert trace.exists()


def test_the_oldest_format_is_refused_alike(plain_load, tmp_path):
    file = tmp_path / 'stranger.tar'
    trace = tmp_path / 'trace'
    with tarfile.open(file, 'w') as archive:
        for name in ('sys_info', 'pickle', 'storages', 'tensors'):
            data = pickle.dumps(Attack(trace))
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    with pytest.raises((UserError, RuntimeError)):
        plain_load(file)
    assert not trace.exists()


def test_scripts_are_refused(plain_load, tmp_path):
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), tmp_path / 'script.pt')
    with pytest.raises(UserError, match='TorchScript'):
        plain_load(tmp_path / 'script.pt')


@pytest.mark.parametrize('zipped', [True, False])
def test_what_mmengine_writes_is_read_as_it_is(plain_load, zipped, tmp_path):
    hub = MessageHub.get_instance('test_checkpoints')
    hub.update_scalar('train/loss', 1.5)
    hub.update_info('epoch', 3)
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(4, 2)).sum().backward()
    optimizer.step()
    content = dict(
        meta=dict(
            cfg='x = 1',
            dataset_meta=dict(classes=('a', 'b'), palette=[(0, 1, 2)]),
            seed=np.int64(3),
            config=ConfigDict(a=dict(b=1)),
            shape=torch.Size([2, 3]),
            dtype=torch.float16,
            device=torch.device('cpu'),
            sets={1, 2},
            array=np.arange(6.0).reshape(2, 3),
            names=np.array(['a', 'b']),
        ),
        message_hub=hub.state_dict(),
        state_dict=OrderedDict(model.state_dict()),
        parameter=torch.nn.Parameter(torch.ones(2, dtype=torch.bfloat16)),
        optimizer=optimizer.state_dict(),
    )
    file = tmp_path / 'epoch_1.pth'
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    loaded = plain_load(file, map_location='cpu')
    assert repr(loaded['meta']) == repr(content['meta'])
    buffer = loaded['message_hub']['log_scalars']['train/loss']
    assert isinstance(buffer, HistoryBuffer) and buffer.statistics('mean') == 1.5
    for key, value in content['state_dict'].items():
        assert loaded['state_dict'][key].equal(value)
    assert loaded['parameter'].equal(content['parameter'])
    assert str(loaded['optimizer']) == str(content['optimizer'])


def test_pickles_of_numpy_1_are_read(plain_load, tmp_path):
    data = pickle.dumps(np.arange(3), protocol=2)
    data = data.replace(b'numpy._core.multiarray', b'numpy.core.multiarray')
    file = tmp_path / 'old.pkl'
    file.write_bytes(data)
    with file.open('rb') as stream:
        assert checkpoints._PlainPickle.load(stream).tolist() == [0, 1, 2]


@pytest.fixture
def admitted():
    """torch's own list of what a file may hold, as importing our hooks makes it."""
    before = torch.serialization.get_safe_globals()
    checkpoints.admit_training_state()
    yield
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals(before)


@pytest.mark.parametrize('zipped', [True, False])
def test_torch_reads_what_mmengine_resumes_from(admitted, zipped, tmp_path):
    hub = MessageHub.get_instance('test_torch_reads')
    hub.update_scalar('train/loss', 2.5)
    content = dict(
        message_hub=hub.state_dict(),
        meta=dict(seed=np.int64(3), config=ConfigDict(a=dict(b=1)), sets={1, 2}),
        arrays=[np.arange(3), np.ones(2, np.float32), np.array(['a']), np.array(True)],
    )
    file = tmp_path / 'epoch_1.pth'
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    loaded = torch.load(file, weights_only=True)
    buffer = loaded['message_hub']['log_scalars']['train/loss']
    assert isinstance(buffer, HistoryBuffer) and buffer.statistics('mean') == 2.5
    assert repr(loaded['meta']) == repr(content['meta'])
    assert repr(loaded['arrays']) == repr(content['arrays'])


@pytest.mark.parametrize('zipped', [True, False])
@pytest.mark.parametrize('attack', ATTACKS)
def test_torch_refuses_code_as_before(admitted, attack, zipped, tmp_path):
    trace = tmp_path / 'trace'
    file = tmp_path / 'stranger.pth'
    content = dict(state_dict=dict(), meta=ATTACKS[attack](trace))
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises((UserError, RuntimeError, pickle.UnpicklingError)):
        torch.load(file, weights_only=True)
    assert not trace.exists()


RESUME_WITHOUT_OUR_TOOLS = """
import sys
from mmengine.utils import import_modules_from_strings
import_modules_from_strings(['ape_mmdet.hooks'])
from mmengine.runner import CheckpointLoader
loaded = CheckpointLoader.load_checkpoint(sys.argv[1], map_location='cpu')
print(loaded['message_hub']['log_scalars']['train/loss'].statistics('mean'))
"""


def test_mmengine_resumes_with_only_our_hooks_imported(tmp_path):
    hub = MessageHub.get_instance('test_only_our_hooks')
    hub.update_scalar('train/loss', 2.5)
    file = tmp_path / 'epoch_1.pth'
    torch.save(dict(message_hub=hub.state_dict()), file)
    done = subprocess.run(
        [sys.executable, '-c', RESUME_WITHOUT_OUR_TOOLS, str(file)],
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1:] == ['2.5'], done.stderr
    assert 'weights_only=False' not in done.stdout + done.stderr


def test_a_trusted_checkpoint_may_hold_what_runs_code(monkeypatch, tmp_path):
    monkeypatch.setenv(checkpoints.TRUST, '0')
    trace = tmp_path / 'trace'
    file = tmp_path / 'own.pth'
    torch.save(dict(meta=Attack(trace)), file)
    checkpoints.guard_loading(trusted=True)
    CheckpointLoader.load_checkpoint(str(file), map_location='cpu')
    assert trace.exists()


TOOL = {
    'test': ['tools/test.py', 'configs/bccd_retinanet_ape.py', '{file}'],
    'resume': ['tools/train.py', 'configs/bccd_retinanet_ape.py', '--resume', '{file}'],
    'load_from': [
        'tools/train.py',
        'configs/bccd_retinanet_ape.py',
        '--cfg-options',
        'load_from={file}',
    ],
}


@pytest.mark.parametrize('tool', TOOL)
def test_tools_refuse_a_strangers_checkpoint(tool, bccd, tmp_path):
    trace = tmp_path / 'trace'
    file = tmp_path / 'stranger.pth'
    torch.save(dict(state_dict=dict(), meta=dict(), x=Attack(trace)), file)
    command = [part.format(file=file) for part in TOOL[tool]]
    done = subprocess.run(
        [sys.executable, *command, '--work-dir', str(tmp_path / 'work')]
        if tool != 'load_from'
        else [sys.executable, *command[:2], '--work-dir', str(tmp_path / 'work')]
        + command[2:],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert 'Error: The checkpoint holds posix.mkdir' in done.stderr
    assert '--trust-checkpoint' in done.stderr and 'Traceback' not in done.stderr
    assert not trace.exists()


def test_what_was_made_of_a_checkpoint_later_is_not_gone_on_from(tmp_path):
    for name in ('epoch_5.pth', 'iter_9.pth', 'epoch_5_calibrated.pth', 'best_5.pth'):
        (tmp_path / name).touch()
    found = {file.name for file in checkpoints.find_checkpoints(tmp_path)}
    assert found == {'epoch_5.pth', 'iter_9.pth'}
