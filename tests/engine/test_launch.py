# SPDX-License-Identifier: Apache-2.0
"""What is told of a command line and a config before anything runs, and the end."""

from types import SimpleNamespace
from weakref import ref

import pytest
import torch
from processes import in_processes
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ape_mmdet.engine import preflight
from ape_mmdet.engine.launch import base_parser, build_runner, leave_processes, parse
from ape_mmdet.errors import UserError


@pytest.mark.parametrize(
    'option',
    [
        'max_epochs',
        "custom_hooks=[dict(type='EMAHook')]",
        "custom_hooks=[dict(type='EMAHook',momentum=0.1)]",
        'scale=[(640,480)',
    ],
)
def test_an_option_that_cannot_be_read_is_told(option):
    with pytest.raises(
        UserError, match=r'takes KEY=VALUE, .* a dict\(\.\.\.\) goes into'
    ):
        parse(base_parser('Any'), ['config.py', '--cfg-options', option])


@pytest.mark.parametrize(
    'base, head, told',
    [
        (
            'faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
            'RankingRetinaHead',
            "FasterRCNN.* unexpected keyword argument 'bbox_head'",
        ),
        (
            'fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py',
            'RankingFCOSHead',
            "AnchorHead.* unexpected keyword argument 'strides'",
        ),
    ],
)
def test_an_argument_that_a_class_does_not_take_is_told(base, head, told, tmp_path):
    """The three changes of docs/config.md, on top of what they are not for."""
    file = tmp_path / 'own.py'
    file.write_text(
        f"""_base_ = 'mmdet::{base}'
custom_imports = dict(imports=['ape_mmdet.losses', 'ape_mmdet.heads'])
work_dir = '{tmp_path}/work'
model = dict(
    bbox_head=dict(
        type='{head}',
        loss_cls=dict(_delete_=True, type='APELoss'),
        loss_bbox=dict(_delete_=True, type='GIoULoss', loss_weight=2.0),
    ),
    test_cfg=dict(score_thr=0.0),
)
"""
    )
    with pytest.raises(UserError, match=rf'{file} .*{told}.*docs/config\.md'):
        build_runner(preflight.load_config(str(file)))


def test_a_model_parts_from_the_processes_before_they_do(tmp_path):
    """It holds their threads, which abort where they outlive Python."""
    in_processes(_leave, 2, tmp_path, start_method='spawn')


def _leave(rank, num_processes):
    model = nn.Linear(2, 1)
    runner = SimpleNamespace(model=DistributedDataParallel(model))
    runner.model.itself = runner.model  # As in a training, in a cycle.
    runner.model(torch.ones(1, 2)).sum().backward()
    wrapper = ref(runner.model)
    leave = torch.distributed.destroy_process_group
    left = []

    def last_seen():
        left.append(wrapper())
        leave()

    torch.distributed.destroy_process_group = last_seen
    leave_processes(runner)
    assert left == [None]
    assert runner.model is model
