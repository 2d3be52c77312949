# SPDX-License-Identifier: Apache-2.0
"""Checkpoints load as data; what would run code is refused and does not run."""

import errno
import io
import os
import pickle
import random
import re
import subprocess
import sys
import tarfile
import zipfile
from collections import OrderedDict, defaultdict

import numpy as np
import pytest
import torch
from commands import printed_by, run
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.optim import OneCycleParamScheduler
from mmengine.registry import PARAM_SCHEDULERS
from mmengine.runner import CheckpointLoader

from ape_mmdet.engine import checkpoints
from ape_mmdet.errors import UserError


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


class GetattrOfSchedule(Getattr):
    def __reduce__(self):
        return getattr, (OneCycleParamScheduler, 'build_iter_from_epoch')


class GetattrOfModule(Getattr):
    def __reduce__(self):
        return getattr, (torch.Size, '__class__')


class _Call:
    """Calls a function when it is unpickled, and may give the result a state."""

    def __init__(self, function, *args, state=None) -> None:
        self.call = (function, args, state)

    def __reduce__(self):
        return self.call


ATTACKS = {
    'at the top': Attack,
    'in an array': lambda trace: np.array([Attack(trace)], dtype=object),
    'in a buffer': lambda trace: _buffer_with(Attack(trace)),
    'in a pickle within': Nested,
    'getattr': Getattr,
    'getattr of a class': GetattrOfModule,
    'getattr of a schedule': GetattrOfSchedule,
    'a schedule': lambda _: _Call(OneCycleParamScheduler, None, 'lr'),
    'eval': lambda trace: _Call(eval, f'__import__("os").mkdir({str(trace)!r})'),
    'a function of torch': lambda trace: _Call(torch.load, str(trace)),
    'a partial': lambda trace: _partial(trace),
    'a method of a dictionary': lambda trace: _shadowed(trace),
    'a method of weights': lambda trace: _shadowed(trace, '_metadata', OrderedDict()),
    'a method in slots': lambda _: _Call(OrderedDict, state=(None, dict(get=slice))),
    'weights without a dictionary': lambda _: _Call(
        OrderedDict, state=dict(_metadata=slice)
    ),
    'a method of a buffer': lambda _: _Call(HistoryBuffer, state=dict(update=slice)),
    'no history in a buffer': lambda _: _Call(
        HistoryBuffer, state=dict(_log_history=slice)
    ),
    'another statistic': lambda _: _Call(
        HistoryBuffer, state=dict(statistics_methods=dict(mean=slice))
    ),
}


def _partial(trace):
    from functools import partial

    return defaultdict(partial(os.mkdir, str(trace)))


def _shadowed(trace, *attribute) -> OrderedDict:
    """A ``meta`` with a config that runs, which does not tell of it if asked."""
    config = f'import os\nos.mkdir({str(trace)!r})'
    meta = OrderedDict(epoch=10**6, iter=0, config=config)
    # What MMEngine asks with is ``in``.
    vars(meta).update([attribute] if attribute else [], get=frozenset)
    return meta


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
    parts = dict(storages=pickle.dumps(0) + pickle.dumps([]), tensors=pickle.dumps(0))
    parts['pickle'] = pickle.dumps(Attack(trace))
    with tarfile.open(file, 'w') as archive:
        for name, data in parts.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    with pytest.raises(UserError, match='--trust-checkpoint'):
        plain_load(file)
    assert not trace.exists()
    # The attack is one, and the file is of that format.
    torch.load(file, weights_only=False)
    assert trace.exists()


@pytest.mark.parametrize('reader', ['Python', 'torch alone'])
def test_scripts_are_refused(plain_load, reader, tmp_path):
    file = tmp_path / 'script.pt'
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), file)
    if reader == 'torch alone':
        content = file.read_bytes()
        end = content.rfind(b'PK\5\6')
        file.write_bytes(content[:end] + b'between' + content[end:])
        with pytest.raises(zipfile.BadZipFile):
            zipfile.ZipFile(file)
    assert isinstance(torch.load(file, weights_only=False), torch.nn.Module)
    with pytest.raises(UserError, match='TorchScript'):
        plain_load(file)
    with file.open('rb') as stream, pytest.raises(UserError, match='TorchScript'):
        plain_load(stream)


# States that lie about memory, and the constructor that takes objects from bytes.
LIES = {
    'records of objects': _Call(
        np.dtype,
        *('V8', False, True),
        state=(3, '|', None, ('f',), {'f': (np.dtype('O'), 0)}, 8, 1, 0),
    ),
    'flags': _Call(
        np.dtype, 'f8', False, True, state=(3, '<', None, None, None, -1, -1, 1)
    ),
    'a size': _Call(
        np.dtype, 'U1', False, True, state=(3, '<', None, None, None, 400, 4, 8)
    ),
    'an array equal to None': _Call(
        np.dtype,
        *('f8', False, True),
        state=(3, '<', None, None, np.array([None], dtype=object), -1, -1, 0),
    ),
    'a type of objects': np.dtype('O'),
    'an array of objects': np.array([None], dtype=object),
    'an array of addresses': _Call(np.ndarray, (1,), 'O', bytes(8)),
    'an array of an array': _Call(
        np._core.numeric._frombuffer if hasattr(np, '_core') else np.frombuffer,
        *(np.arange(2), np.dtype('i8'), (2,), 'C'),
    ),
}


@pytest.mark.parametrize('lie', LIES)
def test_numpy_is_told_no_lies_about_memory(plain_load, lie, tmp_path):
    torch.save(dict(lie=LIES[lie]), tmp_path / 'stranger.pth')
    with pytest.raises((UserError, TypeError)):
        plain_load(tmp_path / 'stranger.pth')


def _load_pickle(data: bytes):
    return checkpoints._PlainPickle.load(io.BytesIO(data))


def test_an_array_is_built_once():
    array = np.arange(3)
    state = pickle.dumps(array.__reduce__()[2], protocol=2)[2:-1]
    with pytest.raises(UserError, match='a state for a ndarray'):
        _load_pickle(pickle.dumps(array, protocol=2)[:-1] + state + b'b.')


@pytest.mark.parametrize(
    'target', [torch._utils._rebuild_tensor_v2, ConfigDict, HistoryBuffer, np.ndarray]
)
def test_functions_and_classes_stay_as_they_are(target):
    state = pickle.dumps((None, dict(__doc__='changed')), protocol=2)[2:-1]
    with pytest.raises(UserError, match='a state for a'):
        _load_pickle(pickle.dumps(target, protocol=2)[:-1] + state + b'b.')
    assert target.__doc__ != 'changed'


ARRAYS = [
    np.arange(6.0).reshape(2, 3),
    np.asfortranarray(np.arange(6).reshape(2, 3)),
    np.arange(3, dtype='>i4'),
    np.array(['a', 'bcd']),
    np.array([b'a', b'bcd']),
    np.array([True, False]),
    np.array(2.5),
    np.array([]),
    np.array([1 + 2j]),
    np.float32(1.5),
    np.str_('a'),
]


@pytest.mark.parametrize('protocol', [2, 5])
@pytest.mark.parametrize('array', ARRAYS, ids=repr)
def test_arrays_are_read_as_they_are(array, protocol):
    data = pickle.dumps(array, protocol=protocol)
    loaded, expected = _load_pickle(data), pickle.loads(data)
    assert type(loaded) is type(expected) and repr(loaded) == repr(expected)
    assert loaded.dtype == expected.dtype
    assert str(loaded.flags) == str(expected.flags)


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
            options=ConfigDict(a=dict(b=1)),
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


# What schedules have to be given.
SCHEDULES = {
    'CosineAnnealing': dict(T_max=3),
    'CosineRestart': dict(periods=[2, 3], restart_weights=[1, 1], eta_min=0),
    'Exponential': dict(gamma=0.9),
    'MultiStep': dict(milestones=[2, 3]),
    'OneCycle': dict(eta_max=0.1, total_steps=10),
    'QuadraticWarmup': dict(end=3),
    'ReduceOnPlateau': dict(monitor='loss'),
    'Step': dict(step_size=2),
}


@pytest.mark.parametrize('name', sorted(PARAM_SCHEDULERS.module_dict))
def test_the_state_of_every_schedule_is_read(plain_load, name, tmp_path):
    kind = re.sub('(LR|Momentum|ParamScheduler)$', '', name)
    options = dict(SCHEDULES.get(kind, {}), type=name, optimizer=_optimizer('SGD'))
    if name.endswith('ParamScheduler'):
        options['param_name'] = 'lr'
    state = PARAM_SCHEDULERS.build(options).state_dict()
    assert _reread(plain_load, state, tmp_path) == state


@pytest.mark.parametrize(
    'name', ['ASGD', 'Adagrad', 'Adam', 'AdamW', 'NAdam', 'RMSprop', 'Rprop', 'SGD']
)
def test_the_state_of_usual_optimizers_is_read(plain_load, name, tmp_path):
    optimizer = _optimizer(name)
    optimizer.step()
    found = _reread(plain_load, optimizer.state_dict(), tmp_path)
    _optimizer(name).load_state_dict(found)
    assert str(found) == str(optimizer.state_dict())


def _optimizer(name):
    weight = torch.nn.Parameter(torch.ones(2))
    weight.grad = torch.ones(2)
    options = dict(momentum=0.9) if name == 'SGD' else {}
    return getattr(torch.optim, name)([weight], lr=0.1, **options)


def _reread(load, state, folder):
    torch.save(state, folder / 'state.pth')
    return load(folder / 'state.pth')


def test_pickles_of_numpy_1_are_read(plain_load, tmp_path):
    data = pickle.dumps(np.arange(3), protocol=2)
    data = data.replace(b'numpy._core.multiarray', b'numpy.core.multiarray')
    file = tmp_path / 'old.pkl'
    file.write_bytes(data)
    with file.open('rb') as stream:
        assert checkpoints._PlainPickle.load(stream).tolist() == [0, 1, 2]


@pytest.fixture
def admitted(monkeypatch):
    """MMEngine's loading of files, as importing our hooks makes it."""
    monkeypatch.setattr(CheckpointLoader, '_schemes', CheckpointLoader._schemes)
    checkpoints.admit_training_state()
    return CheckpointLoader.load_checkpoint


@pytest.mark.parametrize('zipped', [True, False])
def test_mmengine_reads_what_it_resumes_from(admitted, zipped, tmp_path):
    hub = MessageHub.get_instance('test_mmengine_reads')
    hub.update_scalar('train/loss', 2.5)
    content = dict(
        message_hub=hub.state_dict(),
        meta=dict(seed=np.int64(3), options=ConfigDict(a=dict(b=1)), sets={1, 2}),
        arrays=[np.arange(3), np.ones(2, np.float32), np.array(['a']), np.array(True)],
    )
    file = tmp_path / 'epoch_1.pth'
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    loaded = admitted(str(file), map_location='cpu')
    buffer = loaded['message_hub']['log_scalars']['train/loss']
    assert isinstance(buffer, HistoryBuffer) and buffer.statistics('mean') == 2.5
    assert repr(loaded['meta']) == repr(content['meta'])
    assert repr(loaded['arrays']) == repr(content['arrays'])


@pytest.mark.parametrize('zipped', [True, False])
@pytest.mark.parametrize('attack', ATTACKS)
def test_mmengine_refuses_code_where_it_did(
    admitted, attack, zipped, tmp_path, monkeypatch
):
    trace = tmp_path / 'trace'
    file = tmp_path / 'stranger.pth'
    content = dict(state_dict=dict(), meta=ATTACKS[attack](trace))
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    # As MMEngine 0.10.7 loads, with what torch 2.6 made the default.
    monkeypatch.setattr(
        checkpoints, 'load_from_local', lambda name, _: torch.load(name)
    )
    with pytest.raises((RuntimeError, pickle.UnpicklingError)):
        admitted(str(file))
    assert not trace.exists()


def test_torch_itself_allows_no_more_than_before():
    before = torch.serialization.get_safe_globals()
    checkpoints.admit_training_state()
    assert torch.serialization.get_safe_globals() == before


RESUME_WITHOUT_OUR_TOOLS = """
import sys
from mmengine.utils import import_modules_from_strings
import_modules_from_strings(['ape_mmdet.hooks'])
from mmengine.optim import OneCycleParamScheduler
from mmengine.registry import PARAM_SCHEDULERS
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
    done = run(*command[:2], '--work-dir', tmp_path / 'work', *command[2:])
    assert done.returncode == 1
    assert 'Error: The checkpoint holds posix.mkdir' in done.stdout
    assert '--trust-checkpoint' in done.stdout and 'Traceback' not in done.stdout
    assert not trace.exists()


META = {
    'as MMEngine': dict,
    'with an order': OrderedDict,
    'with defaults': lambda **meta: defaultdict(frozenset, meta),
    'as a config': ConfigDict,
}


@pytest.mark.parametrize('zipped', [True, False])
@pytest.mark.parametrize('kind', META)
def test_a_config_is_left_out_of_whatever_holds_it(plain_load, kind, zipped, tmp_path):
    meta = META[kind](config='import os', epoch=1)
    # A hook that exchanges weights must not find the dictionaries by another name.
    content = dict(meta=meta, state_dict=meta)
    content['ema_state_dict'] = content
    file = tmp_path / 'stranger.pth'
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    loaded = plain_load(file)
    assert type(loaded) is type(loaded['meta']) is dict
    assert loaded['meta'] == dict(epoch=1)
    assert loaded['state_dict'] is not loaded['meta']
    assert loaded['ema_state_dict'] is not loaded


def test_a_config_is_left_out_of_what_only_torch_reads(admitted, tmp_path, monkeypatch):
    meta = OrderedDict(epoch=1, config='import os')
    vars(meta)['get'] = set
    file = tmp_path / 'stranger.pth'
    torch.save(dict(meta=meta), file)
    monkeypatch.setattr(
        checkpoints, 'load_from_local', lambda name, _: torch.load(name)
    )
    assert admitted(str(file)) == dict(meta=dict(epoch=1))


def test_a_config_in_a_checkpoint_is_not_run(bccd, tmp_path):
    trace = tmp_path / 'trace'
    file = tmp_path / 'stranger.pth'
    hub = MessageHub.get_instance('test_a_config').state_dict()
    # More epochs than there are: training ends where it begins.
    meta = dict(epoch=10**6, iter=0, config=f'import os\nos.mkdir({str(trace)!r})')
    torch.save(dict(state_dict=dict(), meta=meta, message_hub=hub), file)
    command = ['tools/train.py', 'configs/bccd_retinanet_ape.py', '--resume', file]
    few = ['--cfg-options', 'val_dataloader.dataset.indices=2']
    printed = printed_by(*command, '--work-dir', tmp_path / 'work', *few)
    assert f'resumed epoch: {10**6}' in printed
    assert not trace.exists()


def test_a_config_is_not_run_where_a_method_hides_it(bccd, tmp_path):
    trace = tmp_path / 'trace'
    file = tmp_path / 'stranger.pth'
    hub = MessageHub.get_instance('test_a_hidden_config').state_dict()
    torch.save(dict(state_dict={}, meta=_shadowed(trace), message_hub=hub), file)
    command = ['tools/train.py', 'configs/bccd_retinanet_ape.py', '--resume', file]
    done = run(*command, '--work-dir', tmp_path / 'work')
    assert done.returncode == 1
    assert 'The checkpoint holds a state for a OrderedDict' in done.stdout
    assert not trace.exists()


@pytest.fixture
def honest(tmp_path):
    """A checkpoint like MMEngine's, small: its file and its content."""
    hub = MessageHub.get_instance('test_honest')
    hub.update_scalar('train/loss', 1.5)
    content = dict(
        meta=dict(epoch=3, cfg='x = 1', seed=np.int64(3)),
        state_dict=OrderedDict(a=torch.arange(50.0), b=torch.ones(3)),
        message_hub=hub.state_dict(),
    )
    file = tmp_path / 'epoch_3.pth'
    torch.save(content, file)
    return file, content


def test_what_is_called_whole_loads(plain_load, honest):
    file, content = honest
    whole = file.read_bytes()
    assert checkpoints.is_whole(file)
    chosen = random.Random(0)
    # The directory, at the end, is where readers differ.
    places = [chosen.randrange(len(whole)) for _ in range(300)]
    places += [chosen.randrange(len(whole) - 1000, len(whole)) for _ in range(300)]
    found = {True: 0, False: 0}
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << chosen.randrange(8)
        file.write_bytes(damaged)
        is_whole = checkpoints.is_whole(file)
        found[is_whole] += 1
        if is_whole:
            assert str(plain_load(file)['state_dict']) == str(content['state_dict'])
    # Some bits say nothing, such as those of dates.
    assert min(found.values()) > 50


@pytest.mark.parametrize('zipped', [True, False])
def test_what_is_cut_short_is_not_whole(plain_load, honest, zipped):
    file, content = honest
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    whole = file.read_bytes()
    for length in range(0, len(whole), 37):
        file.write_bytes(whole[:length])
        if checkpoints.is_whole(file):
            # Without checksums, the half of a function's name is a name.
            assert not zipped
            with pytest.raises(UserError):
                plain_load(file)


def test_what_is_refused_is_whole(tmp_path):
    file = tmp_path / 'epoch_1.pth'
    torch.save(dict(meta=Attack(tmp_path / 'trace')), file)
    assert checkpoints.is_whole(file)
    assert not (tmp_path / 'trace').exists()


FAILURES = {
    'disk': OSError(errno.EIO, 'Input/output error'),
    'network': OSError(errno.ESTALE, 'Stale file handle'),
    'permission': PermissionError(errno.EACCES, 'Permission denied'),
    'memory': MemoryError(),
    'memory of torch': RuntimeError("DefaultCPUAllocator: can't allocate memory"),
}


@pytest.mark.parametrize('place', ['open', 'zipfile', 'torch'])
@pytest.mark.parametrize('failure', FAILURES)
def test_what_cannot_be_read_just_now_is_not_called_damaged(
    honest, failure, place, monkeypatch
):
    file, _ = honest

    def fail(*_, **__):
        raise FAILURES[failure]

    if place == 'open':
        monkeypatch.setattr(type(file), 'open', fail)
    elif place == 'zipfile':
        monkeypatch.setattr(zipfile.ZipFile, 'testzip', fail)
    else:
        monkeypatch.setattr(torch, 'load', fail)
    with pytest.raises(UserError, match=f'{file} cannot be read just now'):
        checkpoints.is_whole(file)


def _touch(folder, *names) -> None:
    """Make empty files, each newer than those before."""
    for time, name in enumerate(names):
        (folder / name).touch()
        os.utime(folder / name, (time, time))


def _write(folder, *names) -> None:
    """Checkpoints, each written later than those before; files of one time."""
    folder.mkdir(parents=True, exist_ok=True)
    for second, name in enumerate(names, 10):
        meta = dict(time=f'20200101_1200{second}')
        torch.save(dict(meta=meta), folder / name)
        os.utime(folder / name, (0, 0))


def _found(folder, **hook) -> list[str]:
    return [file.name for file in checkpoints.find_checkpoints(folder, hook)]


def test_a_copy_is_gone_on_from_by_numbers(tmp_path):
    _touch(tmp_path, 'epoch_10.pth', 'epoch_2.pth', 'iter_500.pth', 'epoch_1.pth')
    epochs = ['epoch_10.pth', 'epoch_2.pth', 'epoch_1.pth']
    assert _found(tmp_path) == [*epochs, 'iter_500.pth']
    (tmp_path / 'last_checkpoint').write_text('/elsewhere/iter_500.pth')
    assert _found(tmp_path) == ['iter_500.pth', *epochs]


def test_a_longer_training_before_in_the_same_folder_is_not_gone_on_from(tmp_path):
    _touch(tmp_path, 'epoch_3.pth', 'epoch_4.pth', 'epoch_1.pth', 'epoch_2.pth')
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_2.pth'))
    assert _found(tmp_path)[:2] == ['epoch_2.pth', 'epoch_1.pth']


def test_nor_is_it_where_a_copy_has_given_its_files_new_times(tmp_path):
    longer = ['epoch_3.pth', 'epoch_24.pth']
    _write(tmp_path, *longer, 'epoch_1.pth', 'epoch_2.pth')
    (tmp_path / 'last_checkpoint').write_text('/elsewhere/epoch_2.pth')
    os.utime(tmp_path / 'last_checkpoint', (0, 0))
    for name in longer:
        os.utime(tmp_path / name, (100, 100))
    # Where none of the last training is whole, those near to it come first.
    assert _found(tmp_path) == ['epoch_2.pth', 'epoch_1.pth', *longer]


def test_what_was_written_when_a_kill_kept_it_from_being_noted_is_the_newest(tmp_path):
    """Whatever a copy made of the times of files."""
    _write(tmp_path, 'epoch_9.pth', 'epoch_1.pth', 'epoch_2.pth', 'epoch_3.pth')
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_2.pth'))
    newest = ['epoch_3.pth', 'epoch_2.pth', 'epoch_1.pth', 'epoch_9.pth']
    assert _found(tmp_path) == newest
    # One that does not say when it was written, by the time of its file.
    torch.save({}, tmp_path / 'epoch_3.pth')
    assert _found(tmp_path) == newest
    os.utime(tmp_path / 'epoch_3.pth', (0, 0))
    assert _found(tmp_path)[0] == 'epoch_2.pth'


def test_of_one_that_replaces_the_last_before_it_is_noted(tmp_path):
    """With max_keep_ckpts=1 the one that is noted is removed first."""
    _write(tmp_path, 'epoch_9.pth', 'epoch_3.pth')
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_2.pth'))
    assert _found(tmp_path) == ['epoch_3.pth', 'epoch_9.pth']


def test_checkpoints_are_found_where_the_hook_writes_them(tmp_path):
    """And those from before it wrote there, under the name it gave them then."""
    work_dir = tmp_path / 'work'
    _write(work_dir, 'epoch_1.pth', 'epoch_2.pth')
    big = tmp_path / 'big'
    _write(big / 'work', 'epoch_2.pth', 'epoch_3.pth', 'round-4-7.ckpt', 'best-7.ckpt')
    found = checkpoints.find_checkpoints(work_dir, dict(out_dir=str(big)))
    assert [file.name for file in found] == [f'epoch_{n}.pth' for n in (3, 2, 2, 1)]
    (work_dir / 'last_checkpoint').write_text(str(big / 'work' / 'epoch_2.pth'))
    found = checkpoints.find_checkpoints(work_dir, dict(out_dir=str(big)))
    assert big / 'work' / 'epoch_2.pth' in found[:2]
    (work_dir / 'last_checkpoint').write_text(str(big / 'work' / 'round-4-7.ckpt'))
    hook = dict(out_dir=big, filename_tmpl='round-4-{}.ckpt')
    assert _found(work_dir, **hook)[0] == 'round-4-7.ckpt'


@pytest.mark.parametrize('kind', ['file', 'folder', 'URL'])
def test_a_last_checkpoint_that_is_not_found_is_told(tmp_path, kind):
    _write(tmp_path / 'work', 'epoch_1.pth')
    noted = tmp_path / 'elsewhere' / 'epoch_2.pth'
    if kind == 'file':
        _write(noted.parent, noted.name)
    else:
        noted.mkdir(parents=True)
    told = f's3://bucket/{noted.name}' if kind == 'URL' else str(noted)
    (tmp_path / 'work' / 'last_checkpoint').write_text(told)
    with pytest.raises(UserError, match=f'notes {told} as its last checkpoint'):
        _found(tmp_path / 'work')


def test_what_was_made_of_a_checkpoint_later_is_not_gone_on_from(tmp_path):
    for name in ('epoch_5.pth', 'iter_9.pth', 'epoch_5_calibrated.pth', 'best_5.pth'):
        (tmp_path / name).touch()
    found = {file.name for file in checkpoints.find_checkpoints(tmp_path)}
    assert found == {'epoch_5.pth', 'iter_9.pth'}
