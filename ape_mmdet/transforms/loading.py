# SPDX-License-Identifier: Apache-2.0
"""Images that a download or a copy cut short."""

import logging

import mmcv
import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmdet.registry import TRANSFORMS
from mmengine import fileio
from mmengine.logging import print_log

from ape_mmdet.engine.images import is_whole_image


@TRANSFORMS.register_module()
class LoadWholeImageFromFile(LoadImageFromFile):
    """Loads an image for training, and skips one that is damaged.

    OpenCV decodes the rest of a JPEG that was cut short as grey. Such an image
    is skipped here, and a warning names it: the data set shows another one in
    its place. A file that is not there at all remains an error.

    Takes the arguments of MMCV's ``LoadImageFromFile``.
    """

    def transform(self, results: dict) -> dict | None:
        """Add ``img``, ``(H, W, 3)`` uint8 BGR, and its shape.

        Args:
            results: With ``img_path``.

        Returns:
            The results; None where the image is damaged.

        Raises:
            FileNotFoundError: It is not there.
        """
        path = results['img_path']
        content = fileio.get(path, backend_args=self.backend_args)
        image = None
        if is_whole_image(content):
            image = mmcv.imfrombytes(
                content, flag=self.color_type, backend=self.imdecode_backend
            )
        if image is None:
            print_log(
                f'{path} is damaged and skipped; get it again.',
                logger='current',
                level=logging.WARNING,
            )
            return None
        if self.to_float32:
            image = image.astype(np.float32)
        shape = image.shape[:2]
        return {**results, 'img': image, 'img_shape': shape, 'ori_shape': shape}
