"""Checkpoints that are whole or not there."""

import os
from pathlib import Path
from typing import Any

from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.registry import HOOKS

BACKEND = 'whole_files'


class WholeFilesBackend(LocalBackend):
    """Local files that appear under their name when all of them is on the disk."""

    def put(self, obj: bytes | memoryview, filepath: str | Path) -> None:
        """Write a file, or leave what was there.

        Raises:
            OSError: It could not be written, as on a full disk.
        """
        file = Path(filepath)
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(f'{file.name}.partial')
        try:
            with open(partial, 'wb') as stream:
                stream.write(obj)
                stream.flush()
                os.fsync(stream.fileno())
            partial.replace(file)
        except OSError:
            partial.unlink(missing_ok=True)
            raise


register_backend(BACKEND, WholeFilesBackend, force=True)


@HOOKS.register_module()
class WholeCheckpointHook(CheckpointHook):
    """MMEngine's hook, with files that a kill cannot leave half written.

    Args:
        backend_args: Where checkpoints are written, if not to local files.
        *args, **kwargs: Those of ``CheckpointHook``. To keep fewer than two
            checkpoints leaves none while the next is written.
    """

    def __init__(
        self, *args: Any, backend_args: dict | None = None, **kwargs: Any
    ) -> None:
        backend_args = backend_args or dict(backend=BACKEND)
        super().__init__(*args, backend_args=backend_args, **kwargs)
