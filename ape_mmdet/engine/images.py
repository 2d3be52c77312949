# SPDX-License-Identifier: Apache-2.0
"""Whether image files are whole: a download or a copy may have cut them short."""

from io import BytesIO
from pathlib import Path

from PIL import Image

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
    except (OSError, SyntaxError, ValueError):
        return None
