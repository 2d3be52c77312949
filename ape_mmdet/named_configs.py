# SPDX-License-Identifier: Apache-2.0
"""Configs of this package by name: ``ape_mmdet::fcos_ape.py``, from any folder.

MMEngine finds configs of installed packages by such names, for packages that
it knows. After ``import ape_mmdet`` it finds those of this one, in
``Config.fromfile`` and in a config's ``_base_``. ``custom_imports`` comes too late:
MMEngine reads the bases of a config first.
"""

from functools import wraps
from pathlib import Path
from typing import Any

_PACKAGE = Path(__file__).resolve().parent
_PREFIX = 'ape_mmdet::'
# Where configs and tools are: in a wheel, as OpenMMLab's packages have them, or
# in the clone around the package.
HOME = _PACKAGE / '.mim' if (_PACKAGE / '.mim').exists() else _PACKAGE.parent


def resolve_name(name: str | Path) -> str | Path:
    """The file of a config of this package; anything else as it is.

    Args:
        name: ``ape_mmdet::`` and a path in the folder of configs, or a path.

    Raises:
        FileNotFoundError: There is no such config.
    """
    if not str(name).startswith(_PREFIX):
        return name
    file = HOME / 'configs' / str(name).removeprefix(_PREFIX)
    if not file.is_file():
        raise FileNotFoundError(f'ape_mmdet has no config {file.name}: {file}')
    return str(file)


def register_names() -> None:
    """Let MMEngine resolve the names, where it is installed."""
    try:
        from mmengine.config import Config
    except ImportError:
        return  # The ranking functions need none.
    if hasattr(Config.fromfile, 'resolves_names'):
        return
    read, find_base = Config.fromfile, Config._get_cfg_path

    @wraps(read)
    def fromfile(filename: str | Path, *args: Any, **kwargs: Any) -> Config:
        return read(resolve_name(filename), *args, **kwargs)

    @wraps(find_base)
    def get_base(cfg_path: str, filename: str) -> tuple[str, str | None]:
        if cfg_path.startswith(_PREFIX):
            return str(resolve_name(cfg_path)), None
        return find_base(cfg_path, filename)

    fromfile.resolves_names = True  # type: ignore[attr-defined]  # A mark.
    Config.fromfile = staticmethod(fromfile)
    Config._get_cfg_path = staticmethod(get_base)
