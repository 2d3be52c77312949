# SPDX-License-Identifier: Apache-2.0
"""Which image files are whole, whichever library reads them."""

import struct
import sys

import cv2
import numpy as np
import pytest
from PIL import Image, ImageFile

from ape_mmdet.engine.images import begins_as_image, is_whole_image_file

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
    numbers, colors = tmp_path / 'a.tif', tmp_path / 'a.hdr'
    for file in (numbers, colors):
        cv2.imwrite(str(file), PIXELS.astype(np.float32))
        assert is_whole_image_file(file)
    assert is_whole_image_file(colors, in_color=True)
    assert not is_whole_image_file(numbers, in_color=True)
    assert cv2.imread(str(colors)) is not None and cv2.imread(str(numbers)) is None


@pytest.mark.parametrize('error', [RuntimeError, TypeError, KeyError])
def test_whatever_a_decoder_raises_of_damage_is_no_crash(error, tmp_path, monkeypatch):
    """As Pillow's of AVIF: Failed to decode."""

    def fails(image):
        raise error('Failed to decode')

    file = tmp_path / 'a.bmp'
    cv2.imwrite(str(file), PIXELS)
    monkeypatch.setattr(ImageFile.ImageFile, 'load', fails)
    assert not is_whole_image_file(file)


@pytest.mark.parametrize('suffix', ['jpg', 'png', 'bmp', 'gif'])
def test_images_cut_short_begin_as_such(suffix, tmp_path):
    file = tmp_path / f'a.{suffix}'
    Image.fromarray(PIXELS).save(file)
    file.write_bytes(file.read_bytes()[:60])
    assert begins_as_image(file)


@pytest.mark.parametrize('content', [b'', b'text', b'\x89HDF\r\n\x1a\n' + bytes(100)])
def test_other_files_do_not(content, tmp_path):
    file = tmp_path / 'a'
    file.write_bytes(content)
    assert not begins_as_image(file)


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
