# SPDX-License-Identifier: Apache-2.0
"""A training that ends within seconds: the demo's, of a small model on small images."""

from pathlib import Path

from mmengine.config import Config

DEMO = Path('configs/demo_fcos_ape.py')
# A quarter of the demo's.
CHANNELS = 16


def write_config(file: Path, scenes: Path, *, image_size: int = 96, **changes) -> Path:
    """Write a config that inherits the demo's, as a user would.

    Args:
        file: Where to write it.
        scenes: Data of ``generate_digit_scenes``.
        image_size: To which images are resized, side in pixels.
        changes: Settings on top, merged into those here, with ``__`` for a dot:
            ``train_cfg__max_epochs=3``.

    Returns:
        The file.
    """
    annotations = f'{scenes}/annotations/val.json'
    settings = Config(
        dict(
            val_evaluator=dict(ann_file=annotations),
            test_evaluator=dict(ann_file=annotations),
            train_cfg=dict(max_epochs=2),
            default_hooks=dict(logger=dict(interval=2)),
            model=dict(
                backbone=dict(base_channels=CHANNELS),
                neck=dict(
                    in_channels=[CHANNELS * 2**stage for stage in range(4)],
                    out_channels=CHANNELS,
                ),
                bbox_head=dict(
                    in_channels=CHANNELS,
                    feat_channels=CHANNELS,
                    stacked_convs=1,
                    norm_cfg=dict(type='GN', num_groups=4),
                ),
            ),
        )
    )
    demo = Config.fromfile(DEMO)
    for part in ('train', 'val', 'test'):
        pipeline = demo[f'{part}_dataloader'].dataset.pipeline
        for step in pipeline:
            if step.type == 'Resize':
                step.scale = (image_size, image_size)
        settings[f'{part}_dataloader'] = dict(
            batch_size=2,
            num_workers=0,
            persistent_workers=False,
            dataset=dict(data_root=f'{scenes}/', pipeline=pipeline),
        )
    settings.merge_from_dict(
        {name.replace('__', '.'): value for name, value in changes.items()}
    )
    file.write_text(f"_base_ = '{DEMO.resolve()}'\n{settings.pretty_text}")
    return file
