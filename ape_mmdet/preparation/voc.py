# SPDX-License-Identifier: Apache-2.0
"""Annotations in Pascal VOC's format, one XML file an image, made COCO's."""

import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree
from zipfile import Path as ZippedPath

from ape_mmdet.errors import UserError
from ape_mmdet.preparation.bars import counted
from ape_mmdet.preparation.catalogue import DataSet

INFO = {
    'description': 'BCCD, Shenggan/BCCD_Dataset, MIT licence, converted to COCO format'
}
IMAGE_SETS = 'ImageSets/Main'
SIDES = ('width', 'height')
CORNERS = ('xmin', 'ymin', 'xmax', 'ymax')


def convert(source: Path | ZippedPath, folder: Path, data_set: DataSet) -> None:
    """Write a data set in COCO's format; repeated, it is written anew.

    ``ImageSets/Main/NAME.txt`` becomes ``annotations/NAME.json`` for each split
    of the data set. Images, objects and ids, from 1 on, follow the order of the
    lists and of the XML files.

    Args:
        source: A folder, perhaps in an archive, in which the images and their
            annotations are found: it, ``BCCD/`` in it or one folder down.
        folder: Where ``annotations/`` and ``images/`` go.
        data_set: What it is to become.

    Raises:
        UserError: Something is missing or cannot be read.
    """
    repository, root = _find_root(source)
    left_out = []
    converted = {}
    for split in data_set.splits:
        names = _names(root / IMAGE_SETS / f'{Path(split.annotations).stem}.txt')
        _copy_images(root, names, folder / split.images)
        converted[split], bad = _to_coco(root, names, data_set.categories)
        left_out += bad
    licence = repository / 'LICENSE'
    if licence.is_file():
        _write(folder / 'LICENSE', licence.read_bytes())
    if left_out:
        print('Left out:', *left_out, sep='\n  ')
    for split, content in converted.items():
        _write(folder / split.annotations, json.dumps(content).encode())


def _find_root(
    source: Path | ZippedPath,
) -> tuple[Path | ZippedPath, Path | ZippedPath]:
    """The repository's folder, and that of the data in it."""
    folders = [source, *(each for each in source.iterdir() if each.is_dir())]
    for folder in folders:
        for root in (folder / 'BCCD', folder):
            if (root / IMAGE_SETS).is_dir() and (root / 'Annotations').is_dir():
                return folder, root
    raise UserError(
        f'{source} has no BCCD: no folder with Annotations/, JPEGImages/ and '
        f'{IMAGE_SETS}/. Name the folder that was cloned or unpacked.'
    )


def _names(file: Path | ZippedPath) -> list[str]:
    names = _read(file).decode(errors='replace').split()
    for name in names:
        if PurePosixPath(name).name != name:
            raise UserError(f'{file} lists {name}, which is no name of an image.')
    return names


def _read(file: Path | ZippedPath) -> bytes:
    if not file.is_file():
        raise UserError(f'{file} is missing: get BCCD again.')
    return file.read_bytes()


def _copy_images(root: Path | ZippedPath, names: Sequence[str], folder: Path) -> None:
    for name in counted(names, f'Copying images to {folder}'):
        image = f'{name}.jpg'
        _write(folder / image, _read(root / 'JPEGImages' / image))


def _write(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f'{file.name}.partial')
    partial.write_bytes(content)
    partial.replace(file)


def _to_coco(
    root: Path | ZippedPath, names: Sequence[str], categories: Sequence[str]
) -> tuple[dict, list[str]]:
    """A split in COCO's format, and what is left out of it, in words."""
    images: list[dict] = []
    annotations: list[dict] = []
    left_out: list[str] = []
    ids = {category: index for index, category in enumerate(categories, start=1)}
    for image_id, name in enumerate(names, start=1):
        file = root / 'Annotations' / f'{name}.xml'
        try:
            size, objects = _parse(_read(file))
        except (ElementTree.ParseError, ValueError) as error:
            raise UserError(
                f'{file} is no annotation as Pascal VOC has it ({error}): get BCCD '
                'again.'
            ) from error
        images.append(dict(id=image_id, file_name=f'{name}.jpg', **size))
        seen = set()
        for category, corners in objects:
            if category not in ids:
                raise UserError(
                    f'{file} has an object of class {category}; known are '
                    f'{", ".join(categories)}.'
                )
            box = to_box(corners, **size)
            if box is None or (category, box) in seen:
                why = 'it has no area' if box is None else 'it is there twice'
                left_out.append(f'{name}: {category} at {corners}, {why}')
                continue
            seen.add((category, box))
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=image_id,
                    category_id=ids[category],
                    bbox=list(box),
                    area=box[2] * box[3],
                    iscrowd=0,
                )
            )
    content = dict(
        info=INFO,
        images=images,
        annotations=annotations,
        categories=[dict(id=index, name=name) for name, index in ids.items()],
    )
    return content, left_out


def _parse(
    content: bytes,
) -> tuple[dict[str, int], list[tuple[str, tuple[int, ...]]]]:
    """Width and height of an image; class and corners of each of its objects."""
    annotation = ElementTree.fromstring(content)
    size = {side: _number(annotation, f'size/{side}') for side in SIDES}
    objects = [
        (
            (each.findtext('name') or '').strip(),
            tuple(_number(each, f'bndbox/{corner}') for corner in CORNERS),
        )
        for each in annotation.iter('object')
    ]
    return size, objects


def _number(element: ElementTree.Element, path: str) -> int:
    text = element.findtext(path)
    if text is None:
        raise ValueError(f'it has no {path}')
    return int(text)


def to_box(
    corners: Sequence[int], width: int, height: int
) -> tuple[int, int, int, int] | None:
    """Corners as BCCD has them, made COCO's box.

    BCCD was drawn with LabelImg: ``xmax`` and ``ymax`` are where a box ends, no
    longer in it, so that its width is ``xmax - xmin``; in VOC's own files they
    are its last pixels, and the width is one more. Coordinates begin at 1 for
    boxes at the border, and are kept: a box that touches the left one has x = 1.

    Args:
        corners: ``xmin, ymin, xmax, ymax`` in pixels.
        width: Of the image, in pixels; boxes are clipped to it.
        height: Likewise.

    Returns:
        ``x, y, width, height`` in pixels; None where nothing is left.
    """
    left, top = max(corners[0], 0), max(corners[1], 0)
    right, bottom = min(corners[2], width), min(corners[3], height)
    if right <= left or bottom <= top:
        return None
    return left, top, right - left, bottom - top
