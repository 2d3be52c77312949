# SPDX-License-Identifier: Apache-2.0
"""Whether image files are whole: a download or a copy may have cut them short."""

from io import BytesIO
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import StubImageFile

# The last bytes of a JPEG and of a PNG.
ENDS = (b'\xff\xd9', b'IEND\xaeB`\x82')
# Bytes in which the end of an image file is found.
LENGTH_OF_END = 16
# Bytes by which Pillow knows the kind of a file.
LENGTH_OF_START = 16


def is_whole_image(content: bytes, in_color: bool = False) -> bool:
    """Whether an image file is all there.

    A JPEG or PNG that ends as such is taken to be: only others are decoded.

    Args:
        content: Of the file; of a JPEG or PNG that is whole, its end will do.
        in_color: See :func:`image_size`.
    """
    return content.endswith(ENDS) or image_size(content, in_color) is not None


def is_whole_image_file(file: Path, in_color: bool = False) -> bool:
    """As :func:`is_whole_image`, reading no more of a file than is needed."""
    with file.open('rb') as stream:
        stream.seek(-min(file.stat().st_size, LENGTH_OF_END), 2)
        if is_whole_image(stream.read(), in_color):
            return True
    return is_whole_image(file.read_bytes(), in_color)


def begins_as_image(file: Path) -> bool:
    """Whether the first bytes of a file are those of an image, whole or not."""
    with file.open('rb') as stream:
        first = stream.read(LENGTH_OF_START).ljust(LENGTH_OF_START, b'\0')
    Image.init()
    return any(
        accepts is not None and bool(accepts(first))
        for decoder, accepts in Image.OPEN.values()
        # HDF5 and the like, of which Pillow knows the first bytes alone.
        if not (isinstance(decoder, type) and issubclass(decoder, StubImageFile))
    )


def image_size(content: bytes, in_color: bool = False) -> tuple[int, int] | None:
    """Width and height in pixels of an image that can be decoded; None of others.

    Args:
        content: Of the file.
        in_color: Whether OpenCV has to read three channels of 8 bits from what
            Pillow does not know, as pipelines ask it to unless they say
            ``color_type='unchanged'``; of TIFFs of numbers it does not.
    """
    try:
        with Image.open(BytesIO(content)) as image:
            image.load()
            return image.size
    except (UnidentifiedImageError, Image.DecompressionBombError):
        # Not of Pillow's kinds or too large for it, which need not stop OpenCV.
        return _size_by_opencv(content, in_color)
    except Exception:  # What decoders raise of damaged bytes is of many kinds.
        return None


def _size_by_opencv(content: bytes, in_color: bool) -> tuple[int, int] | None:
    try:
        import cv2
        import numpy as np
    except ImportError:  # A machine that only stores data sets needs neither.
        return None
    flag = cv2.IMREAD_COLOR if in_color else cv2.IMREAD_UNCHANGED
    try:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flag)
    except cv2.error:  # Nothing in it, or more pixels than OpenCV takes.
        return None
    return None if pixels is None else (pixels.shape[1], pixels.shape[0])
