"""Checks of annotation files in COCO's format, and of the images they list."""

import json
import math
from pathlib import Path

from mmdet.registry import DATASETS
from mmengine.config import ConfigDict

from ape_mmdet.engine.errors import UserError, shortened
from ape_mmdet.engine.images import is_whole_image_file


def check_annotations(
    dataset: ConfigDict, num_classes: int | None, images_too: bool
) -> int:
    """The number of objects to find; says how many boxes are left out.

    Args:
        dataset: Config of a ``CocoDataset`` whose files are there.
        num_classes: Of the model; None where it does not say.
        images_too: Whether all images have to be there and whole: training
            skips damaged ones, an evaluation without them would be of another
            data set.

    Raises:
        UserError: The file is none of COCO's, or does not fit the model or the
            images.
    """
    root = dataset.get('data_root') or ''
    ann_file = Path(root, dataset.ann_file)
    annotations = _read(ann_file)
    classes = _class_names(dataset)
    if not annotations['images']:
        raise UserError(f'{ann_file} lists no image.')
    if num_classes is not None:
        _check_classes(classes, ann_file, annotations, num_classes)
    try:
        _check_fields(annotations)
        if images_too:
            folder = Path(root, (dataset.get('data_prefix') or {}).get('img', ''))
            _check_images(folder, annotations)
        return _num_objects(classes, ann_file, annotations)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f'{ann_file} has an image or an annotation that is not as COCO has it '
            f'({type(error).__name__}: {error}).'
        ) from error


def _read(ann_file: Path) -> dict:
    try:
        annotations = json.loads(ann_file.read_text())
        # Of images to submit there are no annotations.
        annotations.setdefault('annotations', [])
        annotations['images'], annotations['categories']
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f'{ann_file} is no whole COCO annotation file '
            f'({type(error).__name__}: {error}). Fetch or make it again.'
        ) from error
    return annotations


def _class_names(dataset: ConfigDict) -> list[str]:
    metainfo = dataset.get('metainfo') or {}
    classes = metainfo.get('classes') or DATASETS.get(dataset.type).METAINFO['classes']
    if not isinstance(classes, str):
        return list(classes)
    # As MMEngine reads it: a file with one name a line, or a single name.
    return (
        Path(classes).read_text().split('\n') if Path(classes).is_file() else [classes]
    )


def _check_classes(
    classes: list[str], ann_file: Path, annotations: dict, num_classes: int
) -> None:
    found = [category['name'] for category in annotations['categories']]
    if len(classes) != num_classes:
        raise UserError(
            f"The model's num_classes is {num_classes}, but the data set names "
            f'{len(classes)} classes ({shortened(classes)}). Set '
            f'model.bbox_head.num_classes={len(classes)}, or metainfo.classes '
            'of the data sets.'
        )
    unknown = [name for name in classes if name not in found]
    if unknown:
        raise UserError(
            f'{ann_file} has no category {shortened(unknown)}; it has '
            f'{shortened(found)}. Set metainfo=dict(classes=...) of the data '
            'sets, and num_classes of the head, to what the file has.'
        )


def _check_fields(annotations: dict) -> None:
    """Raise KeyError for what the data set reads of each entry, used or not."""
    for image in annotations['images']:
        image['file_name']
    for annotation in annotations['annotations']:
        annotation['id']


def _check_images(folder: Path, annotations: dict) -> None:
    """Raise UserError for images that an evaluation would miss or see cut short."""
    names = [image['file_name'] for image in annotations['images']]
    missing = [name for name in names if not Path(folder, name).is_file()]
    if missing:
        raise UserError(
            f'{len(missing)} of {len(names)} images to evaluate on are not in '
            f'{folder}: {shortened(missing)}.'
        )
    damaged = [name for name in names if not is_whole_image_file(Path(folder, name))]
    if damaged:
        raise UserError(
            f'{len(damaged)} of {len(names)} images to evaluate on are damaged, in '
            f'{folder}: {shortened(damaged)}. Get them again.'
        )


def _num_objects(classes: list[str], ann_file: Path, annotations: dict) -> int:
    """Objects that MMDetection trains on; says what it leaves out."""
    sizes = {image['id']: image for image in annotations['images']}
    wanted = {
        category['id']
        for category in annotations['categories']
        if category['name'] in classes
    }
    objects = [
        each
        for each in annotations['annotations']
        if each['image_id'] in sizes
        and each['category_id'] in wanted
        and not each.get('ignore')
    ]
    boxes = [each for each in objects if _is_box(each, sizes[each['image_id']])]
    if len(boxes) < len(objects):
        print(
            f'{ann_file}: {len(objects) - len(boxes)} of {len(objects)} boxes are left '
            'out, they are smaller than a pixel or outside their image'
        )
    return sum(not each.get('iscrowd') for each in boxes)


def _is_box(annotation: dict, image: dict) -> bool:
    """Whether MMDetection keeps a box: one of a pixel or more, partly in its image."""
    x, y, width, height = box = annotation['bbox']
    if not all(map(math.isfinite, box)):
        raise ValueError(f'box {box}')
    return (
        annotation['area'] > 0
        and width >= 1
        and height >= 1
        and min(x + width, image['width']) > max(x, 0)
        and min(y + height, image['height']) > max(y, 0)
    )
