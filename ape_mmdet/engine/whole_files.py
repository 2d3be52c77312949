# SPDX-License-Identifier: Apache-2.0
"""Files that are whole or not there."""

import errno
import os
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

from ape_mmdet.errors import UserError

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
