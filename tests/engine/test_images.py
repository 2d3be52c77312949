# SPDX-License-Identifier: Apache-2.0
"""Which image files are whole, whichever library reads them."""

import struct
import sys

import cv2
import numpy as np
import pytest

from ape_mmdet.engine.images import is_whole_image_file

PIXELS = np.random.default_rng(0).integers(0, 255, (32, 40, 3), dtype=np.uint8)


@pytest.mark.parametrize('suffix', ['jpg', 'png', 'bmp', 'webp', 'tif', 'ppm'])
def test_whole_files_and_halves_of_them(suffix, tmp_path):
    file = tmp_path / f'a.{suffix}'
    cv2.imwrite(str(file), PIXELS)
    assert is_whole_image_file(file)
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    assert not is_whole_image_file(file)


def test_what_only_opencv_reads_is_whole(tmp_path):
    file = tmp_path / 'a.tif'
    cv2.imwrite(str(file), PIXELS.astype(np.float32))
    assert is_whole_image_file(file)


@pytest.mark.parametrize('content', [b'', b'<html>not found</html>', bytes(5000)])
def test_what_is_none_is_not(content, tmp_path):
    file = tmp_path / 'a.jpg'
    file.write_bytes(content)
    assert not is_whole_image_file(file)


def test_without_opencv_what_pillow_does_not_know_is_not(tmp_path, monkeypatch):
    """As on a machine that only stores data sets."""
    monkeypatch.setitem(sys.modules, 'cv2', None)
    file = tmp_path / 'a.jpg'
    file.write_bytes(b'<html>not found</html>')
    assert not is_whole_image_file(file)


def test_a_size_that_pillow_refuses_is_no_crash(tmp_path):
    """As of a satellite's image; here the header alone."""
    header = struct.pack('<IiiHHIIiiII', 40, 20_000, 10_000, 1, 24, 0, 0, 1, 1, 0, 0)
    file = tmp_path / 'a.bmp'
    file.write_bytes(b'BM' + struct.pack('<IHHI', 54, 0, 0, 54) + header)
    assert not is_whole_image_file(file)
