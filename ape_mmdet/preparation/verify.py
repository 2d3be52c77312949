# SPDX-License-Identifier: Apache-2.0
"""Whether a data set is whole: its counts, its annotations, its images."""

import json
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

from ape_mmdet.engine.images import image_size, is_whole_image_file
from ape_mmdet.errors import shortened
from ape_mmdet.preparation.bars import counted
from ape_mmdet.preparation.catalogue import DataSet, Part, Split


class _Incomplete(Exception):
    """A data set is not there, or not as it should be."""


@dataclass(frozen=True)
class Listing:
    """What an annotation file lists.

    Attributes:
        sizes: Width and height in pixels of each image, by its file name.
        objects: How many there are of each category, by its name.
    """

    sizes: dict[str, tuple[int, int]]
    objects: dict[str, int]


class Verification:
    """Looks at a data set's files; each annotation file is read once.

    Reading COCO's takes seconds and about 3 GB of memory.

    Args:
        folder: Of the data set.
        data_set: What it should be.
    """

    def __init__(self, folder: Path, data_set: DataSet) -> None:
        self.folder = folder
        self.data_set = data_set
        self._listings: dict[Split, Listing] = {}

    def problem(self, part: Part) -> str | None:
        """What of a part is missing or not as it should be; None if nothing is."""
        try:
            for split in self.data_set.splits:
                if split.annotations in part.contents:
                    self._listings.pop(split, None)
                    self._listing(split)
            for split in self.data_set.splits:
                if split.images in part.contents:
                    self._check_images(split)
        except _Incomplete as error:
            return str(error)
        return None

    def _listing(self, split: Split) -> Listing:
        """What a split's annotation file lists."""
        if split not in self._listings:
            self._listings[split] = self._read(split)
        return self._listings[split]

    def _read(self, split: Split) -> Listing:
        file = self.folder / split.annotations
        if not file.is_file():
            raise _Incomplete(f'{file} is not there')
        try:
            content = json.loads(file.read_bytes())
            images = {image['id']: image for image in content['images']}
            names = {each['id']: each['name'] for each in content['categories']}
            objects = dict.fromkeys(names.values(), 0)
            for each in content['annotations']:
                images[each['image_id']]
                objects[names[each['category_id']]] += 1
            sizes = {
                image['file_name']: (image['width'], image['height'])
                for image in images.values()
            }
        except (ValueError, KeyError, TypeError) as error:
            raise _Incomplete(
                f'{file} is no whole COCO annotation file '
                f'({type(error).__name__}: {error})'
            ) from error
        self._check_counts(file, split, Listing(sizes, objects))
        return Listing(sizes, objects)

    def _check_counts(self, file: Path, split: Split, listing: Listing) -> None:
        for what, found, expected in (
            ('images', len(listing.sizes), split.num_images),
            ('annotations', sum(listing.objects.values()), split.num_annotations),
            ('categories', len(listing.objects), self.data_set.num_categories),
        ):
            if found != expected:
                raise _Incomplete(f'{file} has {found:,} {what}, not {expected:,}')
        names = self.data_set.categories
        if names and tuple(listing.objects) != names:
            raise _Incomplete(
                f'{file} has the categories {shortened(list(listing.objects))}, not '
                f'{shortened(names)}'
            )

    def _check_images(self, split: Split) -> None:
        folder = self.folder / split.images
        sizes = self._listing(split).sizes
        missing = [name for name in sizes if not (folder / name).is_file()]
        if missing:
            raise _Incomplete(
                f'{len(missing):,} of {len(sizes):,} images are not in {folder}: '
                f'{shortened(missing)}'
            )
        damaged = [
            name
            for name in counted(list(sizes), f'Checking {folder}')
            if not self._is_whole(folder / name, sizes[name])
        ]
        if damaged:
            raise _Incomplete(
                f'{len(damaged):,} of {len(sizes):,} images in {folder} are damaged: '
                f'{shortened(damaged)}'
            )

    def _is_whole(self, image: Path, size: tuple[int, int]) -> bool:
        """Few images are decoded; of many, those that do not end as they should."""
        if self.data_set.decoded:
            return image_size(image.read_bytes()) == size
        return is_whole_image_file(image)

    def summary(self) -> str:
        """What a data set holds, in a few lines."""
        lines = [f'{self.data_set.title} in {self.folder} is whole:']
        for split in self.data_set.splits:
            listing = self._listing(split)
            lines.append(
                f'  {split.annotations}: {len(listing.sizes):,} images, '
                f'{sum(listing.objects.values()):,} annotations'
            )
            most = sorted(listing.objects.items(), key=itemgetter(1), reverse=True)
            counts = [f'{name} {count:,}' for name, count in most]
            lines.append(f'    categories: {shortened(counts)}')
        return '\n'.join(lines)
