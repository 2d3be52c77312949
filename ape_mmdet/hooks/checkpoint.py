"""Checkpoints that are whole or not there."""

import errno
import os
from pathlib import Path
from typing import Any

from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.registry import HOOKS

from ape_mmdet.engine.checkpoints import admit_training_state
from ape_mmdet.engine.errors import UserError

BACKEND = 'whole_files'


class WholeFilesBackend(LocalBackend):
    """Local files that appear under their name when all of them is on the disk."""

    def put(self, obj: bytes | memoryview, filepath: str | Path) -> None:
        """Write a file, or leave what was there.

        Raises:
            UserError: The disk is full.
            OSError: It could not be written.
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
        except OSError as error:
            partial.unlink(missing_ok=True)
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise UserError(
                f'The disk is full: {file} could not be written. The checkpoints '
                'written before are whole: make room, and go on with --resume.'
            ) from error


register_backend(BACKEND, WholeFilesBackend, force=True)
# Also for who trains by MMDetection's own tools/train.py with these hooks.
admit_training_state()


@HOOKS.register_module()
class WholeCheckpointHook(CheckpointHook):
    """MMEngine's hook, with files that a kill cannot leave half written.

    Args:
        *args: Those of ``CheckpointHook``.
        backend_args: Where checkpoints are written, if not to local files.
        **kwargs: Those of ``CheckpointHook``. To keep fewer than two
            checkpoints leaves none while the next is written.
    """

    def __init__(
        self, *args: Any, backend_args: dict | None = None, **kwargs: Any
    ) -> None:
        backend_args = backend_args or dict(backend=BACKEND)
        super().__init__(*args, backend_args=backend_args, **kwargs)
