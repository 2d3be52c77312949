# SPDX-License-Identifier: Apache-2.0
"""A training that ends within seconds: the demo's, of a small model."""

from pathlib import Path

from mmengine.config import Config


def write_config(file: Path, scenes: Path, **changes) -> Path:
    """Write a config that inherits the demo's, as a user would.

    Args:
        file: Where to write it.
        scenes: Data of ``generate_digit_scenes``.
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
                neck=dict(out_channels=32),
                bbox_head=dict(in_channels=32, feat_channels=32, stacked_convs=1),
            ),
        )
    )
    for part in ('train', 'val', 'test'):
        settings[f'{part}_dataloader'] = dict(
            batch_size=2,
            num_workers=0,
            persistent_workers=False,
            dataset=dict(data_root=f'{scenes}/'),
        )
    settings.merge_from_dict(
        {name.replace('__', '.'): value for name, value in changes.items()}
    )
    base = Path('configs/demo_fcos_ape.py').resolve()
    file.write_text(f"_base_ = '{base}'\n{settings.pretty_text}")
    return file
