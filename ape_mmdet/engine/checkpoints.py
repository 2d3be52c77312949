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
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

from ape_mmdet.engine.errors import UserError

# Python 2's name of a module, and NumPy 1's, in pickles of old.
RENAMED = {
    '__builtin__': 'builtins',
    'numpy.core.multiarray': 'numpy._core.multiarray',
    'numpy.core.numeric': 'numpy._core.numeric',
}
# Functions and classes that make data of data.
PLAIN = {
    'builtins': {'bytearray', 'complex', 'frozenset', 'set', 'slice'},
    'collections': {'OrderedDict', 'defaultdict'},
    '_codecs': {'encode'},
    'numpy': {'dtype', 'ndarray'},
    'numpy._core.multiarray': {'_reconstruct', 'scalar'},
    'numpy._core.numeric': {'_frombuffer'},
    'torch': {'Size', 'device'},
    'torch._utils': {
        '_rebuild_parameter',
        '_rebuild_tensor',
        '_rebuild_tensor_v2',
    },
    'mmengine.logging.history_buffer': {'HistoryBuffer'},
    'mmengine.config.config': {'ConfigDict'},
}
# What has torch.load read a file as before 2.6, where no call says how.
TRUST = 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'
# Names of the checkpoints that training writes to go on from.
WRITTEN = re.compile(r'(epoch|iter)_\d+\.pth')
# What HistoryBuffer registers as statistics, and pickles.
STATISTICS = {'current', 'max', 'mean', 'min'}


def find_checkpoints(work_dir: str | Path) -> list[Path]:
    """What training wrote to go on from, the newest first.

    Not what was made of it later, such as ``epoch_6_calibrated.pth``.
    """
    found = [
        file for file in Path(work_dir).glob('*.pth') if WRITTEN.fullmatch(file.name)
    ]
    return sorted(found, key=lambda file: file.stat().st_mtime_ns, reverse=True)


def is_whole(file: Path) -> bool:
    """Whether a checkpoint is all there.

    Reads no pickle: each entry of the archive has a checksum of its own. The
    formats of torch before 1.6 have none and pass.
    """
    try:
        with file.open('rb') as stream:
            if stream.read(1) == b'\x80':
                return True
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            has_pickle = any(name.endswith('data.pkl') for name in names)
            return has_pickle and archive.testzip() is None
    except (zipfile.BadZipFile, OSError, ValueError):
        return False


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
    """Have ``torch.load(weights_only=True)`` read what MMEngine resumes from.

    That is how it loads since 2.6 unless told otherwise, so that MMEngine 0.10.7
    cannot resume. Admitted is what :func:`refuse_code` lets through, and no
    function that runs code of the file's: the protection stays. Older torch is
    left alone.
    """
    if torch.__version__ < '2.6':  # By number: a TorchVersion.
        return
    plain: list = [(_statistic, 'builtins.getattr')]
    for module, names in PLAIN.items():
        aliases = [module] + [old for old, now in RENAMED.items() if now == module]
        for name in names:
            found = _plain_global(module, name)
            plain += [(found, f'{alias}.{name}') for alias in aliases]
    # The dtypes of arrays are instances of classes of their own.
    scalars = {np.dtype(code) for code in np.typecodes['All'] if code != 'O'}
    plain += sorted({type(scalar) for scalar in scalars}, key=str)
    torch.serialization.add_safe_globals(plain)


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
        return load(f, map_location, pickle_module=_PlainPickle, **options)

    load_plain.refuses_code = True  # type: ignore[attr-defined]  # A mark.
    return load_plain


def _refuse_scripts(file: Any) -> None:
    """Raise UserError for a TorchScript archive, which is code."""
    position = file.tell() if hasattr(file, 'tell') else None
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return  # None, or torch will say what is wrong.
    finally:
        if position is not None:
            file.seek(position)
    if any(name.endswith('/constants.pkl') for name in names):
        raise _refusal('a TorchScript module')


def _plain_global(module: str, name: str) -> Any:
    """What is called so in ``PLAIN``, where this NumPy has it."""
    if module.startswith('numpy.'):
        core = getattr(np, '_core', None) or np.core
        return getattr(getattr(core, module.rsplit('.', 1)[1]), name)
    return getattr(import_module(module), name)


class _PlainUnpickler(pickle.Unpickler):
    """Finds what is in ``PLAIN``, and no other function or class."""

    def find_class(self, module: str, name: str) -> Any:
        module = RENAMED.get(module, module)
        if module == 'builtins' and name == 'getattr':
            return _statistic
        if module == 'torch' and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if name not in PLAIN.get(module, ()):
            raise _refusal(f'{module}.{name}')
        return _plain_global(module, name)


def _statistic(owner: Any, name: str) -> Callable:
    """``getattr``, for the methods that HistoryBuffer pickles."""
    if owner is not HistoryBuffer or name not in STATISTICS:
        raise _refusal(f'getattr({owner!r}, {name!r})')
    return getattr(HistoryBuffer, name)


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
