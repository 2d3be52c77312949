# SPDX-License-Identifier: Apache-2.0
"""Checks of what the caller passed, in the caller's terms."""

import math
from collections.abc import Collection
from numbers import Integral, Real
from typing import TypeGuard

import torch
from torch import Tensor

BALANCES = ('rank', 'num_neg')
# Not all unsigned integers of torch can be compared.
INTEGERS = (
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
)


# Beyond, products with logits leave the range in which they can be computed.
LARGEST = 1e6


def check_choice(name: str, value: str, choices: Collection[str]) -> None:
    """Raise ValueError unless ``value`` is one of ``choices``."""
    if value not in choices:
        listed = ' or '.join(repr(choice) for choice in choices)
        raise ValueError(f'{name} must be {listed}, got {value!r}')


def check_positive(name: str, value: float) -> None:
    """Raise ValueError unless ``value`` is a positive number of a usual size."""
    if not (_is_number(value) and 1 / LARGEST <= value <= LARGEST):
        raise ValueError(
            f'{name} must be a positive number, from {1 / LARGEST:g} to '
            f'{LARGEST:g}, got {value!r}'
        )


def check_number(name: str, value: object) -> None:
    """Raise ValueError unless ``value`` is a number of a usual size."""
    if not (_is_number(value) and abs(value) <= LARGEST):
        raise ValueError(
            f'{name} must be a number, from {-LARGEST:g} to {LARGEST:g}, got {value!r}'
        )


def _is_number(value: object) -> TypeGuard[float]:
    # To Python True is a number, too; as an argument it is a mistake.
    return isinstance(value, Real) and not isinstance(value, bool)


def check_switch(name: str, value: bool) -> None:
    """Raise ValueError unless ``value`` is True or False: 'no' would be true."""
    if not isinstance(value, bool):
        raise ValueError(f'{name} must be True or False, got {value!r}')


def check_max_pairs(max_pairs: int | None) -> None:
    """Raise ValueError unless Q is None or a positive integer."""
    if max_pairs is None:
        return
    if (
        isinstance(max_pairs, bool)
        or not isinstance(max_pairs, Integral)
        or max_pairs < 1
    ):
        raise ValueError(
            'max_pairs (Q) must be a positive integer, or None to keep every '
            f'negative, got {max_pairs!r}'
        )


def resolve_cutoff(cutoff: float | str | None, lamb: float) -> float:
    """The difference above which pairs enter, as a number.

    'auto' is -4 / lambda, None keeps every pair, a number is taken as it is.
    """
    if cutoff is None:
        return -math.inf
    if isinstance(cutoff, str) and cutoff == 'auto':
        return -4.0 / float(lamb)
    check_number('cutoff', cutoff)
    return float(cutoff)


def check_batch(logits: Tensor, targets: Tensor) -> None:
    """Raise unless logits and targets describe one batch.

    Raises:
        TypeError: Not tensors, or a dtype that cannot hold what is meant.
        ValueError: Shapes or devices differ, or targets outside -1, 0, 1.
    """
    for name, value in (('logits', logits), ('targets', targets)):
        if not isinstance(value, Tensor):
            raise TypeError(f'{name} must be a tensor, got {type(value).__name__}')
        if value.dim() != 1:
            raise ValueError(
                f'{name} must be flat, of shape (n,), got {tuple(value.shape)}'
            )
    if not logits.is_floating_point():
        raise TypeError(f'logits must be floating point, got {logits.dtype}')
    if targets.dtype not in INTEGERS:
        raise TypeError(f'targets must be integers, got {targets.dtype}')
    if logits.shape != targets.shape:
        raise ValueError(
            f'targets must have one entry for each of the {len(logits)} logits, '
            f'got {len(targets)}'
        )
    if logits.device != targets.device:
        raise ValueError(
            f'targets must be on the device of the logits ({logits.device}), '
            f'got {targets.device}'
        )
    if not len(targets):
        return
    lowest, highest = torch.stack(targets.aminmax()).tolist()
    if lowest < -1 or highest > 1:
        raise ValueError(
            'targets must be 1 (positive), 0 (negative) or -1 (ignored), got '
            f'values from {lowest} to {highest}'
        )


def check_ious(ious: Tensor, num_positives: int, logits: Tensor) -> None:
    """Raise unless there is one IoU in [0, 1] for each positive.

    Raises:
        TypeError: Not a floating-point tensor.
        ValueError: Wrong shape, device or range.
    """
    if not isinstance(ious, Tensor) or not ious.is_floating_point():
        kind = ious.dtype if isinstance(ious, Tensor) else type(ious).__name__
        raise TypeError(f'ious must be a floating-point tensor, got {kind}')
    if ious.shape != (num_positives,):
        raise ValueError(
            f'ious must have one entry for each of the {num_positives} positives, '
            f'got shape {tuple(ious.shape)}'
        )
    if ious.device != logits.device:
        raise ValueError(
            f'ious must be on the device of the logits ({logits.device}), '
            f'got {ious.device}'
        )
    # NaN passes, and makes the loss NaN: a loss scaler skips such a step.
    if len(ious) and (ious.min() < 0 or ious.max() > 1):
        raise ValueError(
            f'ious must lie in [0, 1], got values from {ious.min()} to {ious.max()}'
        )


def computing_dtype(logits: Tensor) -> torch.dtype:
    """float64 logits are ranked in float64, all others in float32.

    Half precision cannot: sums over millions of pairs leave its range.
    """
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


def computing(logits: Tensor) -> Tensor:
    """The logits as they are ranked: without a graph, in :func:`computing_dtype`."""
    return logits.detach().to(computing_dtype(logits))
