"""Checkpoints that are whole, and hold tensors and plain data: nothing that runs.

A checkpoint is a pickle, and a pickle can call any function while it is read.
``torch.load(weights_only=True)`` refuses that, and refuses MMEngine's own
checkpoints with it: their log holds ``HistoryBuffer`` objects, whose methods
are pickled as calls of ``getattr``. OneDL's MMEngine reads on without the
protection where it fails; OpenMMLab's, with torch 2.6 or newer, fails. Here such
calls are let through, and nothing else.
"""

import os
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import load_from_local
from torch import serialization

from ape_mmdet.engine.errors import UserError

# Python 2's name of a module, and NumPy 1's, in pickles of old.
RENAMED = {
    '__builtin__': 'builtins',
    'numpy.core.multiarray': 'numpy._core.multiarray',
    'numpy.core.numeric': 'numpy._core.numeric',
}
# Functions and classes that make data of data.
PLAIN = {
    'builtins': {'bytearray', 'bytes', 'complex', 'frozenset', 'set', 'slice'},
    'collections': {'OrderedDict', 'defaultdict'},
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
# Names of the checkpoints that training writes to go on from.
WRITTEN = re.compile(r'(epoch|iter)_(\d+)\.pth')
# What HistoryBuffer registers as statistics, and pickles.
STATISTICS = {'current', 'max', 'mean', 'min'}


def find_checkpoints(work_dir: str | Path) -> list[Path]:
    """What training wrote to go on from, the newest first.

    They go by their numbers, not by their times, which a copy changes. First come
    those up to the one that MMEngine notes as its last, and what was written after
    the note. Others with higher numbers are of a longer training before, in the
    same folder. Without the note, the highest number is the newest.

    Not what was made of it later, such as ``epoch_6_calibrated.pth``.
    """
    folder = Path(work_dir)
    written = {}
    for file in folder.glob('*.pth'):
        if match := WRITTEN.fullmatch(file.name):
            written[file] = match[1], int(match[2])
    last_kind, last_number, noted = _noted_last(folder)
    times = {file: file.stat().st_mtime_ns for file in written}
    latest: dict[str, int] = {}
    for file, (kind, _) in written.items():
        latest[kind] = max(latest.get(kind, 0), times[file])

    def order(file: Path) -> tuple[bool, int, int]:
        kind, number = written[file]
        # A training may be killed between a checkpoint and its note.
        of_last = number <= last_number or times[file] > noted
        return kind == last_kind and of_last, latest[kind], number

    return sorted(written, key=order, reverse=True)


def _noted_last(folder: Path) -> tuple[str, int, int]:
    """Kind and number of what MMEngine notes as its last, and when; else no kind."""
    note = folder / 'last_checkpoint'
    if not note.is_file():
        return '', 0, 0
    path = note.read_text(errors='replace').strip()
    match = WRITTEN.fullmatch(os.path.basename(path))
    return (match[1], int(match[2]), note.stat().st_mtime_ns) if match else ('', 0, 0)


def is_whole(file: Path) -> bool:
    """Whether a checkpoint is all there: torch reads it, its checksums are right.

    torch does not look at the checksums. Formats of torch before 1.6 have none. What
    :func:`refuse_code` refuses is whole all the same.
    """
    try:
        with file.open('rb') as stream:
            is_archive = stream.read(2) == b'PK'
        if is_archive:
            with zipfile.ZipFile(file) as archive:
                if archive.testzip() is not None:
                    return False
        _plain(torch.load)(file, map_location='cpu')
    except UserError:
        return True
    except Exception:  # A damaged file can raise anything.
        return False
    return True


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
    except UserError:
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


def _statistic(owner: Any, name: str) -> Callable:
    """``getattr``, for the methods that HistoryBuffer pickles."""
    if owner is not HistoryBuffer or name not in STATISTICS:
        raise _refusal(f'getattr({owner!r}, {name!r})')
    return getattr(HistoryBuffer, name)


# Found in the place of what could be made to do more.
STAND_INS = {
    ('builtins', 'getattr'): _statistic,
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


def _refusal(what: str) -> UserError:
    return UserError(
        f'The checkpoint holds {what}, which is neither a tensor nor plain data: '
        'to load it could run code of whoever made it. Nothing was run. If you '
        'trust where the file comes from, add --trust-checkpoint.'
    )
