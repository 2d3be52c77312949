# SPDX-License-Identifier: Apache-2.0
"""What is done differently on a CPU and on other devices.

Elsewhere than on a CPU, nothing may wait for the device inside a loop, work
comes in larger pieces, and some of the fast operations add in any order, which
``torch.use_deterministic_algorithms`` refuses.
"""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any

import torch
from torch import Tensor

# Candidates looked at together: on a CPU, as many as stay in its cache; other
# devices need more work at a time to be busy.
CHUNK_ON_CPU = 2**17
CHUNK_ELSEWHERE = 2**24


def on_cpu(tensor: Tensor) -> bool:
    """Whether a tensor lies in the memory of the CPU."""
    return tensor.device.type == 'cpu'


@lru_cache
def has_float64(device: torch.device) -> bool:
    """Whether a device can compute in float64; Apple's MPS cannot."""
    try:
        torch.zeros(1, dtype=torch.float64, device=device)
    except (TypeError, RuntimeError):
        return False
    return True


def where_float64_is(value_and_gradient: Callable) -> Callable:
    """Make a function of tensors compute on the CPU where its device lacks float64.

    Args:
        value_and_gradient: From tensors, all on one device, and keyword
            arguments to a tuple of tensors.
    """

    @wraps(value_and_gradient)
    def wherever(*tensors: Tensor, **options: Any) -> tuple[Tensor, ...]:
        device = tensors[0].device
        if has_float64(device):
            return value_and_gradient(*tensors, **options)
        on_the_cpu = (tensor.cpu() for tensor in tensors)
        results = value_and_gradient(*on_the_cpu, **options)
        # What was computed in float64 cannot go back as it is.
        dtype = tensors[0].dtype
        return tuple(result.to(dtype).to(device) for result in results)

    return wherever


def in_chunks(candidates: Tensor) -> tuple[Tensor, ...]:
    """Views of a flat tensor, one after the other."""
    return candidates.split(CHUNK_ON_CPU if on_cpu(candidates) else CHUNK_ELSEWHERE)


def sum_by(groups: Tensor, values: Tensor, num_groups: int) -> Tensor:
    """Sum of the values of each group, float64, (num_groups,).

    Args:
        groups: int32 or int64, (n,).
        values: Floating point, (n,).
    """
    values = values.double()
    if on_cpu(groups):
        return torch.bincount(groups, weights=values, minlength=num_groups)
    # bincount would have to fetch the highest group first.
    return values.new_zeros(num_groups).index_add_(0, groups, values)


def count_by(groups: Tensor, num_groups: int) -> Tensor:
    """Number of entries of each group, int64, (num_groups,); see :func:`sum_by`."""
    if on_cpu(groups):
        return torch.bincount(groups, minlength=num_groups)
    ones = torch.ones_like(groups, dtype=torch.int64)
    return ones.new_zeros(num_groups).index_add_(0, groups, ones)


def running_sum(values: Tensor) -> Tensor:
    """Cumulative sum along the last dimension, in one order on every device."""
    if on_cpu(values) or not torch.are_deterministic_algorithms_enabled():
        return values.cumsum(dim=-1)
    # Floating-point cumsum is refused there. Reach is doubled in each round.
    length = values.shape[-1]
    reach = 1
    while reach < length:
        values = torch.cat(
            [values[..., :reach], values[..., reach:] + values[..., :-reach]], dim=-1
        )
        reach *= 2
    return values
