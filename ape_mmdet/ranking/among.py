"""Positives against positives in APE loss, pair by pair.

There the pairs that enter depend on two orders, of scores and of IoU. Rows
sorted by IoU make a triangle of the pairs in which a better localised positive
must outrank a worse one; the mirrored half needs no second sigmoid.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ape_mmdet.ranking.pairs import round_down

# Rows of the triangle looked at together.
ROWS = 64


class AmongPositives(NamedTuple):
    """Sums over positives w, for each positive u in ascending order of IoU.

    Attributes:
        sigmoids: Sum of S(x_uw) over all w, u itself included, (num_pos,).
        errors: Sum of softplus(lambda x_uw) / lambda over worse localised w.
        adaptive_sigmoids: Sum of S(x_uw) over worse localised w.
        tiles: S(x_uw) of those pairs, by rows.
    """

    sigmoids: Tensor
    errors: Tensor
    adaptive_sigmoids: Tensor
    tiles: list[Tensor]

    def gradient(self, weights: Tensor) -> Tensor:
        """Gradient of sum_u weight(u) errors(u), float64 (num_pos,)."""
        result = -weights * self.adaptive_sigmoids
        for start, tile in zip(range(0, len(weights), ROWS), self.tiles):
            rows = weights[start : start + ROWS].to(tile.dtype)
            result[: tile.shape[1]] += rows @ tile
        return result


def among_positives(
    positives: Tensor, ious: Tensor, lamb: float, cutoff: float
) -> AmongPositives:
    """Compare all positives with each other.

    Args:
        positives: Scores in ascending order of IoU, (num_pos,).
        ious: Their IoUs, ascending, (num_pos,).
        lamb: Steepness of the sigmoid.
        cutoff: Only pairs with a difference above it enter.
    """
    num_worse = torch.searchsorted(ious, ious)
    cuts = round_down(positives.double() + cutoff, positives.dtype)
    sigmoids = positives.new_zeros(len(positives), dtype=torch.float64)
    errors, adaptive, tiles = [], [], []
    for start in range(0, len(positives), ROWS):
        rows = slice(start, min(start + ROWS, len(positives)))
        columns = torch.arange(rows.stop, device=positives.device)
        x = positives[None, : rows.stop] - positives[rows, None]
        enters = positives[None, : rows.stop] > cuts[rows, None]
        s = (lamb * x).sigmoid()
        ranked_above = s * enters
        sigmoids[rows] += ranked_above.sum(dim=1)
        # The same pairs from the other side: S(-x) = 1 - S(x).
        enters_mirrored = positives[rows, None] > cuts[None, :start]
        mirrored = (1 - s[:, :start]) * enters_mirrored
        sigmoids[:start] += mirrored.sum(dim=0)
        worse = columns < num_worse[rows, None]
        tiles.append(ranked_above * worse)
        adaptive.append(tiles[-1].sum(dim=1, dtype=torch.float64))
        error = F.softplus(x, beta=lamb) * (enters & worse)
        errors.append(error.sum(dim=1, dtype=torch.float64))
    return AmongPositives(sigmoids, torch.cat(errors), torch.cat(adaptive), tiles)
