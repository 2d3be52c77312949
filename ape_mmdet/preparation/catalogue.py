# SPDX-License-Identifier: Apache-2.0
"""The data sets that can be prepared: where they come from, and what they hold."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Split:
    """Images and their annotations in COCO's format.

    Attributes:
        annotations: The file, relative to the data set's folder.
        images: The folder, likewise.
        num_images: How many images the file lists.
        num_annotations: How many objects it holds, crowds included.
    """

    annotations: str
    images: str
    num_images: int
    num_annotations: int


@dataclass(frozen=True)
class Part:
    """What one archive holds of a data set.

    Attributes:
        archive: Name of the file.
        path: Where it is on the server.
        contents: Files and folders that it becomes, relative to the data set's.
        unpacked: Bytes that these take, rounded up.
        size: Bytes of the archive; None where it is packed anew on demand.
        md5: Its published checksum, if there is one.
    """

    archive: str
    path: str
    contents: tuple[str, ...]
    unpacked: int
    size: int | None = None
    md5: str | None = None


@dataclass(frozen=True)
class DataSet:
    """A data set, and how one tells that it is whole.

    Attributes:
        title: For messages.
        folder: Where it lies under the root of all data.
        server: Of the archives, without a slash at the end.
        parts: Small ones first, annotations before the images they list.
        splits: What is trained and evaluated on.
        categories: Their names, in the order of the annotation files; empty for
            COCO's own.
        num_categories: How many there are.
        is_voc: Whether the archive is in the format of Pascal VOC.
        decoded: Whether each image is decoded to see that it is whole; otherwise
            only those that do not end as an image does.
    """

    title: str
    folder: str
    server: str
    parts: tuple[Part, ...]
    splits: tuple[Split, ...]
    num_categories: int
    categories: tuple[str, ...] = ()
    is_voc: bool = False
    decoded: bool = False


COCO2017 = DataSet(
    title='COCO 2017',
    folder='coco',
    # Its name does not fit the certificate that it shows: no https.
    server='http://images.cocodataset.org',
    # The sizes and checksums are those that COCO's users agree on: Detectron,
    # PaddleDetection, NVIDIA's examples.
    parts=(
        Part(
            archive='annotations_trainval2017.zip',
            path='annotations/annotations_trainval2017.zip',
            contents=(
                'annotations/instances_train2017.json',
                'annotations/instances_val2017.json',
            ),
            unpacked=500_000_000,
            size=252_907_541,
            md5='f4bbac642086de4f52a3fdda2de5fa2c',
        ),
        Part(
            archive='val2017.zip',
            path='zips/val2017.zip',
            contents=('val2017',),
            unpacked=840_000_000,
            size=815_585_330,
            md5='442b8da7639aecaf257c1dceb8ba8c80',
        ),
        Part(
            archive='train2017.zip',
            path='zips/train2017.zip',
            contents=('train2017',),
            unpacked=19_800_000_000,
            size=19_336_861_798,
            md5='cced6f7f71b7629ddf16f17bbcfab6b2',
        ),
    ),
    splits=(
        Split('annotations/instances_train2017.json', 'train2017', 118_287, 860_001),
        Split('annotations/instances_val2017.json', 'val2017', 5_000, 36_781),
    ),
    num_categories=80,
)

BCCD = DataSet(
    title='BCCD',
    folder='bccd',
    server='https://codeload.github.com',
    parts=(
        Part(
            # As a browser names it.
            archive='BCCD_Dataset-master.zip',
            path='Shenggan/BCCD_Dataset/zip/refs/heads/master',
            contents=('annotations/train.json', 'annotations/val.json', 'images'),
            unpacked=20_000_000,
        ),
    ),
    splits=(
        Split('annotations/train.json', 'images', 205, 2_804),
        Split('annotations/val.json', 'images', 87, 1_137),
    ),
    num_categories=3,
    categories=('RBC', 'WBC', 'Platelets'),
    is_voc=True,
    decoded=True,
)

DATA_SETS = {'coco2017': COCO2017, 'bccd': BCCD}
