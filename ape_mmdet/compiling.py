# SPDX-License-Identifier: Apache-2.0
"""What ``torch.compile`` is to leave alone."""

from collections.abc import Callable
from typing import TypeVar

import torch

Function = TypeVar('Function', bound=Callable)


def not_compiled(function: Function) -> Function:
    """Call a function as it is where what calls it is compiled.

    For functions of as many entries as a batch has: sizes differ from step to
    step, and each would be compiled anew.
    """
    # By itself it would hide from type checkers what the function takes.
    return torch.compiler.disable(function)
