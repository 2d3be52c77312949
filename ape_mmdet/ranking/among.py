# SPDX-License-Identifier: Apache-2.0
"""Positives against worse localised positives in APE loss, pair by pair.

Which pairs enter depends on two orders there, of scores and of IoU. In rows
sorted by IoU they form a triangle.
"""

from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor

from ape_mmdet.ranking.devices import on_cpu

# Rows of the triangle looked at together: on a CPU, few enough to stay in its
# cache; other devices need more work at a time to be busy.
ROWS_ON_CPU = 64
ROWS_ELSEWHERE = 1024


def against_worse_localised(
    positives: Tensor,
    ious: Tensor,
    cuts: Tensor,
    lamb: float,
    weights: Tensor,
    share: tuple[int, int] = (0, 1),
) -> Tensor:
    r"""Value and gradient of :math:`\sum_u weight_u \sum_w softplus(\lambda x_{uw})`,
    divided by lambda, over all w localised worse than u.

    Args:
        positives: Scores in ascending order of IoU, (num_pos,).
        ious: Their IoUs, ascending, (num_pos,).
        cuts: w enters where its score is above that of its u; of the dtype of
            the scores, (num_pos,).
        lamb: Steepness of the sigmoid.
        weights: float64, (num_pos,).
        share: Where several processes share the work: the number of this one,
            and how many there are. The sum of their results is the whole.

    Returns:
        The value and, behind it, the gradient, float64, (1 + num_pos,).
    """
    num_pos = len(positives)
    num_rows = ROWS_ON_CPU if on_cpu(positives) else ROWS_ELSEWHERE
    num_worse = torch.searchsorted(ious, ious)
    # All at once: a device would have to be waited for in every round.
    fewest = num_worse[::num_rows].tolist()
    most = num_worse[num_rows - 1 :: num_rows].tolist() + [int(num_worse[-1])]
    columns = torch.arange(num_pos, device=positives.device)
    value = weights.new_zeros(1)
    gradient = torch.zeros_like(weights)
    starts = zip(range(0, num_pos, num_rows), fewest, most)
    number, in_all = share
    for start, shared, reached in islice(starts, number, None, in_all):
        rows = slice(start, min(start + num_rows, num_pos))
        # Above its cut-off 0, else -inf: whose softplus and sigmoid are 0.
        excluded = positives[None, :reached] - cuts[rows, None]
        F.threshold(excluded, 0.0, -torch.inf, inplace=True).clamp_(max=0)
        # Columns before ``shared`` are worse localised than all rows.
        not_worse = columns[shared:reached] >= num_worse[rows, None]
        excluded[:, shared:].masked_fill_(not_worse, -torch.inf)
        x = positives[None, :reached] - positives[rows, None]
        x = torch.add(excluded, x, alpha=lamb)
        value += (weights[rows] * F.softplus(x).sum(dim=1)).sum()
        sigmoids = x.sigmoid_()
        gradient[rows] -= weights[rows] * sigmoids.sum(dim=1)
        # Not a product of matrices: autocast would take that in half precision.
        sigmoids *= weights[rows, None].to(x.dtype)
        gradient[:reached] += sigmoids.sum(dim=0)
    return torch.cat([value / lamb, gradient])
