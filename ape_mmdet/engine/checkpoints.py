# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that are whole, and hold tensors and plain data: nothing that runs.

A checkpoint is a pickle, and a pickle can call any function while it is read.
``torch.load(weights_only=True)`` refuses that, and refuses MMEngine's own
checkpoints with it: their log holds ``HistoryBuffer`` objects, whose methods
are pickled as calls of ``getattr``, and MultiStepLR's state is a ``Counter``.
OneDL's MMEngine reads on without the protection where it fails; OpenMMLab's,
with torch 2.6 or newer, fails. Here these are let through, and nothing else.
"""

import errno
import os
import pickle
import re
import time
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn as nn
from mmengine.logging import HistoryBuffer
from mmengine.optim import OneCycleParamScheduler
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import load_from_local
from torch import serialization

from ape_mmdet.errors import UserError

# Python 2's name of a module, and NumPy 1's, in pickles of old.
RENAMED = {
    '__builtin__': 'builtins',
    'numpy.core.multiarray': 'numpy._core.multiarray',
    'numpy.core.numeric': 'numpy._core.numeric',
}
# Functions and classes that make data of data.
PLAIN = {
    'builtins': {'bytearray', 'bytes', 'complex', 'frozenset', 'set', 'slice'},
    'collections': {'Counter', 'OrderedDict', 'defaultdict'},
    '_codecs': {'encode'},
    'numpy._core.multiarray': {'scalar'},
    'torch': {'Size', 'device'},
    'torch._utils': {
        '_rebuild_parameter',
        '_rebuild_tensor',
        '_rebuild_tensor_v2',
    },
    'mmengine.logging.history_buffer': {'HistoryBuffer'},
    'mmengine.config.config': {'ConfigDict'},
}
# How NumPy pickles its types: no objects, and no records that could hold them.
NUMBERS_OR_TEXT = re.compile(r'[biufcSU]\d+')
# What has torch.load read a file as before 2.6, where no call says how.
TRUST = 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'
# How MMEngine names the checkpoints that training writes to go on from.
NAMES = ('epoch_{}.pth', 'iter_{}.pth')
# How it writes the time in them, which a copy does not change.
TIME = '%Y%m%d_%H%M%S'
# What HistoryBuffer registers as statistics, and pickles.
STATISTICS = {'current', 'max', 'mean', 'min'}
# What OneCycleParamScheduler pickles of itself.
ANNEALING = {'_annealing_cos', '_annealing_linear'}


class _Refused(UserError):
    """A checkpoint holds more than tensors and plain data."""


def find_checkpoints(
    work_dir: str | Path, hook: Mapping[str, Any] | None = None
) -> list[Path]:
    """What training wrote to go on from, the newest first.

    They go by their numbers, not by the times of the files, which a copy changes.
    First come those up to the one that MMEngine notes as its last. Others with higher
    numbers are of a longer training before, in the same folder; but for the next,
    where it says itself that it was written later: a training may be killed between
    a checkpoint and its note. Without the note, the highest number is the newest.

    Not what was made of it later, such as ``epoch_6_calibrated.pth``.

    Args:
        work_dir: Of the training.
        hook: Settings of the hook that writes them: ``out_dir``, ``filename_tmpl``.

    Raises:
        UserError: The one that is noted is elsewhere, or cannot be read now.
    """
    hook = hook or {}
    written = {}
    for folder in _folders(work_dir, hook.get('out_dir')):
        for file in folder.glob('*'):
            if (step := _step(file.name, hook)) and file.is_file():
                written[file] = step
    noted = _noted_last(work_dir)
    kind, last = _step(os.path.basename(noted), hook) or ('', 0)
    if noted and (kind, last) not in written.values() and _is_there(noted):
        raise UserError(
            f'The work dir {work_dir} notes {noted} as its last checkpoint, which is '
            'not where this config writes them, or not under such a name. Set '
            'default_hooks.checkpoint (out_dir, filename_tmpl) as it was, or name '
            'what to go on from: --resume PATH. To begin anew, use another work dir '
            'or remove last_checkpoint in this one.'
        )
    latest: dict[str, int] = {}
    for file, (its_kind, _) in written.items():
        time_of_file = file.stat().st_mtime_ns
        latest[its_kind] = max(latest.get(its_kind, 0), time_of_file)

    def order(file: Path) -> tuple:
        its_kind, number = written[file]
        beyond = its_kind == kind and number > last
        # Beyond the last one, those near it are the more likely to be of its training.
        rank = -number if beyond else number
        of_last = its_kind == kind and not beyond
        is_noted = os.path.abspath(file) == os.path.abspath(noted)
        return (of_last, its_kind == kind, latest[its_kind], rank, is_noted)

    found = sorted(written, key=order, reverse=True)
    steps = [written[file] for file in found]
    if (kind, last) in steps:
        following = [step for step in steps if step[0] == kind and step[1] > last]
        if following:
            after = found[steps.index(min(following))]
            if time_written(after) >= time_written(found[0]):
                found.remove(after)
                found.insert(0, after)
    return found


def _folders(work_dir: str | Path, out_dir: str | Path | None) -> set[Path]:
    """Where the checkpoint hook writes, and wrote before it was given an out_dir."""
    folders = {Path(work_dir)}
    work_dir = os.path.abspath(work_dir)
    if out_dir is not None and str(out_dir) != work_dir:
        folders.add(Path(out_dir, os.path.basename(work_dir)))
    return folders


def _step(name: str, hook: Mapping[str, Any]) -> tuple[str, int] | None:
    """How a checkpoint is named, and the epoch or iteration in its name."""
    for kind in {*NAMES, hook.get('filename_tmpl') or NAMES[0]}:
        for digits in re.findall('[0-9]+', name):
            if kind.format(int(digits)) == name:
                return kind, int(digits)
    return None


def _noted_last(work_dir: str | Path) -> str:
    """Path of what MMEngine notes as its last checkpoint, or nothing."""
    note = Path(work_dir, 'last_checkpoint')
    return note.read_text(errors='replace').strip() if note.is_file() else ''


def _is_there(path: str) -> bool:
    """Whether a checkpoint exists, as far as can be seen from here."""
    return '://' in path or os.path.exists(path)


def is_whole(file: Path) -> bool:
    """Whether a checkpoint is all there: torch reads it, its checksums are right.

    torch does not look at the checksums. Formats of torch before 1.6 have none. What
    :func:`refuse_code` refuses is whole all the same.

    Raises:
        UserError: The machine cannot read it now, which tells nothing of the file.
    """
    try:
        with _readable_now(file):
            with file.open('rb') as stream:
                is_archive = stream.read(2) == b'PK'
            if is_archive:
                with zipfile.ZipFile(file) as archive:
                    if archive.testzip() is not None:
                        return False
            _plain(torch.load)(file, map_location='cpu')
    except _Refused:
        return True
    except UserError:
        raise
    except Exception:  # A damaged file can raise anything.
        return False
    return True


def time_written(file: Path) -> str:
    """When a checkpoint was written, as texts that sort: by its own word, if it says.

    Raises:
        UserError: As :func:`is_whole`.
    """
    try:
        with _readable_now(file):
            loaded = _plain(torch.load)(file, map_location='cpu')
        told = loaded['meta']['time']
        time.strptime(told, TIME)
        return told
    except _Refused:
        pass
    except UserError:
        raise
    except Exception:  # Damaged, or not of MMEngine.
        pass
    return time.strftime(TIME, time.localtime(file.stat().st_mtime))


@contextmanager
def _readable_now(file: Path) -> Iterator[None]:
    """Have what fails by the machine, and not by the file, told as such."""
    try:
        yield
    except (MemoryError, OSError, RuntimeError) as error:
        if isinstance(error, OSError):
            # Python seeks before the beginning of a file that is cut short: EINVAL.
            of_machine = error.errno not in (None, errno.EINVAL)
        else:  # Of a lack of memory, torch tells in words.
            of_machine = isinstance(error, MemoryError) or 'allocate mem' in str(error)
        if not of_machine:
            raise
        raise UserError(
            f'{file} cannot be read just now: {error or "out of memory"}. That says '
            'nothing of the checkpoint: try again when the machine can read it.'
        ) from error


def refuse_other_weights(model: nn.Module, weights: Mapping[str, Any]) -> None:
    """Raise UserError for weights that are not of a model.

    MMEngine would leave what it finds no weights for as it was initialized.

    Args:
        model: Without a wrapper.
        weights: Those of a checkpoint by name, of a model in a wrapper or not.
    """
    # As a model in a wrapper names its own.
    shapes = {
        name.removeprefix('module.'): getattr(value, 'shape', None)
        for name, value in weights.items()
    }
    lacking = [
        name
        for name, parameter in model.named_parameters()
        if shapes.get(name) != parameter.shape
    ]
    if lacking:
        raise UserError(
            f'The checkpoint is of another model than the config: of '
            f'{len(lacking)} parameters it has none or of other sizes, such as '
            f'{lacking[0]}. Name the config that it was trained with.'
        )


def guard_loading(trusted: bool) -> None:
    """What ``--trust-checkpoint`` decides: see :func:`refuse_code`.

    Args:
        trusted: Whether checkpoints may hold what runs code. Then ``torch.load``
            reads them as it did before 2.6.
    """
    if trusted:
        os.environ[TRUST] = '1'
    else:
        refuse_code()


def admit_training_state() -> None:
    """Have MMEngine read, with torch 2.6 or newer, what it resumes from.

    ``torch.load`` there refuses objects unless told otherwise, so that MMEngine
    0.10.7 cannot resume. Its loading of files now begins with what
    :func:`refuse_code` lets through; other files it reads or refuses as ever, and
    ``torch.load`` stays as it is. Older torch is left alone.
    """
    if torch.__version__ >= '2.6':  # By number: a TorchVersion.
        CheckpointLoader.register_scheme('', _load_from_local, force=True)


@wraps(load_from_local)  # MMEngine logs the name.
def _load_from_local(filename: str, map_location: Any = None) -> Any:
    try:
        return _plain(torch.load)(os.path.expanduser(filename), map_location)
    except _Refused:
        return _without_config(load_from_local(filename, map_location))


def refuse_code() -> None:
    """From here on, ``torch.load`` in this process reads tensors and plain data.

    It raises :class:`UserError` for a file that holds anything else, and runs
    none of it. That goes for whatever loads a checkpoint: resuming,
    ``load_from``, pretrained backbones.
    """
    if not hasattr(torch.load, 'refuses_code'):
        torch.load = _plain(torch.load)


def _plain(load: Callable) -> Callable:
    """A ``torch.load`` that reads tensors and plain data."""

    @wraps(load)
    def load_plain(
        f: Any, map_location: Any = None, pickle_module: Any = None, **options: Any
    ) -> Any:
        _refuse_scripts(f)
        options['weights_only'] = False  # Of what is allowed, see below.
        loaded = load(f, map_location, pickle_module=_PlainPickle, **options)
        return _without_config(loaded)

    load_plain.refuses_code = True  # type: ignore[attr-defined]  # A mark.
    return load_plain


def _without_config(loaded: Any) -> Any:
    """A checkpoint without ``meta['config']``, which MMEngine executes as it resumes.

    It looks there for the number of GPUs, and itself writes ``meta['cfg']``,
    which it does not execute.

    Both dictionaries are new, and plain: what else the file holds may be the same
    objects as those it came with, and a hook that changes weights would change them.
    """
    meta = dict.get(loaded, 'meta') if isinstance(loaded, dict) else None
    if not isinstance(meta, dict):
        return loaded
    meta = dict(dict.items(meta))
    meta.pop('config', None)
    loaded = dict(dict.items(loaded))
    loaded['meta'] = meta
    return loaded


def _refuse_scripts(file: Any) -> None:
    """Raise UserError for a TorchScript archive, which is code.

    By the functions that ``torch.load`` itself decides by: Python's zipfile can be
    made to see another archive in the same bytes.
    """
    with serialization._open_file_like(file, 'rb') as stream:
        position = stream.tell()
        if not serialization._is_zipfile(stream):
            return
        with serialization._open_zipfile_reader(stream) as archive:
            if serialization._is_torchscript_zip(archive):
                raise _refusal('a TorchScript module')
        stream.seek(position)


def _plain_global(module: str, name: str) -> Any:
    """What is called so in ``PLAIN``, where this NumPy has it."""
    if module.startswith('numpy.'):
        core = getattr(np, '_core', None) or np.core
        return getattr(getattr(core, module.rsplit('.', 1)[1]), name)
    return getattr(import_module(module), name)


def _build(unpickler: Any) -> None:
    """Give the object on top of the unpickler's stack its state, if it may."""
    instance, state = unpickler.stack[-2:]
    if not _may_build(instance, state):
        raise _refusal(f'a state for a {type(instance).__name__}')
    pickle._Unpickler.dispatch[pickle.BUILD[0]](unpickler)


def _may_build(instance: Any, state: Any) -> bool:
    """Whether an object may be given a state by a file.

    NumPy believes what a state says of memory: the flags and fields of a type have
    it follow addresses of the file's choice, and an array that is built again leaves
    others without their memory. A function's state is its defaults, a class's its
    methods, and an instance's may stand before the methods of its class.
    """
    if isinstance(instance, np.dtype):
        orders = [instance.newbyteorder(order) for order in ('<', '>')]
        # As text: an array can be equal to what it is not.
        return repr(state) in [repr(order.__reduce__()[2]) for order in orders]
    if type(instance) is np.ndarray:
        return instance.size == 0
    if type(state) is not dict:
        return False
    if type(instance) is OrderedDict:  # Of weights.
        return all(
            key == '_metadata' and isinstance(value, dict)
            for key, value in state.items()
        )
    return type(instance) is HistoryBuffer and all(
        key in HISTORY and HISTORY[key](value) for key, value in state.items()
    )


def _are_statistics(methods: Any) -> bool:
    """Whether these are methods of HistoryBuffer by their names."""
    return type(methods) is dict and all(
        name in STATISTICS and method is getattr(HistoryBuffer, name)
        for name, method in methods.items()
    )


# What a HistoryBuffer has, and whether a value may be that.
HISTORY: dict[str, Callable[[Any], bool]] = {
    'max_length': lambda value: type(value) is int,
    '_log_history': lambda value: type(value) is np.ndarray,
    '_count_history': lambda value: type(value) is np.ndarray,
    'statistics_methods': _are_statistics,
}


def _dtype(code: Any, *_: Any) -> np.dtype:
    """``numpy.dtype``, of numbers and text: a copy, as its state is set after."""
    if not isinstance(code, str) or not NUMBERS_OR_TEXT.fullmatch(code):
        raise _refusal(f'numpy.dtype({code!r})')
    return np.dtype(code, copy=True)


def _empty_array(*_: Any) -> np.ndarray:
    """``_reconstruct`` of NumPy: what an array's state is then given to."""
    return np.empty(0)


def _array_of_bytes(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    """``_frombuffer`` of NumPy, of what is no array with objects."""
    if not isinstance(data, bytes | bytearray) or not isinstance(dtype, np.dtype):
        raise _refusal(f'an array of a {type(data).__name__}')
    return np.frombuffer(data, dtype).reshape(shape, order=order)


def _one_cycle(*_: Any) -> None:
    """``OneCycleParamScheduler``, whose methods are wanted, and no instance."""
    raise _refusal('a OneCycleParamScheduler')


def _method(owner: Any, name: str) -> Callable:
    """``getattr``, for the methods that MMEngine's objects pickle."""
    if owner is HistoryBuffer and name in STATISTICS:
        return getattr(HistoryBuffer, name)
    if owner is _one_cycle and name in ANNEALING:
        return getattr(OneCycleParamScheduler, name)
    raise _refusal(f'getattr({owner!r}, {name!r})')


# Found in the place of what could be made to do more.
STAND_INS = {
    ('builtins', 'getattr'): _method,
    (OneCycleParamScheduler.__module__, 'OneCycleParamScheduler'): _one_cycle,
    ('numpy', 'dtype'): _dtype,
    ('numpy', 'ndarray'): None,  # An argument of _reconstruct, not called.
    ('numpy._core.multiarray', '_reconstruct'): _empty_array,
    ('numpy._core.numeric', '_frombuffer'): _array_of_bytes,
}


class _PlainUnpickler(pickle._Unpickler):
    """Finds what is in ``PLAIN``, and no other function or class.

    Python's own, not C's, which lets nobody look at what it builds.
    """

    dispatch = {**pickle._Unpickler.dispatch, pickle.BUILD[0]: _build}

    def find_class(self, module: str, name: str) -> Any:
        module = RENAMED.get(module, module)
        if (module, name) in STAND_INS:
            return STAND_INS[module, name]
        if module == 'torch' and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if name not in PLAIN.get(module, ()):
            raise _refusal(f'{module}.{name}')
        return _plain_global(module, name)


class _PlainPickle:
    """What ``torch.load`` uses of a module that unpickles."""

    Unpickler = _PlainUnpickler

    @staticmethod
    def load(file: Any, **options: Any) -> Any:
        """As ``pickle.load``."""
        return _PlainUnpickler(file, **options).load()


def _refusal(what: str) -> _Refused:
    return _Refused(
        f'The checkpoint holds {what}, which is neither a tensor nor plain data: '
        'to load it could run code of whoever made it. Nothing was run. If you '
        'trust where the file comes from, add --trust-checkpoint.'
    )
