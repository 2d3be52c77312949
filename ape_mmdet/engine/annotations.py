# SPDX-License-Identifier: Apache-2.0
"""Checks of annotation files in COCO's format, and of the images they list."""

import json
import math
from collections import Counter
from pathlib import Path

from mmdet.apis.det_inferencer import IMG_EXTENSIONS
from mmdet.registry import DATASETS
from mmengine.config import ConfigDict
from mmengine.fileio import list_from_file

from ape_mmdet.engine.images import begins_as_image, is_whole_image_file
from ape_mmdet.errors import UserError, shortened

# What MMDetection and pycocotools read of every entry of a file's lists.
FIELDS = {
    'images': ('id', 'file_name', 'width', 'height'),
    'annotations': ('id', 'image_id', 'category_id', 'bbox', 'area'),
    'categories': ('id', 'name'),
}
# The evaluation alone fails without it.
CROWD = 'iscrowd'


def check_annotations(
    dataset: ConfigDict,
    num_classes: int | None,
    evaluated: bool,
    read_by_evaluator: bool = False,
) -> int:
    """The number of objects to find; says how many of them MMDetection leaves out.

    Args:
        dataset: Config of a ``CocoDataset`` whose files are there.
        num_classes: Of the model; None where it does not say.
        evaluated: Whether detections are compared with the annotations. Then all
            images have to be there and whole, too: training skips damaged ones,
            an evaluation without them would be of another data set.
        read_by_evaluator: Whether the evaluator reads the annotation file, so that
            it counts objects as well that MMDetection leaves out.

    Raises:
        UserError: The file is none of COCO's, or does not fit the model or the
            images.
    """
    root = dataset.get('data_root') or ''
    ann_file = Path(root, dataset.ann_file)
    annotations = _read(ann_file)
    classes = class_names(dataset)
    if not annotations['images']:
        raise UserError(f'{ann_file} lists no image.')
    try:
        _check_fields(ann_file, annotations, evaluated)
        _check_classes(classes, ann_file, annotations, num_classes)
        _check_image_ids(ann_file, annotations)
        _check_annotation_ids(ann_file, annotations, evaluated)
        if evaluated:
            folder = Path(root, (dataset.get('data_prefix') or {}).get('img', ''))
            _check_images(folder, annotations, _is_read_in_color(dataset))
        return _num_objects(classes, ann_file, annotations, read_by_evaluator)
    except (TypeError, ValueError) as error:
        raise UserError(
            f'{ann_file} has an image or an annotation that is not as COCO has it '
            f'({type(error).__name__}: {error}).'
        ) from error


def _read(ann_file: Path) -> dict:
    try:
        annotations = json.loads(ann_file.read_text())
        # Of images to submit there are no annotations.
        annotations.setdefault('annotations', [])
        if not all(isinstance(annotations[name], list) for name in FIELDS):
            raise TypeError(f'{", ".join(FIELDS)} have to be lists')
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f'{ann_file} is no whole COCO annotation file '
            f'({type(error).__name__}: {error}). Fetch or make it again.'
        ) from error
    return annotations


def class_names(dataset: ConfigDict) -> list[str]:
    """Names of a data set's classes, as MMEngine reads them from its config.

    Raises:
        UserError: ``metainfo.classes`` is a text that is no file of names.
    """
    classes = (dataset.get('metainfo') or {}).get('classes')
    if not classes:
        named = isinstance(dataset.type, str)
        of_type = DATASETS.get(dataset.type) if named else dataset.type
        classes = of_type.METAINFO['classes']
    if not isinstance(classes, str):
        return list(classes)
    if not Path(classes).is_file():
        # MMEngine would take each letter for a class.
        raise UserError(
            f'metainfo.classes is {classes!r}, which is no file of names. A single '
            f'class is written with a comma: classes=({classes!r},)'
        )
    return list_from_file(classes)


def _check_fields(ann_file: Path, annotations: dict, evaluated: bool) -> None:
    """Raise UserError for an entry without what is read of each, used or not."""
    required = dict(FIELDS)
    if evaluated:
        required['annotations'] += (CROWD,)
    for name, fields in required.items():
        for number, entry in enumerate(annotations[name]):
            lacking = [field for field in fields if field not in entry]
            if lacking:
                raise UserError(
                    f'{ann_file} is not as COCO has it: {name}[{number}] lacks '
                    f'{", ".join(lacking)}. Each has to have {", ".join(fields)}.'
                )


def _check_classes(
    classes: list[str], ann_file: Path, annotations: dict, num_classes: int | None
) -> None:
    if num_classes is not None and len(classes) != num_classes:
        raise UserError(
            f"The model's num_classes is {num_classes}, but the data set names "
            f'{len(classes)} classes ({shortened(classes)}). Set '
            f'model.bbox_head.num_classes={len(classes)}, or metainfo.classes '
            'of the data sets.'
        )
    found = [category['name'] for category in annotations['categories']]
    unknown = [name for name in classes if name not in found]
    if unknown:
        raise UserError(
            f'{ann_file} has no category {shortened(unknown)}; it has '
            f'{shortened(found)}. Set metainfo=dict(classes=...) of the data '
            'sets, and num_classes of the head, to what the file has.'
        )
    # Classes are numbered so by CocoDataset and CocoMetric, whatever metainfo says.
    in_order = [name for name in found if name in classes]
    repeated = [name for name in classes if in_order.count(name) > 1]
    if repeated:
        raise UserError(
            f'{ann_file} has several categories of one name: {shortened(repeated)}. '
            'Make them one, or give each a name of its own.'
        )
    if in_order != classes:
        raise UserError(
            f'{ann_file} has its categories in another order than metainfo.classes, '
            'and MMDetection numbers them as the file does: names would be mixed '
            f'up. Write metainfo=dict(classes={tuple(in_order)!r}) for all data '
            'sets; where their files differ, bring the categories of one into the '
            'order of the other (their ids may stay).'
        )


def _check_image_ids(ann_file: Path, annotations: dict) -> None:
    """Raise UserError for images of one id, or annotations of none in the file."""
    repeated = _repeated(annotations['images'])
    if repeated:
        raise UserError(
            f'{ann_file} has several images of one id: {shortened(repeated)}. All but '
            'the last of each would be lost. Give each an id of its own, and the '
            'image_id of its annotations with it.'
        )
    ids = {image['id'] for image in annotations['images']}
    strays = [
        each['image_id']
        for each in annotations['annotations']
        if each['image_id'] not in ids
    ]
    if strays:
        raise UserError(
            f'{ann_file} has {len(strays)} annotations of images that it does not '
            f'list, such as image_id {strays[0]!r}; its images have ids such as '
            f'{annotations["images"][0]["id"]!r}. Leave these annotations out, or '
            'write the ids alike: text is no number.'
        )


def _check_annotation_ids(ann_file: Path, annotations: dict, evaluated: bool) -> None:
    """Raise UserError for ids that repeat, or that pycocotools takes for no match."""
    repeated = _repeated(annotations['annotations'])
    if repeated:
        raise UserError(
            f'{ann_file} has several annotations of one id: {shortened(repeated)}. '
            f'{_count_from_one(ann_file)}'
        )
    if evaluated and any(each['id'] == 0 for each in annotations['annotations']):
        raise UserError(
            f'{ann_file} has an annotation with id 0, and pycocotools would count '
            f'what finds it as wrong. {_count_from_one(ann_file)}'
        )


def _repeated(entries: list[dict]) -> list:
    """Ids that several entries have."""
    counts = Counter(entry['id'] for entry in entries)
    return [each for each, count in counts.items() if count > 1]


def _count_from_one(ann_file: Path) -> str:
    """A command that numbers the annotations anew."""
    return (
        'Count from 1: python -c "import json, pathlib; '
        f"f = pathlib.Path('{ann_file}'); d = json.loads(f.read_text()); "
        "[a.update(id=n) for n, a in enumerate(d['annotations'], 1)]; "
        'f.write_text(json.dumps(d))"'
    )


def _is_read_in_color(dataset: ConfigDict) -> bool:
    """Whether a data set's pipeline has OpenCV make three channels of any image."""
    steps = dataset.get('pipeline') or []
    return all(step.get('color_type') != 'unchanged' for step in steps)


def _check_images(folder: Path, annotations: dict, in_color: bool) -> None:
    """Raise UserError for images that an evaluation would miss or see cut short."""
    names = [image['file_name'] for image in annotations['images']]
    missing = [name for name in names if not Path(folder, name).is_file()]
    if missing:
        raise UserError(
            f'{len(missing)} of {len(names)} images to evaluate on are not in '
            f'{folder}: {shortened(missing)}.'
        )
    damaged = [
        name
        for name in names
        if not is_whole_image_file(Path(folder, name), in_color)
        and _is_to_be_image(Path(folder, name))
    ]
    if damaged:
        raise UserError(
            f'{len(damaged)} of {len(names)} images to evaluate on are damaged, in '
            f'{folder}: {shortened(damaged)}. Get them again.'
        )


def _is_to_be_image(file: Path) -> bool:
    """By name or first bytes; others, such as arrays, are for the pipeline to read."""
    return file.suffix.lower() in IMG_EXTENSIONS or begins_as_image(file)


def _num_objects(
    classes: list[str], ann_file: Path, annotations: dict, read_by_evaluator: bool
) -> int:
    """Objects that MMDetection loads; says what it leaves out."""
    sizes = {image['id']: image for image in annotations['images']}
    wanted = {
        category['id']
        for category in annotations['categories']
        if category['name'] in classes
    }
    objects = [
        each for each in annotations['annotations'] if each['category_id'] in wanted
    ]
    for each in objects:
        _check_numbers(each)
    findable = [each for each in objects if _is_box(each, sizes[each['image_id']])]
    if read_by_evaluator:
        _say_what_is_missed(ann_file, objects, findable)
    unmarked, of_size = (
        [each for each in some if not each.get('ignore')]
        for some in (objects, findable)
    )
    loaded = [each for each in of_size if each['area'] > 0]
    if not read_by_evaluator:
        _say_what_is_left_out(ann_file, len(unmarked), len(of_size), len(loaded))
    return sum(not each.get(CROWD) for each in loaded)


def _check_numbers(annotation: dict) -> None:
    """Raise ValueError for NaN and infinity, TypeError for what is no number."""
    box, area = annotation['bbox'], annotation['area']
    if not all(map(math.isfinite, [*box, area])):
        raise ValueError(f'box {box} of area {area}')


def _is_box(annotation: dict, image: dict) -> bool:
    """Whether a box is of a pixel or more and at least partly in its image."""
    x, y, width, height = annotation['bbox']
    return (
        width >= 1
        and height >= 1
        and min(x + width, image['width']) > max(x, 0)
        and min(y + height, image['height']) > max(y, 0)
    )


def _say_what_is_missed(
    ann_file: Path, objects: list[dict], findable: list[dict]
) -> None:
    """Print how many objects COCO counts that no detection is likely to find."""
    # COCO passes over crowds and, in every range of areas, what is below 0.
    counted, found = (
        [each for each in some if not each.get(CROWD) and each['area'] >= 0]
        for some in (objects, findable)
    )
    missed = len(counted) - sum(not each.get('ignore') for each in found)
    if missed:
        print(
            f'{ann_file}: {missed} of {len(counted)} objects are smaller than a '
            'pixel, outside their image or marked `ignore`. COCO counts them as '
            'missed where nothing finds them, so that mAP is lower: take them out '
            'of the file'
        )


def _say_what_is_left_out(
    ann_file: Path, num_boxes: int, num_of_size: int, num_loaded: int
) -> None:
    """Print how many boxes MMDetection does not load."""
    if num_of_size < num_boxes:
        print(
            f'{ann_file}: {num_boxes - num_of_size} of {num_boxes} boxes are left '
            'out, they are smaller than a pixel or outside their image'
        )
    if num_loaded < num_of_size:
        print(
            f'{ann_file}: {num_of_size - num_loaded} of {num_boxes} boxes are left '
            'out, their `area` is 0 or less: write the area in pixels there, such as '
            'width times height'
        )
