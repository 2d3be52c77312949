# SPDX-License-Identifier: Apache-2.0
"""Pretrained backbones that configs name as ``torchvision://resnet50``."""

import json
import sys
from functools import wraps
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import mmengine
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import load_from_http, load_from_torchvision

from ape_mmdet.errors import UserError

SCHEME = 'torchvision://'


def find_weights_without_torchvision() -> None:
    """Have MMEngine download ``torchvision://`` weights where that is not installed.

    MMEngine imports torchvision, which needs a build for the torch that is there,
    for nothing but the addresses of its weights, and has a list of these itself.
    Where torchvision is installed, all stays as it is.
    """
    if sys.modules.get('torchvision') is None and find_spec('torchvision') is None:
        CheckpointLoader.register_scheme(SCHEME, _load_by_address, force=True)


@wraps(load_from_torchvision)  # MMEngine logs the name.
def _load_by_address(filename: str, map_location: Any = None) -> Any:
    name = filename.removeprefix(SCHEME)
    addresses = _addresses()
    if name not in addresses:
        raise UserError(
            f'{filename} cannot be found without torchvision. Install the one that '
            'belongs to the torch that is here, or name the address of its file: '
            '--cfg-options model.backbone.init_cfg.checkpoint=https://...'
        )
    return load_from_http(addresses[name], map_location=map_location)


def _addresses() -> dict[str, str]:
    """Address of each model's weights, by the name of the model."""
    file = Path(mmengine.__path__[0], 'hub', 'torchvision_0.12.json')
    return json.loads(file.read_text()) if file.exists() else {}
