# SPDX-License-Identifier: Apache-2.0
"""Arguments that several of the tools take."""

import math
from argparse import ArgumentParser, ArgumentTypeError


def positive_int(text: str) -> int:
    """A number of things, at least one; for ``type=`` of an argument."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f'{text} is not a whole number of 1 or more')
    return int(text)


def finite_float(text: str) -> float:
    """A number that others compare with; for ``type=`` of an argument."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ArgumentTypeError(f'{text} is not a finite number')
    return number


def add_trust_checkpoint(parser: ArgumentParser) -> None:
    """``--trust-checkpoint``: see :mod:`ape_mmdet.engine.checkpoints`."""
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='load checkpoints that hold more than tensors and plain data: they '
        'can run code of whoever made them',
    )
