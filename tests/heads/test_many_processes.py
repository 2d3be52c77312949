# SPDX-License-Identifier: Apache-2.0
"""A detector in several processes learns what one would from all their images."""

import random
from functools import partial

import pytest
import torch
import torch.distributed as dist
import torch.nn as nn
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.structures import InstanceData
from processes import in_processes
from torch.nn.parallel import DistributedDataParallel

TOLERANCE = 1e-6
SIDE = 64


class SmallDetector(nn.Module):
    """Five levels and a ranking head."""

    def __init__(self, seed: int, loss_cls: dict) -> None:
        super().__init__()
        torch.manual_seed(seed)
        model = Config.fromfile('configs/bccd_retinanet_ape.py').model
        head = dict(model.bbox_head, in_channels=8, feat_channels=8, loss_cls=loss_cls)
        self.head = MODELS.build(dict(head, train_cfg=model.train_cfg))
        self.head.init_weights()
        self.stem = nn.Conv2d(3, 8, 9, stride=8, padding=4)
        self.pool = nn.MaxPool2d(2, ceil_mode=True)

    def forward(self, images: torch.Tensor, objects: list[InstanceData]):
        levels = [self.stem(images)]
        while len(levels) < 5:
            levels.append(self.pool(levels[-1]))
        metas = [dict(img_shape=(SIDE, SIDE), pad_shape=(SIDE, SIDE)) for _ in objects]
        losses = self.head.loss_by_feat(*self.head(levels), objects, metas)
        return sum(losses.values())


def random_objects(rng: random.Random) -> InstanceData:
    """None, one or a few."""
    number = rng.choice([0, 0, 1, 3])
    corners = torch.tensor(
        [[rng.uniform(0, 32), rng.uniform(0, 32)] for _ in range(number)]
    ).reshape(-1, 2)
    sides = torch.tensor(
        [[rng.uniform(8, 32), rng.uniform(8, 32)] for _ in range(number)]
    ).reshape(-1, 2)
    labels = torch.tensor([rng.randrange(3) for _ in range(number)], dtype=torch.long)
    return InstanceData(bboxes=torch.cat([corners, corners + sides], 1), labels=labels)


def learn(num_cases, rank, num_processes):
    without_positives = 0
    for seed in range(num_cases):
        rng = random.Random(seed)
        loss = dict(type=rng.choice(['APLoss', 'APELoss']))
        per_process = rng.choice([1, 2])
        total = per_process * num_processes
        generator = torch.Generator().manual_seed(seed)
        images = torch.randn(total, 3, SIDE, SIDE, generator=generator)
        objects = [random_objects(rng) for _ in range(total)]
        if seed % 2 == 0:
            # The first process has nothing to find.
            for i in range(per_process):
                objects[i] = objects[i][:0]

        alone = SmallDetector(seed, loss)
        expected_value = alone(images, objects)
        expected_value.backward()

        own = slice(rank * per_process, (rank + 1) * per_process)
        detector = SmallDetector(seed, dict(loss, sync=True))
        # It averages for as long as it lives.
        parallel = DistributedDataParallel(detector)
        value = parallel(images[own], objects[own])
        value.backward()
        without_positives += not any(map(len, objects[own]))

        mean = value.detach().clone()
        dist.all_reduce(mean)
        torch.testing.assert_close(
            mean / num_processes, expected_value.detach(), rtol=TOLERANCE, atol=1e-9
        )
        gradients, expected = (
            torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
            for model in (detector, alone)
        )
        error = (gradients - expected).norm()
        assert error <= TOLERANCE * expected.norm() + 1e-12, (seed, loss)
    assert rank or without_positives >= num_cases // 2


@pytest.mark.parametrize(
    'num_processes, num_cases',
    [
        (2, 10),
        (4, 6),
        pytest.param(2, 50, marks=pytest.mark.long('all of the random cases')),
        pytest.param(4, 50, marks=pytest.mark.long('all of the random cases')),
    ],
)
def test_loss_and_gradients_are_those_of_one_process(
    num_processes, num_cases, tmp_path
):
    in_processes(partial(learn, num_cases), num_processes, tmp_path)
