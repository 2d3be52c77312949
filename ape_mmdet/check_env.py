# SPDX-License-Identifier: Apache-2.0
"""Whether detectors can be trained here: ``python -m ape_mmdet.check_env``.

Prints versions, devices and what was tried; where something does not work,
what to do. Exit status 1 unless all works.
"""

import platform
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version

from ape_mmdet.errors import missing_module
from ape_mmdet.version import __version__

# Of each import, the distributions that bring it: OneDL's, OpenMMLab's.
DISTRIBUTIONS = {
    'mmengine': ('onedl-mmengine', 'mmengine'),
    'mmcv': ('onedl-mmcv', 'mmcv', 'mmcv-lite'),
    'mmdet': ('onedl-mmdetection', 'mmdet'),
}
OLDEST_TORCH = (2, 1)  # As setup.cfg has it, which `pip --no-deps` does not ask.


def main() -> int:
    """Print what is here; the number of things that do not work."""
    print(f'ape_mmdet {__version__}, Python {platform.python_version()}')
    print(f'  {platform.platform()}')
    for name, distributions in DISTRIBUTIONS.items():
        print(f'{name}: {" and ".join(_installed(distributions)) or "not installed"}')
    checks = {
        'one stack': _one_stack,
        'torch': _torch,
        "mmcv's compiled operations": _operations,
        'ranking': _ranking,
        'a config of this package': _config,
    }
    failures = sum(not _works(name, check) for name, check in checks.items())
    print('All works.' if not failures else f'{failures} of {len(checks)} do not work.')
    return failures


def installed_stack() -> list[str]:
    """Distributions and versions of MMDetection's packages: ``'mmdet 3.3.0'``."""
    return [each for names in DISTRIBUTIONS.values() for each in _installed(names)]


def _installed(distributions: Sequence[str]) -> list[str]:
    return [f'{each} {found}' for each in distributions if (found := _version(each))]


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _works(name: str, check: Callable[[], str]) -> bool:
    try:
        print(f'{name}: {check()}')
    except ModuleNotFoundError as error:
        print(f'{name}: FAILS. {missing_module(error.name or str(error))}')
        return False
    except ImportError as error:
        # Compiled for another torch, the library is there and lacks symbols.
        advice = missing_module('mmcv._ext') if 'mmcv' in str(error) else ''
        print(f'{name}: FAILS. {error}. {advice}')
        return False
    except Exception as error:  # Whatever an installation has wrong with it.
        print(f'{name}: FAILS. {type(error).__name__}: {error}')
        return False
    return True


def _one_stack() -> str:
    for distributions in DISTRIBUTIONS.values():
        installed = _installed(distributions)
        if len(installed) > 1:
            raise RuntimeError(
                f'{" and ".join(installed)} overwrite each other: uninstall both '
                'stacks, install one'
            )
    return 'nothing is installed over another'


def _torch() -> str:
    import torch

    if tuple(map(int, torch.__version__.split('.')[:2])) < OLDEST_TORCH:
        oldest = '.'.join(map(str, OLDEST_TORCH))
        raise RuntimeError(
            f'{torch.__version__}, and ape_mmdet needs {oldest} or newer: install '
            'that, and mmcv anew, which is compiled for one torch'
        )
    described = f'{torch.__version__}, {torch.get_num_threads()} threads'
    if not torch.cuda.is_available():
        return f'{described}, no GPU'
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return f'{described}, CUDA {torch.version.cuda}, {", ".join(devices)}'


def _devices() -> list[str]:
    import torch

    return ['cpu', 'cuda'] if torch.cuda.is_available() else ['cpu']


def _operations() -> str:
    import torch
    from mmcv.ops import nms

    for device in _devices():
        boxes = torch.tensor([[0.0, 0, 9, 9], [1, 0, 9, 9], [20, 20, 30, 30]])
        scores = torch.tensor([0.9, 0.8, 0.7])
        _, kept = nms(boxes.to(device), scores.to(device), 0.5)
        if kept.tolist() != [0, 2]:
            raise RuntimeError(f'NMS on {device} keeps {kept.tolist()}, not 0 and 2')
    return f'work on {" and ".join(_devices())}'


def _ranking() -> str:
    import torch

    from ape_mmdet.ranking import ape_loss

    for device in _devices():
        logits = torch.tensor([0.3, -0.2, 0.1], device=device, requires_grad=True)
        targets = torch.tensor([1, 0, 0], device=device)
        loss = ape_loss(logits, targets, torch.ones(1, device=device))
        (gradient,) = torch.autograd.grad(loss, logits)
        if not gradient[0] < 0 < gradient[2]:
            raise RuntimeError(f'the gradient on {device} is {gradient.tolist()}')
    return f'works on {" and ".join(_devices())}'


def _config() -> str:
    from mmdet.registry import MODELS
    from mmengine.config import Config
    from mmengine.registry import init_default_scope

    config = Config.fromfile('ape_mmdet::bccd_retinanet_ape.py')
    init_default_scope('mmdet')
    head = dict(config.model.bbox_head, train_cfg=config.model.train_cfg)
    return f'builds a {type(MODELS.build(head)).__name__}'


if __name__ == '__main__':
    sys.exit(bool(main()))
