# SPDX-License-Identifier: Apache-2.0
"""What the mixins use of the heads that they are put in front of."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch.nn as nn
    from mmdet.utils import InstanceList
    from torch import Tensor

    class DenseHead:
        """Part of a dense head of MMDetection, whose own types nobody can check.

        No ``nn.Module``: of that, a type checker would take every attribute that
        a head has of its own for a tensor or a module.
        """

        training: bool
        num_classes: int
        cls_out_channels: int
        num_base_priors: int
        loss_cls: nn.Module
        loss_bbox: nn.Module
        bbox_coder: Any
        prior_generator: Any

        def __init__(self, *args: Any, **kwargs: Any) -> None: ...

        def register_module(self, name: str, module: nn.Module | None) -> None: ...

        def parameters(self) -> Iterator[nn.Parameter]: ...

        def train(self, mode: bool = True) -> nn.Module: ...

        def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None: ...

        def forward(self, x: tuple[Tensor, ...]) -> tuple[list[Tensor], ...]: ...

        def predict(self, *args: Any, **kwargs: Any) -> InstanceList: ...

        # Of heads with anchors.
        def get_anchors(
            self, *args: Any, **kwargs: Any
        ) -> tuple[list[list[Tensor]], list[list[Tensor]]]: ...

        def get_targets(self, *args: Any, **kwargs: Any) -> tuple: ...

        # Of heads with points.
        norm_on_bbox: bool
else:
    # The mixins are classes of their own: the head is named beside them.
    DenseHead = object
