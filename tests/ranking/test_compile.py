# SPDX-License-Identifier: Apache-2.0
"""A training step under torch.compile is the training step."""

import shutil

import pytest
import torch
from cases import random_batch, relative_error
from torch import nn

from ape_mmdet.ranking import ap_loss, ape_loss

# Without a compiler for the CPU, what can be had without: the traced graphs.
BACKEND = 'inductor' if shutil.which('g++') else 'aot_eager'
# Never the same number of positives twice, as in training, and once none.
SIZES = [(8, 60), (9, 75), (0, 60)]


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def gradients(step, model: nn.Module, *batch) -> tuple:
    model.zero_grad()
    value = step(model, *batch)
    flat = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
    return value.detach(), flat


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('loss', [ap_loss, ape_loss])
def test_a_compiled_step_has_the_gradient_of_the_eager_one(loss):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))

    def step(model, features, targets, ious):
        logits = model(features).flatten()
        rest = [ious] if loss is ape_loss else []
        value = loss(logits, targets, *rest)
        value.backward()
        return value

    compiled = torch.compile(step, backend=BACKEND)
    for seed, (num_positives, num_negatives) in enumerate(SIZES):
        batch = random_batch(
            seed,
            num_positives=num_positives,
            num_negatives=num_negatives,
            num_ignored=-(num_positives + num_negatives) % 3,
        )
        features = torch.randn(len(batch.logits) // 3, 4)
        value, gradient = gradients(step, model, features, batch.targets, batch.ious)
        assert (gradient.norm() > 0) == (num_positives > 0)
        found, found_gradient = gradients(
            compiled, model, features, batch.targets, batch.ious
        )
        assert relative_error(found, value) <= 1e-5
        assert relative_error(found_gradient, gradient) <= 1e-5
