# SPDX-License-Identifier: Apache-2.0
"""COCO and BCCD on a small scale, as their servers have them."""

import hashlib
import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from ape_mmdet.preparation.catalogue import BCCD, COCO2017, DataSet, Split

WIDTH, HEIGHT = 32, 24
NUM_TRAIN, NUM_VAL = 5, 3


def jpeg(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, 'JPEG')
    return buffer.getvalue()


def zipped(members: dict[str, bytes]) -> bytes:
    """An archive, not compressed, as those of photos; the same whenever it is made."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w') as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


class TinyCoco:
    """COCO with few images; a test may spoil ``members`` before it is packed.

    Attributes:
        members: Of each archive, by the archive's name.
    """

    def __init__(self) -> None:
        self.members = {
            'annotations_trainval2017.zip': {'annotations/captions_val2017.json': b'{}'}
        }
        for split, number in (('train2017', NUM_TRAIN), ('val2017', NUM_VAL)):
            names = [f'{i:012}.jpg' for i in range(number)]
            self.members['annotations_trainval2017.zip'][
                f'annotations/instances_{split}.json'
            ] = annotations(names, COCO2017.num_categories)
            self.members[f'{split}.zip'] = {f'{split}/': b''} | {
                f'{split}/{name}': jpeg(i) for i, name in enumerate(names)
            }

    def archives(self) -> dict[str, bytes]:
        return {name: zipped(members) for name, members in self.members.items()}

    def data_set(self, archives: dict[str, bytes], **more) -> DataSet:
        """COCO's description, with the figures of these archives.

        Args:
            archives: Packed.
            **more: Settings of each part, instead of those figures.
        """
        parts = tuple(
            replace(
                part,
                size=len(archives[part.archive]),
                md5=hashlib.md5(archives[part.archive]).hexdigest(),
                unpacked=len(archives[part.archive]),
            )
            for part in COCO2017.parts
        )
        splits = (
            replace(COCO2017.splits[0], num_images=NUM_TRAIN, num_annotations=5),
            replace(COCO2017.splits[1], num_images=NUM_VAL, num_annotations=3),
        )
        parts = tuple(replace(part, **more) for part in parts)
        return replace(COCO2017, parts=parts, splits=splits)


def annotations(names: Sequence[str], num_categories: int) -> bytes:
    """One object on each image, in COCO's format."""
    return json.dumps(
        dict(
            images=[
                dict(id=i, file_name=name, width=WIDTH, height=HEIGHT)
                for i, name in enumerate(names)
            ],
            annotations=[
                dict(id=i, image_id=i, category_id=1, bbox=[1, 2, 3, 4])
                for i in range(len(names))
            ],
            categories=[dict(id=i + 1, name=f'c{i}') for i in range(num_categories)],
        )
    ).encode()


Object = tuple[str, int, int, int, int]


def voc(objects: Sequence[Object], width: int = WIDTH, height: int = HEIGHT) -> bytes:
    """An XML file as LabelImg writes it: objects as class, left, top, right, bottom."""
    found = ''.join(
        f'<object><name>{name}</name><pose>Unspecified</pose><bndbox>'
        f'<xmin>{left}</xmin><ymin>{top}</ymin><xmax>{right}</xmax>'
        f'<ymax>{bottom}</ymax></bndbox></object>'
        for name, left, top, right, bottom in objects
    )
    return (
        '<annotation><filename>any.jpg</filename>'
        f'<size><width>{width}</width><height>{height}</height><depth>3</depth></size>'
        f'{found}</annotation>'
    ).encode()


def bccd_members(
    splits: dict[str, dict[str, list[Object]]], root: str = 'BCCD_Dataset-master/'
) -> dict[str, bytes]:
    """Members of BCCD's archive: objects by image by split."""
    members = {f'{root}LICENSE': b'MIT', f'{root}README.md': b'BCCD'}
    for split, images in splits.items():
        names = ''.join(f'{name}\n' for name in images)
        members[f'{root}BCCD/ImageSets/Main/{split}.txt'] = names.encode()
        for seed, (name, objects) in enumerate(images.items()):
            members[f'{root}BCCD/Annotations/{name}.xml'] = voc(objects)
            members[f'{root}BCCD/JPEGImages/{name}.jpg'] = jpeg(seed)
    return members


def bccd_data_set(train: tuple[int, int], val: tuple[int, int]) -> DataSet:
    """BCCD's description with other numbers of images and annotations."""
    splits = (
        Split('annotations/train.json', 'images', *train),
        Split('annotations/val.json', 'images', *val),
    )
    return replace(BCCD, splits=splits)
