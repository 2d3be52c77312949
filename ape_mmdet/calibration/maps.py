# SPDX-License-Identifier: Apache-2.0
"""Strictly increasing maps from scores to probabilities."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor

# The whole numbers that float32 0 to 1 are written as are below this.
NUMBERS_TO_ONE = 2**30
# What a probability gives up so that no two scores become one. A step from one
# float32 to the next adds TILT / NUMBERS_TO_ONE = 1.4e-14, more than a hundred
# times what float64 rounds off below 1.
TILT = 2.0**-16
# Narrower than any two float32 are apart.
NO_WIDTH = 1e-300


class Calibration(nn.Module):
    """Maps scores to probabilities without changing their order.

    Between its knots a map is a straight line; it may be level there. So that
    the order stays, ``TILT`` times the place of the score among the float32
    numbers is added, in float64: any two float32 scores from 0 to 1 that differ
    still do, in the same direction, and equal ones stay equal. Only additions,
    multiplications and divisions are used, for these round alike wherever a
    number stands in a tensor, which logarithms do not.

    Args:
        scores: Knots of each map, ascending from 0 to 1, float32, shape
            (num_maps, num_knots): one map for all classes, or one for each.
        probabilities: Of the knots, from 0 to 1, never falling, float64,
            likewise.
    """

    BUFFERS = ('scores', 'probabilities')
    scores: Tensor
    probabilities: Tensor

    def __init__(self, scores: Tensor, probabilities: Tensor) -> None:
        super().__init__()
        self.register_buffer('scores', scores)
        self.register_buffer('probabilities', probabilities)

    @classmethod
    def of_knots(cls, maps: Sequence[tuple[Tensor, Tensor]]) -> 'Calibration':
        """Of maps with knots of their own.

        Args:
            maps: Scores and probabilities of each, ascending, shape (n,) with
                an n of its own. Outside of its knots a map is level.
        """
        num_knots = max(len(scores) for scores, _ in maps) + 2
        all_scores = torch.ones(len(maps), num_knots)
        all_scores[:, 0] = 0
        all_probabilities = torch.zeros(len(maps), num_knots, dtype=torch.float64)
        for i, (scores, probabilities) in enumerate(maps):
            behind = len(scores) + 1
            all_scores[i, 1:behind] = scores
            all_probabilities[i, 0] = probabilities[0]
            all_probabilities[i, 1:behind] = probabilities
            all_probabilities[i, behind:] = probabilities[-1]
        return cls(all_scores, all_probabilities)

    def forward(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Probabilities.

        Args:
            scores: From 0 to 1, float32 or coarser, shape (n,).
            labels: Class of each, int64, shape (n,).

        Returns:
            float64, shape (n,): float32 has too few numbers to keep the order.
        """
        scores = scores.float()
        num_maps, num_knots = self.scores.shape
        maps = labels if num_maps > 1 else torch.zeros_like(labels)
        # All maps in one ascending row, so that one search finds the knots.
        starts = NUMBERS_TO_ONE * torch.arange(num_maps, device=scores.device)
        knots = (_places(self.scores) + starts[:, None]).flatten()
        right = torch.searchsorted(knots, _places(scores) + starts[maps], right=True)
        right = right.minimum((maps + 1) * num_knots - 1)

        x, y = self.scores.double().flatten(), self.probabilities.double().flatten()
        width = (x[right] - x[right - 1]).clamp(min=NO_WIDTH)
        way = (scores.double() - x[right - 1]) / width
        probabilities = y[right - 1] + way * (y[right] - y[right - 1])
        place = _places(scores).double() / NUMBERS_TO_ONE
        return (1 - TILT) * probabilities + TILT * place

    def _apply(self, *args: Any, **kwargs: Any) -> 'Calibration':
        """Moves the map with a model, but keeps its precision: half has too few
        numbers for scores that are near each other."""
        exact = {name: getattr(self, name) for name in self.BUFFERS}
        super()._apply(*args, **kwargs)
        for name, values in exact.items():
            setattr(self, name, values.to(getattr(self, name).device))
        return self

    def _save_to_state_dict(self, *args: Any, **kwargs: Any) -> None:
        # What a model in training was loaded with no longer holds, also for
        # copies of it that never see a batch, such as averaged ones.
        if not self.training:
            super()._save_to_state_dict(*args, **kwargs)


def _places(scores: Tensor) -> Tensor:
    """Place of each score among the float32 numbers from 0 up, int64."""
    return scores.float().view(torch.int32).long()
