# SPDX-License-Identifier: Apache-2.0
"""Whether image files are whole: a download or a copy may have cut them short."""

from io import BytesIO
from pathlib import Path

from PIL import Image, UnidentifiedImageError

# The last bytes of a JPEG and of a PNG.
ENDS = (b'\xff\xd9', b'IEND\xaeB`\x82')
# Bytes in which the end of an image file is found.
LENGTH_OF_END = 16


def is_whole_image(content: bytes) -> bool:
    """Whether an image file is all there.

    A JPEG or PNG that ends as such is taken to be: only others are decoded.

    Args:
        content: Of the file; of a JPEG or PNG that is whole, its end will do.
    """
    return content.endswith(ENDS) or image_size(content) is not None


def is_whole_image_file(file: Path) -> bool:
    """As :func:`is_whole_image`, reading no more of a file than is needed."""
    with file.open('rb') as stream:
        stream.seek(-min(file.stat().st_size, LENGTH_OF_END), 2)
        return is_whole_image(stream.read()) or is_whole_image(file.read_bytes())


def image_size(content: bytes) -> tuple[int, int] | None:
    """Width and height in pixels of an image that can be decoded; None of others."""
    try:
        with Image.open(BytesIO(content)) as image:
            image.load()
            return image.size
    except (UnidentifiedImageError, Image.DecompressionBombError):
        # Not of Pillow's kinds or too large for it, which need not stop OpenCV.
        return _size_by_opencv(content)
    except (OSError, SyntaxError, ValueError):
        return None


def _size_by_opencv(content: bytes) -> tuple[int, int] | None:
    try:
        import cv2
        import numpy as np
    except ImportError:  # A machine that only stores data sets needs neither.
        return None
    try:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:  # Nothing in it, or more pixels than OpenCV takes.
        return None
    return None if pixels is None else (pixels.shape[1], pixels.shape[0])
