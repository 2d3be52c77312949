# SPDX-License-Identifier: Apache-2.0
"""Annotations and detections made for a test."""

import json


def write(tmp_path, objects, detections):
    """One image; objects and detections as (class, x, score), 10 pixels wide."""
    ground_truth = dict(
        info={},
        images=[dict(id=1, width=1000, height=100)],
        categories=[dict(id=1, name='a'), dict(id=2, name='b')],
        annotations=[
            dict(
                id=i + 1,
                image_id=1,
                category_id=category,
                bbox=[x, 0, 10, 10],
                area=100,
                iscrowd=0,
            )
            for i, (category, x) in enumerate(objects)
        ],
    )
    results = [
        dict(image_id=1, category_id=category, bbox=[x, 0, 10, 10], score=score)
        for category, x, score in detections
    ]
    paths = tmp_path / 'gt.json', tmp_path / 'dt.json'
    for path, content in zip(paths, (ground_truth, results)):
        path.write_text(json.dumps(content))
    return [str(path) for path in paths]
