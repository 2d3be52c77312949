# SPDX-License-Identifier: Apache-2.0
"""Mistakes that the user can mend, told without a traceback."""

import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from urllib.error import URLError

# Modules that a user may lack.
WANTED = ('torch', 'mmcv', 'mmcv._ext', 'mmdet', 'mmengine', 'sklearn')


# As a shell tells it of a program that Ctrl-C ended; tools/slurm_train.sh looks at it.
INTERRUPTED = 128 + signal.SIGINT


class UserError(Exception):
    """A mistake in what the user asked for; its text says what to do."""


def shortened(names: Sequence[object], most: int = 5) -> str:
    """Names for a message: the first few, and how many there are."""
    listed = ', '.join(str(name) for name in names[:most])
    return f'{listed}, ... ({len(names)} in all)' if len(names) > most else listed


@contextmanager
def told_plainly() -> Iterator[None]:
    """End the program with the text of a :class:`UserError` and status 1.

    An installation that cannot work and a download that fails are told likewise,
    Ctrl-C with status 130: a traceback through MMDetection would not help.
    """
    # What MMDetection warns of at every start: another evaluator that it could
    # use, and a name of its own that it uses itself.
    warnings.filterwarnings('ignore', message='faster_coco_eval is not installed')
    warnings.filterwarnings('ignore', message='DeprecationWarning: `num_anchors`')
    try:
        yield
    except UserError as error:
        sys.exit(f'Error: {error}')
    except ModuleNotFoundError as error:
        if error.name not in WANTED:
            raise
        sys.exit(f'Error: {missing_module(error.name)}')
    except URLError as error:
        sys.exit(
            f'Error: a download failed ({error.reason}). Without a network, '
            'fetch the checkpoint elsewhere and name the file: --cfg-options '
            'model.backbone.init_cfg.checkpoint=FILE, or train from scratch: '
            'model.backbone.init_cfg=None model.backbone.frozen_stages=-1 '
            'model.backbone.norm_eval=False'
        )
    except KeyboardInterrupt:
        print('Interrupted.', file=sys.stderr)
        sys.exit(INTERRUPTED)


def missing_module(name: str) -> str:
    """What to do where a module is missing that training needs."""
    if name == 'mmcv._ext':
        return (
            'mmcv is installed without its compiled operations. Build it for '
            'the installed torch: pip install --force-reinstall --no-deps '
            f'--no-cache-dir --no-build-isolation {_pinned_mmcv()} (takes '
            'minutes; needs a C++ compiler and setuptools<81), or use `make '
            'setup` in a clone of ape_mmdet.'
        )
    if name.partition('.')[0] == 'sklearn':
        return 'scikit-learn is not installed here: pip install scikit-learn'
    return (
        f'{name.partition(".")[0]} is not installed here. In a clone of ape_mmdet, '
        '`make setup` installs all that is needed in .venv; then: . .venv/bin/activate'
    )


def _pinned_mmcv() -> str:
    """The mmcv that is here, OpenMMLab's or OneDL's, for pip."""
    try:
        return f'mmcv=={version("mmcv")}'
    except PackageNotFoundError:
        return 'onedl-mmcv==2.3.6'
